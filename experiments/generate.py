"""`taolu generate`: texts continued by the model of a run, a checkpoint or a folder; and its export."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from experiments.errors import ConfigError
from experiments.load import checkpoint_file, refuse_without_model
from experiments.store.location import Store
from experiments.store.read import find_run, read_run
from lightning_modules.checkpoints.folder import new_folder
from lightning_modules.data.text_tokenizers import Tokenizer, load_tokenizer
from lightning_modules.gpt2.generate import Choice, Length, cache_bytes, forbidden_of, generate, stream
from lightning_modules.gpt2.sampling import Truncation
from lightning_modules.gpt2.sources import (
    TOKENIZER,
    from_folder,
    network_of,
    read_checkpoint,
    save_network,
    tokenizer_of,
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Request:
    """What is asked for; see the options of the verb.

    Args:
        prompts: Beginnings.
        truncation: What tokens are drawn from.
        min_length: Tokens before which nothing ends.
        max_length: Tokens at most; None = 256, or what the model's positions leave.
        end_token: Text of the token that ends a continuation; None = the tokenizer's own, if it has one.
        num: Continuations of each prompt.
        num_beams: Above 1: the likeliest continuation found by that many beams.
        seed: Of the draws.
    """

    prompts: tuple[str, ...] = ()
    truncation: Truncation = field(default_factory=Truncation)
    min_length: int = 0
    max_length: int | None = None
    end_token: str | None = None
    num: int = 1
    num_beams: int = 1
    seed: int = 0


# The settings and prompts of kexue.fm/archives/7292.
PRESETS = {
    "7292": Request(("今天天气不错", "双十一", "科学空间"), Truncation(top_k=5), 128, 256, "。"),
}


@dataclass(frozen=True)
class Spoken:
    """What was generated, and what it cost.

    Args:
        rows: prompt, text and number of tokens of each continuation; those of a prompt stand together.
        seconds: Of wall time.
        cache_megabytes: Of keys and values.
        peak_megabytes: Of the process, or of the GPU.
    """

    rows: list[dict[str, str | int]]
    seconds: float
    cache_megabytes: float
    peak_megabytes: float

    @property
    def n_tokens(self) -> int:
        """Of all continuations."""
        return sum(int(row["tokens"]) for row in self.rows)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {**vars(self), "tokens": self.n_tokens, "tokens_per_second": self.n_tokens / self.seconds}

    def cost(self) -> str:
        """One line of figures."""
        return (
            f"{self.n_tokens} tokens in {self.seconds:.2f} s, {self.n_tokens / self.seconds:.0f} tokens/s; "
            f"cache {self.cache_megabytes:.1f} MB, peak memory {self.peak_megabytes:,.0f} MB"
        )


class Speaker:
    """A model with its tokenizer.

    Args:
        network: GPT-2 or GPT2_ML.
        tokenizer: Its own.
    """

    def __init__(self, network: PreTrainedModel, tokenizer: Tokenizer) -> None:
        self.network, self.tokenizer = network, tokenizer

    def speak(self, request: Request) -> Spoken:
        """Every continuation asked for.

        Raises ConfigError for a prompt, length or end token the model cannot take.
        """
        prompts = [prompt for prompt in request.prompts for _ in range(request.num)]
        ids = [self.tokenizer.encode(prompt) for prompt in prompts]
        length, choice = self._length(request), self._choice(request)
        started = time.perf_counter()
        try:
            found = generate(self.network, ids, length, choice)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        seconds = time.perf_counter() - started
        rows: list[dict[str, str | int]] = [
            {"prompt": prompt, "text": self.tokenizer.decode(tokens), "tokens": len(tokens)}
            for prompt, tokens in zip(prompts, found, strict=True)
        ]
        n_bytes = cache_bytes(self.network, ids, length, request.num_beams)
        return Spoken(rows, seconds, n_bytes / 1e6, _peak_bytes(self.network) / 1e6)

    def stream(self, prompt: str, request: Request) -> Iterator[str]:
        """One continuation, piece by piece as it is made; bytes that make no character yet wait for the next ones.

        Raises ConfigError as `speak` does, and for beams, which know nothing before the end.
        """
        if request.num_beams > 1:
            raise ConfigError(f"--num_beams {request.num_beams}: beams know no text before the end; leave out --stream")
        ids, shown = [], ""
        try:
            for [token] in stream(
                self.network, [self.tokenizer.encode(prompt)], self._length(request), self._choice(request)
            ):
                if token is None:
                    break
                ids.append(token)
                text = self.tokenizer.decode(ids)
                if not text.endswith("\ufffd"):
                    yield text.removeprefix(shown)
                    shown = text
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _length(self, request: Request) -> Length:
        text, own = request.end_token, self.tokenizer.end_id
        end = own if text is None or text == getattr(self.tokenizer, "end", None) else self._id_of(text)
        try:
            return Length(request.max_length, request.min_length, end, may_pass=end != own)
        except ValueError as error:
            raise ConfigError(f"--{error}") from error

    def _choice(self, request: Request) -> Choice:
        forbidden, n_tokens = forbidden_of(self.network), self.tokenizer.vocabulary_size
        try:
            return Choice(request.truncation, request.seed, request.num_beams, forbidden, n_tokens)
        except ValueError as error:
            raise ConfigError(f"--{error}") from error

    def _id_of(self, text: str) -> int:
        """The token that a text is.

        Raises ConfigError where it is none, or several.
        """
        ids = self.tokenizer.encode(text)
        if len(ids) != 1 or self.tokenizer.decode(ids).strip() != text.strip():
            what = f"{len(ids)} tokens, not one" if len(ids) > 1 else "not in the vocabulary"
            raise ConfigError(f"--end_token '{text}': {what}; give one token of the model's, as 。 or .")
        return ids[0]


def open_speaker(source: str, store: Store, checkpoint: str = "best", dtype: str = "float32") -> Speaker:
    """The model and tokenizer of a folder, a checkpoint file or a run, on a GPU where there is one.

    Args:
        source: A folder in transformers' format, a .ckpt, or a run's handle.
        store: Of the runs.
        checkpoint: best or last, of a run.
        dtype: Of the weights, a name of `DTYPES`.

    Raises ConfigError in one line where there is none.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
    network, tokenizer = open_model(source, store, checkpoint, dtype)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    moved: nn.Module = network
    moved.to(device, DTYPES[dtype]).eval()
    return Speaker(network, tokenizer)


