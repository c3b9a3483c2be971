"""The Python door: the functions the command's verbs call, imported when first used.

>>> import taolu
>>> result = taolu.run("vae", **{"trainer.max_epochs": 1})  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd
    import pytorch_lightning as pl

    from experiments.logger import Logger, Recorder
    from experiments.run import Result

__all__ = ["Logger", "Recorder", "fit", "history", "load", "rerun", "resume", "run", "runs"]


def run(
    experiment: str,
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    notify: str | Iterable[str] = (),
    store: str | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> Result:
    """The run of an experiment; settings are given as `**{"model.latent_dim": 16}`.

    Args:
        experiment: a name (`taolu list`), FILE.yaml or FILE.py:Class.
        name: of the run.
        tags: the user's own.
        note: Markdown, shown beside the run.
        notify: URL or URLs of apprise, told how the run ends and of the first value that is not finite; kept nowhere.
        store: folder or URL; default as the command's.
        say: takes the progress lines; `lambda line: None` for silence.
        options: dotted keys to values, as on the command line.

    Raises ConfigError, a ValueError, in one line for whatever cannot be used.
    """
    from experiments.config import resolve
    from experiments.run import Label
    from experiments.run import run as run_config
    from experiments.store.location import locate

    label = Label(name, _texts(tags), note, notify=_urls(notify))
    return run_config(resolve(str(experiment), overrides=options), store=locate(store), label=label, say=say)


def _texts(tags: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in (tags or {}).items()}


def _urls(notify: str | Iterable[str]) -> tuple[str, ...]:
    return (notify,) if isinstance(notify, str) else tuple(notify)


def resume(
    handle: str,
    *,
    notify: str | Iterable[str] = (),
    store: str | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> Result:
    """A stopped run continued in the same run; `**{"trainer.max_epochs": 30}` extends it.

    What the run kept secret, and `notify`, are given again.
    Raises ConfigError when there is no such run or checkpoint, or a key may not change.
    """
    from experiments.resume import resume as resume_run
    from experiments.store.location import locate

    return resume_run(handle, overrides=options, store=locate(store), notify=_urls(notify), say=say)


def rerun(
    handle: str,
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    notify: str | Iterable[str] = (),
    store: str | None = None,
    say: Callable[[str], None] = print,
    **secrets: Any,
) -> Result:
    """A new run of a run's stored config; says whether its metrics are identical, else what differs.

    Args:
        handle: id prefix, name, last, last:vae, best:vae:val/elbo.
        name: of the new run, as tags, note and notify are.
        tags: the user's own.
        note: Markdown, shown beside the run.
        notify: URL or URLs of apprise, told how the run ends and of the first value that is not finite; kept nowhere.
        store: folder or URL.
        say: takes the progress lines.
        secrets: what the run kept secret, given again, as `**{"model.api_key": "..."}`.

    Raises ConfigError when there is no such run, it has no config, or a secret is missing.
    """
    from experiments.rerun import rerun as rerun_run
    from experiments.run import Label
    from experiments.store.location import locate

    label = Label(name, _texts(tags), note, notify=_urls(notify))
    return rerun_run(handle, overrides=secrets, store=locate(store), label=label, say=say)[0]


def fit(
    module: pl.LightningModule,
    data: Any = None,
    *,
    name: str = "default",
    run_name: str | None = None,
    trainer: Mapping[str, Any] | None = None,
    seed: int | None = None,
    threads: int | None = None,
    callbacks: Iterable[pl.Callback] = (),
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    notify: str | Iterable[str] = (),
    store: str | None = None,
    resume: str | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Anybody's LightningModule trained as a tracked run: config, checkpoints, metrics, exact resume.

    Args:
        module: as it is.
        data: a LightningDataModule, a training loader, or a pair (training, validation) of loaders.
        name: of the experiment, by which runs are grouped.
        run_name: of the run.
        trainer: trainer options, as `{"max_epochs": 3}`.
        seed: of dropout, augmentations and the loaders' shuffle; the module's weights are made already. None = 0.
        threads: processor threads; None = all cores.
        callbacks: Lightning's, the user's own.
        tags: the user's own.
        note: Markdown, shown beside the run.
        notify: URL or URLs of apprise, told how the run ends and of the first value that is not finite; kept nowhere.
        store: folder or URL.
        resume: handle of a run of `fit` to go on with; trainer, seed and threads stay as they were where not given.
        say: takes the progress lines.

    Raises ConfigError in one line for whatever cannot be used.
    """
    from experiments.fit import fit as fit_module
    from experiments.run import Label
    from experiments.store.location import locate

    given = {"seed": seed, "threads": threads, **{f"trainer.{key}": value for key, value in (trainer or {}).items()}}
    options = {key: value for key, value in given.items() if value is not None or key.startswith("trainer.")}
    label = Label(run_name, _texts(tags), note, notify=_urls(notify))
    return fit_module(
        module, data, name, options, store=locate(store), label=label, callbacks=callbacks, handle=resume, say=say
    )


def runs(*, store: str | None = None, deleted: bool = False) -> pd.DataFrame:
    """One row a run, newest first, with `params.*`, `metrics.*` and `tags.*` columns."""
    from experiments.store.location import locate
    from experiments.store.read import runs_table

    return runs_table(locate(store), deleted=deleted)


def history(handle: str, keys: Sequence[str] | None = None, *, store: str | None = None) -> pd.DataFrame:
    """Every recorded value of a run: columns key, step, value, time (seconds since its start)."""
    from experiments.store.location import locate
    from experiments.store.read import find_run
    from experiments.store.read import history as read_history

    place = locate(store)
    return read_history(place, find_run(place, handle), keys)


def load(handle: str, *, checkpoint: str = "best", store: str | None = None) -> pl.LightningModule:
    """The module of a run with its trained weights, in evaluation mode.

    Args:
        handle: id prefix, name, last, last:vae, best:vae:val/elbo.
        checkpoint: best or last; best falls back to last where the module states no objective.
        store: folder or URL.
    """
    from experiments.load import load as load_run
    from experiments.store.location import locate

    return load_run(handle, checkpoint=checkpoint, store=locate(store))


_LAZY = {"Logger": "experiments.logger", "Recorder": "experiments.logger", "ConfigError": "experiments.errors"}


def __getattr__(name: str) -> Any:
    """`taolu.Logger`, `taolu.Recorder` and `taolu.ConfigError`, imported when asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'taolu' has no attribute '{name}'")
