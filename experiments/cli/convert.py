"""The verb convert, by what is converted."""

from __future__ import annotations

from pathlib import Path

from experiments.cli.options import STORE, Options, Tasks, Verb, run_task
from experiments.cli.output import tell
from experiments.cli.values import one, store_of
from experiments.errors import ConfigError


def _convert(words: list[str], options: Options) -> int:
    if not words:
        raise ConfigError(f"say what: taolu convert {'|'.join(TASKS)}")
    return run_task("convert", TASKS, words, options, default="")


def _gpt2_ml(words: list[str], options: Options) -> int:
    from experiments.convert import convert_gpt2_ml, converted_lines

    prefix = _path(one(words, "PREFIX, the checkpoint's path without .index"))
    for name in ("config", "out"):
        if name not in options:
            raise ConfigError("needed: taolu convert gpt2-ml PREFIX --config config.json --out DIR")
    vocabulary = _path(options["vocab"]) if "vocab" in options else None
    found = convert_gpt2_ml(prefix, _path(options["config"]), _path(options["out"]), vocabulary)
    return tell(options, vars(found), converted_lines(found))


def _inspect(words: list[str], options: Options) -> int:
    from experiments.convert import inspect, inspected_lines

    found = inspect(_path(one(words, "PREFIX, the checkpoint's path without .index")))
    return tell(options, [vars(each) for each in found], inspected_lines(found))


def _export(words: list[str], options: Options) -> int:
    source = one(words, "run or checkpoint")
    if "out" not in options:
        raise ConfigError("needed: taolu convert export RUN --out DIR")
    from experiments.generate import export

    out = _path(options["out"])
    n_parameters = export(source, out, store_of(options), options.get("checkpoint", "best"))
    found = {"folder": str(out), "n_parameters": n_parameters}
    return tell(
        options, found, [f"written: {out}, {n_parameters:,} parameters; try: taolu generate {out} --prompt TEXT"]
    )


def _path(word: str) -> Path:
    return Path(word).expanduser()


TASKS: Tasks = {
    "gpt2-ml": (_gpt2_ml, ("config", "vocab", "out")),
    "inspect": (_inspect, ()),
    "export": (_export, ("out", "checkpoint")),
}
VERBS: dict[str, Verb] = {
    "convert": Verb(
        "convert gpt2-ml|inspect|export PREFIX|RUN",
        "a TensorFlow checkpoint of GPT2_ML, or a run, into a folder for transformers; inspect lists its variables",
        _convert,
        ("config", "vocab", "out", "checkpoint", *STORE, "json"),
        example="convert gpt2-ml model.ckpt-100000 --config mega.json --vocab vocab.txt --out gpt2_ml",
    ),
}
