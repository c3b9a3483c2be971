"""Where trained weights come from, and go: a folder in transformers' format, the Hub, or a run's checkpoint."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lightning_modules.data.text_tokenizers import Tokenizer, load_tokenizer
from lightning_modules.gpt2.adapters import add_lora, merged
from lightning_modules.gpt2.network import FAMILIES, changed, from_config, known_config, quiet

HUB = "hub:"
DIGEST = "tokenizer_digest"  # in a network's config: of the tokens it was trained on
TOKENIZER = "tokenizer"  # in a checkpoint: the tokenizer's files by name
WHERE = "give a folder in transformers' format, hub:OWNER/NAME, a run's checkpoint, or run:RUN"


def load_network(source: str, settings: Mapping[str, Any]) -> PreTrainedModel:
    """The network of model.init_from, in float32, its config changed by the settings.

    Raises ValueError in one line naming the source where it has none that is known.
    """
    try:
        if source.endswith(".ckpt"):
            return network_of(read_checkpoint(Path(source).expanduser()), settings)
        return from_folder(source, settings)
    except ValueError as error:
        raise ValueError(f"model.init_from = {source}: {error}") from error


def from_folder(source: str, settings: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The network in a folder, or under hub:OWNER/NAME.

    Args:
        source: The folder or name.
        settings: Of its config, changed.
        dtype: Of its weights.

    Raises ValueError where there is none that is known.
    """
    is_hub = source.startswith(HUB)
    folder = Path(source).expanduser()
    if not is_hub and not folder.is_dir():
        raise ValueError(f"no such folder; {WHERE}")
    place: Any = source.removeprefix(HUB) if is_hub else folder
    try:
        with quiet():
            config = AutoConfig.from_pretrained(place, local_files_only=not is_hub)
            if config.model_type not in FAMILIES:
                raise ValueError(f"its model_type is {config.model_type}, known are {' and '.join(FAMILIES)}")
            network: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                place,
                config=changed(config, settings),
                local_files_only=not is_hub,
                dtype=dtype,
                attn_implementation="sdpa",
            )
    except Exception as error:
        # transformers raises errors of any kind, over many lines; the first sentence says what is wrong
        reason = " ".join(str(error).split()).partition(". ")[0]
        hint = "if the Hub is out of reach, download it elsewhere and give its folder" if is_hub else WHERE
        raise ValueError(f"cannot be loaded ({reason}); {hint}") from error
    if not is_hub and not hasattr(config, DIGEST):
        try:
            setattr(config, DIGEST, load_tokenizer(folder).digest)
        except ValueError:  # weights alone may be wanted
            setattr(config, DIGEST, None)
    return network


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of a run of these models, read without unpickling code.

    Raises ValueError where it is none.
    """
    if not path.is_file():
        raise ValueError(f"no such file; {WHERE}")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of what is none, errors of any kind
        raise ValueError(f"no checkpoint of a run ({type(error).__name__}); {WHERE}") from error
    if (settings_of(state).get("config") or {}).get("model_type") not in FAMILIES:
        raise ValueError(f"a checkpoint, but of no GPT-2; {WHERE}")
    return state


def settings_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """What the module of a checkpoint was built with."""
    return dict(state.get("hyper_parameters") or {})


def network_of(state: Mapping[str, Any], settings: Mapping[str, Any]) -> PreTrainedModel:
    """The network in a checkpoint, LoRA merged, its config changed by the settings."""
    built = settings_of(state)
    network = from_config(changed(known_config(built["config"]), settings))
    if built["lora_rank"] is not None:
        add_lora(network, built["lora_rank"], built["lora_alpha"], 0.0)
    weights = state["state_dict"].items()
    network.load_state_dict({key.removeprefix("model."): value for key, value in weights if key.startswith("model.")})
    return merged(network)


def save_network(network: PreTrainedModel, tokenizer: Tokenizer | None, folder: Path) -> None:
    """Writes what `from_folder` and transformers open: config, weights, LoRA merged into them, and tokenizer."""
    whole = merged(network)
    if tokenizer is not None:
        if whole.config.eos_token_id is None:
            whole.config.eos_token_id = whole.generation_config.eos_token_id = tokenizer.end_id
        tokenizer.save(folder)
    with quiet():
        whole.save_pretrained(folder)


def files_of(tokenizer: Tokenizer) -> dict[str, str]:
    """A tokenizer's files by name, to be kept in a checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save(Path(name))
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(name).iterdir())}


def tokenizer_of(files: Mapping[str, str]) -> Tokenizer:
    """The tokenizer of `files_of`."""
    with tempfile.TemporaryDirectory() as name:
        for file, text in files.items():
            (Path(name) / file).write_text(text, encoding="utf-8", newline="\n")
        return load_tokenizer(Path(name))
