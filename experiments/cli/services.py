"""Verbs of servers and the machine: dashboard, ui, doctor, completion."""

from __future__ import annotations

import os
import sys

from experiments.cli.options import STORE, Options, Verb
from experiments.cli.output import tell
from experiments.cli.runs import reap
from experiments.cli.values import none, one, store_of
from experiments.errors import ConfigError


def _dashboard(words: list[str], options: Options) -> int:
    none(words)
    store = store_of(options)
    reap(store, options)
    os.environ["MLFLOW_TRACKING_URI"] = store.url  # not an argument: a password would show in the process list
    host, port = _address(options, 8501)
    allowed = [f"--{name}" for name in ("allow_launch", "allow_edit") if options.get(name)]
    place = ["--store_dir", str(store.folder), "--host", host, "--port", port]
    _become([sys.executable, "-P", "-m", "dashboard", *place, *allowed])
    return 0


def _address(options: Options, port: int) -> tuple[str, str]:
    """Host and port as given, else this machine only and the given port."""
    found = str(options.get("port", port))
    if not found.isdecimal() or not 1 <= int(found) <= 65_535:
        raise ConfigError(f"--port {found}: must be a whole number from 1 to 65535; default {port}")
    return str(options.get("host", "127.0.0.1")), found


def _ui(words: list[str], options: Options) -> int:
    none(words)
    from experiments.store.write import open_store, rehome

    store = store_of(options)
    host, port = _address(options, 5000)
    open_store(store)
    rehome(store)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.url  # as in _dashboard
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # seven workers for jobs nobody sends
    print(f"MLflow's own pages on http://{host}:{port}", flush=True)
    _become([sys.executable, "-P", "-m", "mlflow", "ui", "--host", host, "--port", port])
    return 0


def _become(command: list[str]) -> None:
    """This process becomes the command; with -P a folder called dashboard where the user stands is not imported."""
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - an argument list, no shell


def _doctor(words: list[str], options: Options) -> int:
    none(words)
    from experiments.doctor import examine

    findings = examine(store_of(options), create=bool(options.get("create")))
    lines = [f"{'ok ' if finding.good else 'BAD'}  {finding.what:20} {finding.value}" for finding in findings]
    tell(options, {finding.what: finding.value for finding in findings}, lines)
    return 0 if all(finding.good for finding in findings) else 1


def _completion(words: list[str], options: Options) -> int:
    from experiments.completion import script

    print(script(one(words, "shell: bash, zsh or fish")))
    return 0


VERBS: dict[str, Verb] = {
    "dashboard": Verb(
        "dashboard",
        "pages over the store, in the browser",
        _dashboard,
        (*STORE, "host", "port", "allow_launch", "allow_edit", "notify"),
        example="dashboard --allow_edit",
    ),
    "ui": Verb("ui", "MLflow's own pages over the store", _ui, (*STORE, "host", "port"), example="ui --port 5001"),
    "doctor": Verb("doctor", "versions, devices, threads, store", _doctor, (*STORE, "create", "json")),
    "completion": Verb(
        "completion bash|zsh|fish",
        "a script for the shell",
        _completion,
        example='completion bash  # eval "$(taolu completion bash)"',
    ),
}
