"""Verbs that take runs from one store to another: export, import."""

from __future__ import annotations

from pathlib import Path

from experiments.cli.options import STORE, Options, Verb
from experiments.cli.output import tell
from experiments.cli.values import none, one, store_of
from experiments.errors import ConfigError


def _export(words: list[str], options: Options) -> int:
    everything = bool(options.get("all"))
    if everything:
        none(words)
    elif not words:
        raise ConfigError("name the runs or sweeps, or take --all, as in: taolu export last --out run.zip")
    if "out" not in options:
        raise ConfigError("name the file, as in: taolu export --all --out store.zip")
    from experiments.move import export
    from experiments.report import check_place

    path = check_place(Path(options["out"]).expanduser())
    found = export(store_of(options), words, path, everything=everything)
    return tell(options, found.plain(), found.lines())


def _import(words: list[str], options: Options) -> int:
    path = Path(one(words, "FILE.zip")).expanduser()
    from experiments.arrival import import_package

    found = import_package(path, store_of(options))
    return tell(options, found.plain(), found.lines())


VERBS: dict[str, Verb] = {
    "export": Verb(
        "export RUN|SWEEP ...|--all --out FILE.zip",
        "runs with all they need, sweeps with trials and study, or everything, in one file",
        _export,
        (*STORE, "all", "out", "json"),
        example="export last --out run.zip",
    ),
    "import": Verb(
        "import FILE.zip",
        "what export wrote, under the same ids: all of it or nothing, twice the same as once",
        _import,
        (*STORE, "json"),
        example="import store.zip --store postgresql://ann@db/runs",
    ),
}
