"""How a run failed, written down: its own failure, or that of another process it trained with."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

import yaml
from torch.distributed import DistError

from experiments.build import Session
from experiments.config import Config
from experiments.errors import ConfigError
from experiments.store.configs import flatten
from experiments.store.files import write_text
from experiments.store.heartbeat import rank

LOST = re.compile(r"gloo/|NCCL|Connection closed by peer|Connection reset by peer|Broken pipe", re.IGNORECASE)
NEWS_SECONDS = 2.0  # for another process to write down why it failed


def is_loss(failure: BaseException) -> bool:
    """Whether it only says that another process is gone."""
    return isinstance(failure, DistError) or (isinstance(failure, RuntimeError) and bool(LOST.search(str(failure))))


def record_failure(session: Session, failure: BaseException, losses: Mapping[int, int]) -> str:
    """Why the run failed in one line; the whole is in traceback.txt, or traceback.rankN.txt of another process.

    Args:
        session: that failed.
        failure: of this process.
        losses: exit statuses of the processes that have died, by rank.
    """
    folder = session.writer.folder
    if is_loss(failure):
        return "" if rank() else record_loss(session, losses, "".join(traceback.format_exception(failure)))
    line = f"{type(failure).__name__}: {failure}"
    text = "".join(traceback.format_exception(failure))
    if rank():
        session.writer.text(_name(rank()), f"{text}\n{' '.join(line.split())}")
        return line
    session.writer.text("traceback.txt", text)
    frames = [frame for frame in traceback.extract_tb(failure.__traceback__) if "site-packages" not in frame.filename]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    session.say(f"failed{where}: {line}")
    session.say(f"traceback: {folder / 'traceback.txt'}")
    return line


def record_loss(session: Session, losses: Mapping[int, int], text: str = "") -> str:
    """Why another process is gone, in one line: what it wrote down itself is the run's traceback.

    Args:
        session: of this process.
        losses: exit statuses of the processes that have died, by rank.
        text: what this process noticed.
    """
    folder, end = session.writer.folder, time.monotonic() + NEWS_SECONDS
    while not (told := sorted(folder.glob(_name("*")))) and time.monotonic() < end:
        time.sleep(0.05)
    if told:
        text = told[0].read_text(encoding="utf-8")
        line = f"{told[0].name.split('.')[1].replace('rank', 'rank ')}: {text.splitlines()[-1]}"
    else:
        gone = [f"rank {each} ended with status {code}{_killed(code)}" for each, code in losses.items()]
        line = f"{'; '.join(gone) or 'another process of the run is gone'}, and left no word"
        text = f"{line}\n\n{text}"
    write_text(folder / "traceback.txt", text)
    session.say(f"failed: {line}")
    session.say(f"traceback: {folder / 'traceback.txt'}")
    return line


def refuse_other_settings(config: Config, folder: Path) -> None:
    """Raises ConfigError when rank zero, which keeps its settings in the folder, was given others than this process."""
    texts = config.redacted().to_yaml(), (folder / "config.yaml").read_text(encoding="utf-8")
    own, kept = (flatten(yaml.safe_load(text)) for text in texts)
    for key in sorted({*own, *kept}):
        if own.get(key) != kept.get(key):
            line = f"{key} = {own.get(key)} on rank {rank()}, {kept.get(key)} on rank zero; give both the same command"
            write_text(folder / _name(rank()), line)
            raise ConfigError(line)


def forget_failures(folder: Path) -> None:
    """Removes what processes of an earlier session wrote down."""
    for path in folder.glob(_name("*")):
        path.unlink()


def _name(which: int | str) -> str:
    return f"traceback.rank{which}.txt"


def _killed(code: int) -> str:
    return " (killed by the system, as when memory is short)" if code == -9 else ""
