"""Runs as tables and pages of text: what `taolu runs` and `taolu show` print."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from rich.cells import cell_len

from experiments.design import design_of
from experiments.errors import ConfigError
from experiments.store.columns import Choice
from experiments.store.configs import config_now
from experiments.store.files import list_files
from experiments.store.heartbeat import TAG, is_dead
from experiments.store.location import Store, redact
from experiments.store.read import find_run, read_run, runs_table
from experiments.store.relatives import EVALUATION, FORK, read_relatives
from experiments.store.studies import StudyRecord, find_study, study_url, trials_table
from experiments.tally import Tally, summary
from experiments.words import ENGLISH, Words, padded

Row = dict[str, Any]
PART_ORDER = {
    part: i for i, part in enumerate(("model", "data", "optimizer", "critic_optimizer", "schedule", "trainer"))
}
MOST_CHILDREN = 4  # named on a line; the newest
NO_BREAK = "\N{NO-BREAK SPACE}"


def listed(store: Store, limit: int, *, deleted: bool, choice: Choice | None = None) -> list[Row]:
    """The newest runs as plain values, or the first of those that are chosen.

    Raises ConfigError for a filter or column that cannot be used.
    """
    table = (choice or Choice()).rows(runs_table(store, deleted=deleted)).head(limit)
    rows = []
    for record in table.to_dict("records"):
        metrics = {
            str(key).removeprefix("metrics."): value
            for key, value in record.items()
            if str(key).startswith("metrics.") and not pd.isna(value)
        }
        rows.append(
            {
                **{key: record[key] for key in ("run_id", "name", "experiment", "kind", "status")},
                "dead": record["status"] == "RUNNING" and _is_dead(record.get(f"tags.{TAG}")),
                "started": record["started"].isoformat() if not pd.isna(record["started"]) else None,
                "seconds": None if pd.isna(record["seconds"]) else float(record["seconds"]),
                "objective": _objective(record.get("tags.taolu.objective")),
                "metrics": metrics,
                "artifacts": list_files(store.run_folder(record["run_id"])),
            }
        )
    return rows


def listed_columns(store: Store, limit: int | None, *, deleted: bool, choice: Choice) -> pd.DataFrame:
    """The first of the chosen runs, their chosen columns: what `--csv` and `--columns` show; without limit all runs.

    Raises ConfigError for a filter or column that cannot be used.
    """
    table = choice.rows(runs_table(store, deleted=deleted))
    return choice.cut(table if limit is None else table.head(limit))


def column_lines(table: pd.DataFrame, words: Words = ENGLISH) -> Iterator[str]:
    """The table as text, whatever its width; numbers on the right."""
    columns = []
    for name in map(str, table.columns):
        is_number = pd.api.types.is_float_dtype(table[name])
        cells = [words.known(f"column_{name}", name), *(_cell(name, value, words) for value in table[name])]
        width = max(map(cell_len, cells))
        columns.append([padded(cell, width, right=is_number) for cell in cells])
    for line in zip(*columns, strict=True):
        yield "  ".join(line).rstrip()


def _cell(name: str, value: Any, words: Words) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, float):
        return _number(value)
    if name in ("status", "kind"):
        return _kind(str(value), words) if name == "kind" else words.known(str(value), str(value))
    return str(value)[:8] if name == "run" else str(value)


def _is_dead(tag: Any) -> bool:
    """Whether the heartbeat of a RUNNING run is of a process that is gone."""
    return isinstance(tag, str) and is_dead(json.loads(tag))


def _objective(tag: Any) -> str | None:
    """The metric a run is judged by, of the tag `val/elbo max`."""
    return tag.rpartition(" ")[0] if isinstance(tag, str) else None


def table_lines(rows: list[Row], store: Store, words: Words = ENGLISH) -> Iterator[str]:
    """The rows as a table as wide as the terminal: what and when, objectives, then validation while there is room."""
    if not rows:
        yield words("runs_none", store=store.label)
        return
    objectives = [row["objective"] for row in rows if row["objective"] in row["metrics"]]
    measured = [key for row in rows for key in row["metrics"] if key.startswith("val/")]
    keys = list(dict.fromkeys([*objectives, *measured]))
    titles = ("run", "name", "experiment", "status", "started", "took")
    head = [*(words(f"column_{title}") for title in titles), *keys]
    table = [
        [
            row["run_id"][:8],
            row["name"],
            row["experiment"] if row["kind"] == "run" else f"{row['experiment']} ({_kind(row['kind'], words)})",
            words("running_dead") if row["dead"] else words.known(row["status"], row["status"]),
            _ago(row["started"], words),
            _took(row["seconds"], words),
            *(_number(row["metrics"].get(key)) for key in keys),
        ]
        for row in rows
    ]
    widths = [max(cell_len(line[index]) for line in [head, *table]) for index in range(len(head))]
    room, shown = shutil.get_terminal_size((120, 24)).columns, 0
    while shown < len(head) and (shown < 6 or sum(widths[: shown + 1]) + 2 * shown <= room):
        shown += 1
    for line in [head, *table]:
        cells = [padded(cell, widths[i], right=i >= 5) for i, cell in enumerate(line)]
        yield "  ".join(cells[:shown]).rstrip()
    if any(row["dead"] for row in rows):
        yield words("dead_hint")


def _kind(kind: str, words: Words) -> str:
    return words.known(f"kind_{kind}", kind)


def shown(store: Store, handle: str) -> Row:
    """One run as plain values: its relatives, its config now, the parameters it started with, metrics, tags, files."""
    record = read_run(store, find_run(store, handle))
    relatives = read_relatives(store, record)
    return {
        "run_id": record.run_id,
        "name": record.name,
        "experiment": record.experiment,
        "kind": record.kind,
        "status": record.status,
        "started": record.started.isoformat() if record.started else None,
        "seconds": record.seconds,
        "note": record.note,
        "objective": _objective(record.tags.get("taolu.objective")),
        "parent": asdict(relatives.parent) if relatives.parent else None,
        "children": [asdict(child) for child in relatives.children],
        "config": config_now(record.folder, record.params),
        "params": record.params,
        "metrics": record.metrics,
        "tags": record.tags,
        "folder": str(record.folder),
        "artifacts": list_files(record.folder),
    }


def shown_lines(run: Row, words: Words = ENGLISH) -> Iterator[str]:
    """The run as a page of text."""
    yield f"{run['name']}  {run['run_id']}"
    yield words(
        "shown_state",
        status=words.known(run["status"], run["status"]),
        experiment=run["experiment"],
        kind=_kind(run["kind"], words),
        started=_ago(run["started"], words),
        took=_took(run["seconds"], words),
    )
    if run["note"]:
        yield run["note"]
    yield from _relative_lines(run, words)
    if run["config"]:
        yield from ("", words("shown_config"))
        yield from _by_group(_config_words(run["config"]))
    if run["metrics"]:
        yield from ("", words("shown_values"))
        rest = dict(sorted(run["metrics"].items(), key=_val_first))
        if run["objective"] in rest:
            yield f"  {run['objective']:16}  {_number(rest.pop(run['objective']))}  {words('shown_objective')}"
        yield from _by_group((key, _number(value)) for key, value in rest.items())
    own = {key: value for key, value in run["tags"].items() if not key.startswith(("taolu.", "mlflow."))}
    if own:
        yield from ("", words("shown_tags"))
        yield from (f"  {key}  {value}" for key, value in sorted(own.items()))
    yield from ("", words("shown_files", folder=run["folder"]))
    yield from (f"  {name}" for name in _grouped(run["artifacts"], words))
    yield from ("", "    ".join([*_next_steps(run, words), words("browse")]))


def _relative_lines(run: Row, words: Words) -> Iterator[str]:
    """The run it began from, its forks and its evaluations, a line each."""
    if parent := run["parent"]:
        yield words(f"{parent['relation']}_of", run=_relative(parent, words))
    for relation in (FORK, EVALUATION):
        found = [_relative(child, words) for child in run["children"] if child["relation"] == relation]
        if found:
            more = words("and_more", n=len(found) - MOST_CHILDREN) if len(found) > MOST_CHILDREN else ""
            yield words(f"{relation}_list", runs=", ".join(found[:MOST_CHILDREN]) + more)


def _relative(run: Row, words: Words) -> str:
    step = "" if run["step"] is None else words("at_step", step=run["step"])
    return f"{run['run_id'][:8]} {run['name']}".rstrip() + step


def _next_steps(run: Row, words: Words) -> Iterator[str]:
    """What can be done with the run: nothing that is sure to be refused."""
    short, is_fit = run["run_id"][:8], run["tags"].get("taolu.door") == "fit"
    if "config.yaml" not in run["artifacts"]:
        return
    if not is_fit:
        yield words("again", command=f"taolu rerun {short}")
    if "checkpoints/last.ckpt" in run["artifacts"]:
        command = f"taolu.fit(module, data, resume='{short}')" if is_fit else f"taolu resume {short}"
        yield words("go_on", command=command)


def _config_words(params: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Parameters as `part/key` and value; a class stands under its part's name."""
    for key, value in sorted(params.items(), key=lambda item: PART_ORDER.get(item[0].partition(".")[0], 9)):
        if value not in ("null", "false"):
            yield key.replace(".", "/", 1) if "." in key else f"{key}/", value


