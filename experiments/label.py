"""What is said of a run before it begins, and how it ended; importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.errors import ConfigError


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Args:
        run_id: of the run.
        name: the run's name.
        experiment: what runs are grouped by.
        kind: tag taolu.kind.
        status: FINISHED, FAILED or KILLED.
        seconds: wall time of this session.
        metrics: last value by key.
        artifacts: names of files, relative to `folder`.
        folder: the run's files.
        exit_status: 0, 1, 75, 130 or 143.
        error: one line saying what failed; empty when nothing did.
    """

    run_id: str
    name: str
    experiment: str
    kind: str
    status: str
    seconds: float
    metrics: dict[str, float]
    artifacts: list[str]
    folder: Path
    exit_status: int = 0
    error: str = ""


@dataclass
class Label:
    """What the user says about a run, beside its config.

    Args:
        name: of the run; None = the experiment's name and the start of the run's id.
        tags: the user's own; names that begin with taolu., mlflow. or resume. are the platform's.
        note: Markdown, shown beside the run.
        kind: tag taolu.kind.
        notify: URLs of apprise, told how the run ends and of the first value that is not finite; kept nowhere.
    """

    name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    note: str | None = None
    kind: str = "run"
    notify: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ConfigError for a tag whose name is kept for the platform."""
        for key in self.tags:
            if key.startswith(("taolu.", "mlflow.", "resume.")):
                raise ConfigError(f"tag '{key}': names that begin with taolu., mlflow. or resume. are the platform's")
