"""The command in processes of their own, forked from one that has imported everything: 0.1 s each instead of 8."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["experiments.run", "experiments.resume", "experiments.rerun", "experiments.conduct", "mlflow", "tests.processes"]
)


def start(arguments: list[str], output: Path) -> BaseProcess:
    """`taolu ARGUMENTS` as a process; what it prints goes to the file."""
    return fork(_main, arguments, output)


def fork(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """The function in a process of its own."""
    # A child imports the parent's __main__; Streamlit's AppTest leaves its script there, which cannot be imported.
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        process = CONTEXT.Process(target=_call, args=(function, *arguments))
        process.start()
    finally:
        sys.modules["__main__"] = main
    return process


def _call(function: Callable[..., None], *arguments: Any) -> None:
    try:
        function(*arguments)
    finally:
        atexit._run_exitfuncs()  # which a script's end runs, and multiprocessing does not


def _main(arguments: list[str], output: Path) -> None:
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        from experiments.cli import main

        status = main(arguments)
        file.flush()
    os._exit(status)


def wait_for(diary: Path, line: str, seconds: float = 60.0) -> None:
    """Returns when the file has the line."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if diary.exists() and line in diary.read_text().splitlines():
            return
        time.sleep(0.005)
    raise TimeoutError(f"no line '{line}' in {diary}")