def _val_first(item: tuple[str, float]) -> tuple[bool, str]:
    return not item[0].startswith("val/"), item[0]


def _by_group(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    """`group/key` and value as one paragraph a group: the group, then its keys with their values."""
    groups: dict[str, list[str]] = {}
    for key, value in items:
        group, _, name = key.partition("/")
        groups.setdefault(group, []).append(f"{name} {value}".strip())
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
    for group, words in groups.items():
        kept = [entry.replace(" ", NO_BREAK) for entry in words]  # a value stays beside its key
        lines = textwrap.wrap(", ".join(kept), width, initial_indent=f"  {group:16}  ", subsequent_indent=" " * 20)
        yield from (line.replace(NO_BREAK, " ") for line in lines)


def _grouped(names: list[str], words: Words) -> Iterator[str]:
    """File names, a folder of many as one line."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    for folder, files in sorted(folders.items()):
        if len(files) > 4:
            yield words("many_files", folder=folder or ".", n=len(files))
        else:
            yield from files


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _took(seconds: float | None, words: Words) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return words("took_seconds", seconds=seconds)
    return words("took_minutes", minutes=int(seconds) // 60, seconds=int(seconds) % 60)


def _ago(started: str | None, words: Words) -> str:
    """When, as a person says it; the date for what is older than a week."""
    if started is None:
        return ""
    moment = datetime.fromisoformat(started)
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for unit, length in (("day", 86_400), ("hour", 3_600), ("min", 60)):
        count = int(seconds // length)
        if unit == "day" and count > 7:
            return moment.astimezone().strftime("%Y-%m-%d")
        if count:
            return words(f"ago_{unit}{'s' if count > 1 and unit != 'min' else ''}", n=count)
    return words("just_now")


# ---- studies --------------------------------------------------------------------------------------------------------


def study_shown(store: Store, name: str) -> Row:
    """A study as plain values: counts, the best cell, and every trial."""
    study = find_study(store, name)
    rows = trials_table(study).to_dict("records")
    return {**summary(name, _tally(study)), "rows": [{str(key): value for key, value in row.items()} for row in rows]}


def study_lines(store: Store, name: str, words: Words = ENGLISH) -> Iterator[str]:
    """A study as a table of its cells."""
    study = find_study(store, name)
    tally = _tally(study)
    yield words("study_head", name=name, counts=tally.counts(words), run=study.run_id[:8])
    if best := tally.best(words):
        yield best
    yield ""
    yield from tally.table(words)
    yield ""
    yield words("study_more", url=redact(study_url(store)))


def _tally(study: StudyRecord) -> Tally:
    if not study.design:
        raise ConfigError(f"study '{study.name}' was not made by taolu sweep; optuna-dashboard shows it")
    return Tally.of(design_of(study.design), study.trials)