def open_model(source: str, store: Store, checkpoint: str, dtype: str) -> tuple[PreTrainedModel, Tokenizer]:
    """As `open_speaker`, on the CPU."""
    folder = Path(source).expanduser()
    try:
        if folder.is_dir():
            return from_folder(source, {}, DTYPES[dtype]), load_tokenizer(folder)
        if "/" in source and not source.endswith(".ckpt"):
            raise ValueError("no such folder; give one in transformers' format, a checkpoint, or a run")
        state = read_checkpoint(_checkpoint(source, store, checkpoint))
        if TOKENIZER not in state:
            raise ValueError("its data had no tokenizer, so it cannot read a prompt")
        return network_of(state, {}), tokenizer_of(state[TOKENIZER])
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


def export(source: str, out: Path, store: Store, checkpoint: str = "best") -> int:
    """Writes the folder `out`, which transformers, `generate` and `model.init_from` open; its parameters.

    Args:
        source: A checkpoint file or a run's handle.
        out: A folder that is not there yet, or empty.
        store: Of the runs.
        checkpoint: best or last, of a run.

    Raises ConfigError where there is no such model, or `out` cannot be written.
    """
    network, tokenizer = open_model(source, store, checkpoint, "float32")
    try:
        with new_folder(out) as folder:
            save_network(network, tokenizer, folder)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
    return int(network.num_parameters())


def preset(name: str) -> Request:
    """The settings and prompts of an article.

    Raises ConfigError for one there is not.
    """
    if name not in PRESETS:
        raise ConfigError(f"--preset {name}: must be one of {', '.join(PRESETS)}")
    return PRESETS[name]


def _checkpoint(source: str, store: Store, checkpoint: str) -> Path:
    if source.endswith(".ckpt"):
        return Path(source).expanduser()
    record = read_run(store, find_run(store, source))
    refuse_without_model(record)
    return checkpoint_file(record, checkpoint)


def _peak_bytes(network: PreTrainedModel) -> int:
    if network.device.type == "cuda":
        return torch.cuda.max_memory_allocated(network.device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
