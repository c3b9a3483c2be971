"""Where a store is: a folder plus a database, found from `--store`, the environment, or the nearest `mlruns/`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError

DATABASE = "mlflow.db"
HIDDEN = "***"  # stands where a secret was


@dataclass(frozen=True)
class Store:
    """A folder plus a database.

    Args:
        url: what MLflow and SQLAlchemy open: `sqlite:///...`, `postgresql://...` or `http://...`. May hold a password.
        folder: absolute; artifacts/, spool/ and locks lie in it, and mlflow.db when the database is SQLite.
    """

    url: str
    folder: Path

    @property
    def database(self) -> Path | None:
        """The SQLite file, None for a database server."""
        prefix = "sqlite:///"
        return Path(self.url.removeprefix(prefix)) if self.url.startswith(prefix) else None

    @property
    def artifacts(self) -> Path:
        """The root of every run's files."""
        return self.folder / "artifacts"

    @property
    def label(self) -> str:
        """The store as a person may see it: the folder, or the server's URL without its password."""
        return str(self.folder) if self.database else redact(self.url)

    def run_folder(self, run_id: str) -> Path:
        """The files of one run. Computed, never read from MLflow: it stores absolute paths, and stores are moved."""
        return self.artifacts / run_id / "artifacts"


def locate(store: str | None = None, store_dir: str | None = None, start: Path | None = None) -> Store:
    """The store that `store` names, else MLFLOW_TRACKING_URI, else the nearest `mlruns/` upwards, else `./mlruns`.

    Args:
        store: a folder, `sqlite:///DIR/mlflow.db`, `postgresql://...` or `http(s)://...`.
        store_dir: where artifacts, spool and locks lie when the database is a server; default `mlruns/`.
        start: the folder the upward search begins in; default the working directory.

    Nothing is created or opened here.
    """
    here = (start or Path.cwd()).resolve()
    wanted = store or os.environ.get("MLFLOW_TRACKING_URI") or str(_nearest(here))
    if wanted.startswith("file:"):  # MLflow's old way to write a folder
        wanted = re.sub(r"^file:(//)?", "", wanted)
    if re.match(r"^(postgresql(\+\w+)?|https?)://", wanted):
        return Store(wanted, (here / store_dir).resolve() if store_dir else _nearest(here))
    if wanted.startswith("sqlite:///"):
        database = (here / wanted.removeprefix("sqlite:///")).resolve()
        return Store(f"sqlite:///{database}", database.parent)
    if "://" in wanted:
        raise ConfigError(
            f"store '{redact(wanted)}': a store is a folder, sqlite:///DIR/{DATABASE}, postgresql://... or http://..."
        )
    folder = (here / Path(wanted).expanduser()).resolve()
    return Store(f"sqlite:///{folder / DATABASE}", folder)


def _nearest(start: Path) -> Path:
    for folder in (start, *start.parents):
        if (folder / "mlruns").is_dir():
            return folder / "mlruns"
    return start / "mlruns"


# Of a vocabulary, not of a login: pad_token, max_token.
_VOCABULARY = "pad|eos|bos|unk|sep|cls|max|min|end|mask|stop|next|last|start"
_NOT_VOCABULARY = "".join(rf"(?<!\b{word}[_-])(?<![._-]{word}[_-])" for word in _VOCABULARY.split("|"))
_NUMBER = r"-?\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?"
_NOT_A_NUMBER = (
    rf"(?![\"']?[\s=:]+[\"']?{_NUMBER}[\"']?(?:[\s,;&)\]}}]|$))"  # token 1024 counts; a password may be digits
)
_NAME = rf"[\w.-]*(?:{_NOT_VOCABULARY}token{_NOT_A_NUMBER}|password|passwd|secret|api[_-]?key|access[_-]?key)"
SECRETS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"([a-zA-Z][\w+.-]*://[^\s:/@]*):[^\s@/]+@", r"\1:***@"),  # scheme://user:password@host
        (rf"(?i)(--{_NAME}[ =])(?!-)\S+", r"\1***"),  # --token VALUE
        (rf"(?i)(\b{_NAME}[\"']?\s*[=:]\s*)([\"'])[^\"']{{4,}}\2", r"\1\2***\2"),  # token = "VALUE"
        # password: hunter2. A digit is asked for, so that `token=tokenizer` in a patch of code stays what it is.
        (rf"(?i)(\b{_NAME}\s*[=:]\s*)(?=[^\s\"',;&]*\d)[^\s\"',;&()\[\].]{{4,}}", r"\1***"),
        # tokens known by their look: Hugging Face, GitHub, GitLab, OpenAI-like, AWS, Slack
        (
            r"\b(hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|sk-[\w-]{16,})",
            "***",
        ),
        (r"\b(AKIA[A-Z0-9]{12,}|xox[abps]-[\w-]{10,})", "***"),
    )
)


def redact(text: str) -> str:
    """The text with passwords in URLs, values of token-like options, and tokens known by their look replaced by ***.

    >>> redact("postgresql://ann:hunter2@db/x --token abcdef")
    'postgresql://ann:***@db/x --token ***'
    """
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


def redact_value(key: str, value: Any) -> Any:
    """The value as it may be stored under its key: a secret text is ***; mappings and lists go item by item.

    >>> redact_value("model.api_key", "hunter2x9"), redact_value("model.pad_token", 50256)
    ('***', 50256)
    """
    if isinstance(value, Mapping):
        return {name: redact_value(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(key, item) for item in value]
    if not isinstance(value, str):
        return value
    return HIDDEN if value and _is_secret(key, value) else redact(value)


def _is_secret(key: str, value: str) -> bool:
    """Whether a text under such a key is a secret, told by the key's last word."""
    words = re.split(r"[._-]", key.lower())
    if words[-1] == "token":
        return words[-2:-1] not in [[word] for word in _VOCABULARY.split("|")] and not re.fullmatch(_NUMBER, value)
    return words[-1] in ("password", "passwd", "secret") or bool(re.search(r"(?i)(api|access)[_-]?key$", key))
