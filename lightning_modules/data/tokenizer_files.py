"""What every tokenizer's files and digest have in common."""

import hashlib
import json
from pathlib import Path
from typing import Any

SETTINGS = "tokenizer_config.json"


def read_settings(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json says; nothing where there is none."""
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error}); save the tokenizer again") from error
    return settings


def save_settings(folder: Path, own: dict[str, Any], **others: str) -> None:
    """Writes tokenizer_config.json.

    Args:
        folder: Made where there is none.
        own: What `load_tokenizer` needs.
        others: What transformers needs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**others, "taolu": own}, ensure_ascii=False, indent=2)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")


def digest(*parts: str) -> str:
    """16 hexadecimal digits that change with any of the parts."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
