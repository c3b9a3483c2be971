"""`taolu run --needed`: whether the same config, data and code have been run to the end before."""

from __future__ import annotations

from pathlib import Path

from experiments.build import Say, build_parts, set_threads
from experiments.config import Config
from experiments.provenance import code_files, repositories
from experiments.run import FINISHED, Result, user_files
from experiments.store.files import list_files
from experiments.store.location import Store, redact
from experiments.store.origin import read_origin
from experiments.store.read import RunRecord, read_run, runs_table

NOT_FROM_ITS_START = ("taolu.parent", "taolu.door")  # tags of a fork, and of a run whose parts no config describes


def finished_before(config: Config, store: Store, say: Say) -> Result | None:
    """The newest finished run of this config, on the same data with the same code; None where there is none.

    Code is the same when its commit, its changes and the user's files are; packages and machine may differ. Data is
    compared by its digest. What keeps a run of the same config from being taken is said in one line.
    """
    config = config.with_threads(set_threads(config.values["threads"]))
    alike = _with_config(store, config)
    if not alike:
        return None
    code = _code_now(config, store)
    same = [record for record in alike if _code_of(record) == code]
    digest = str(getattr(build_parts(config)[1], "digest", "")) if same else ""
    found = next((record for record in same if digest and record.tags.get("taolu.data_digest") == digest), None)
    if found is None:
        what = "not the same code" if not same else "not the same data" if digest else "its data has no digest"
        say(f"run {alike[0].run_id[:8]} {alike[0].name} has the same config, but {what}")
        return None
    return result_of(found)


def _with_config(store: Store, config: Config) -> list[RunRecord]:
    """The finished runs of a config, the newest first, that began at their first step."""
    table = runs_table(store, kinds=("run",))
    if not len(table):
        return []
    text = config.redacted().to_yaml()
    is_candidate = (table["experiment"] == config.name) & (table["status"] == FINISHED)
    files = {run_id: store.run_folder(run_id) / "config.yaml" for run_id in table[is_candidate]["run_id"]}
    alike = [run_id for run_id, file in files.items() if file.exists() and file.read_text(encoding="utf-8") == text]
    records = [read_run(store, run_id) for run_id in alike]
    return [record for record in records if not any(tag in record.tags for tag in NOT_FROM_ITS_START)]


def _code_of(record: RunRecord) -> dict[str, str]:
    origin = read_origin(record.folder)
    return {"commit": str(origin.environment.get("git_commit", "")), **origin.code}


def _code_now(config: Config, store: Store) -> dict[str, str]:
    """The code a run would keep if it began now."""
    files = list(user_files(config))
    states = repositories([Path.cwd(), *(file.parent for file in files)], store.folder)
    kept = code_files(states) | {f"code/{x.name}": x.read_text(encoding="utf-8", errors="replace") for x in files}
    return {
        "commit": states[0].commit if states else "",
        **{name: redact(text) for name, text in kept.items()},
    }


def result_of(record: RunRecord) -> Result:
    """How a run that has ended, ended."""
    return Result(
        run_id=record.run_id,
        name=record.name,
        experiment=record.experiment,
        kind=record.kind,
        status=record.status,
        seconds=record.seconds or 0.0,
        metrics=record.metrics,
        artifacts=list_files(record.folder),
        folder=record.folder,
    )
