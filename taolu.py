"""The Python door: the functions the command's verbs call, imported when first used.

>>> import taolu
>>> result = taolu.run("vae", **{"trainer.max_epochs": 1})  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    import pytorch_lightning as pl

    from experiments.check import Report
    from experiments.find import Finding
    from experiments.logger import Logger, Recorder
    from experiments.run import Result
    from mining.apriori import Itemsets, Kind, Method
    from mining.corpus import Policy
    from mining.lattice import Budget
    from mining.lexicon import Lexicon
    from mining.rules import Rules

__all__ = [
    "Budget",
    "Logger",
    "Policy",
    "Recorder",
    "check",
    "claims",
    "diff",
    "evaluate",
    "files",
    "find",
    "fit",
    "fork",
    "generate",
    "history",
    "load",
    "mine_itemsets",
    "mine_lexicon",
    "report",
    "rerun",
    "resume",
    "rules",
    "run",
    "runs",
    "segment",
    "sweep",
]


def run(
    experiment: str,
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    notify: str | Iterable[str] = (),
    id: str | None = None,  # noqa: A002 - the option's name
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
        id: of the user's own: called again with it, this is the same run, started, resumed or finished already.
        store: folder or URL; default as the command's.
        say: takes the progress lines; `lambda line: None` for silence.
        options: dotted keys to values, as on the command line.

    Raises ConfigError, a ValueError, in one line for whatever cannot be used.
    """
    from experiments.config import resolve
    from experiments.idempotent import run_once
    from experiments.init_from import with_weights
    from experiments.run import Label
    from experiments.run import run as run_config
    from experiments.store.location import locate

    label, place = Label(name, _texts(tags), note, notify=_urls(notify)), locate(store)
    config, used = with_weights(resolve(str(experiment), overrides=options), place)
    label.tags |= used
    if id is not None:
        return run_once(config, id, store=place, label=label, say=say)
    return run_config(config, store=place, label=label, say=say)


def enqueue(
    experiment: str,
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    store: str | None = None,
    **options: Any,
) -> int:
    """The number of a new item of the queue, which a worker (`taolu worker`) will run as `run` would now.

    Args:
        experiment: a name, FILE.yaml or FILE.py:Class.
        name: of the run, as tags and note are.
        tags: the user's own.
        note: Markdown, shown beside the run.
        store: folder or URL, whose queue it is.
        options: dotted keys to values, as on the command line.

    Raises ConfigError, before anything is written, for what `run` would refuse, and for secrets.
    """
    from experiments.queue import add
    from experiments.run import Label
    from experiments.store.location import locate

    return add(str(experiment), overrides=options, store=locate(store), label=Label(name, _texts(tags), note)).number


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


def fork(
    handle: str,
    *,
    start: str | int = "last",
    reset: str | Iterable[str] = (),
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    notify: str | Iterable[str] = (),
    store: str | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> Result:
    """A new run from a run's exact state, with `**{"optimizer.lr": 1e-4}` applied from the first step on.

    Args:
        handle: id prefix, name, last, last:vae, best:vae:val/elbo.
        start: the checkpoint: last, best, or the steps after which one was saved.
        reset: of optimizer, schedule and data: what begins anew.
        name: of the new run, as tags, note and notify are.
        tags: the user's own.
        note: Markdown, shown beside the run.
        notify: URL or URLs of apprise, told how the run ends and of the first value that is not finite; kept nowhere.
        store: folder or URL.
        say: takes the progress lines.
        options: dotted keys to values: what is changed.

    Raises ConfigError when there is no such run or checkpoint, or its state does not fit what is changed.
    """
    from experiments.fork import fork as fork_run
    from experiments.run import Label
    from experiments.store.location import locate

    label = Label(name, _texts(tags), note, notify=_urls(notify))
    parts = [reset] if isinstance(reset, str) else list(reset)
    return fork_run(handle, start=start, reset=parts, overrides=options, store=locate(store), label=label, say=say)


def evaluate(
    handle: str,
    *,
    checkpoint: str = "best",
    metrics: str | Iterable[str] = (),
    data: Any = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    note: str | None = None,
    notify: str | Iterable[str] = (),
    store: str | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> Result:
    """A run's model validated again, on its own data or others; a run of kind evaluation.

    Args:
        handle: id prefix, name, last, last:vae, best:vae:val/elbo.
        checkpoint: best or last; best falls back to last where there is none.
        metrics: names of those that are kept; none = all.
        data: a name or FILE.py:Class as on the command line, a LightningDataModule, or a loader; None = the run's own.
        name: of the new run, as tags, note and notify are.
        tags: the user's own.
        note: Markdown, shown beside the run.
        notify: URL or URLs of apprise, told how the run ends; kept nowhere.
        store: folder or URL.
        say: takes the progress lines.
        options: of the data, as `**{"data.path": "x.npz"}`, and where it is computed.

    Raises ConfigError when there is no such run, checkpoint or metric, or its model does not take the data.
    """
    from experiments.evaluate import evaluate as evaluate_run
    from experiments.run import Label
    from experiments.store.location import locate

    given = {"data": data, **options} if isinstance(data, str) else options
    return evaluate_run(
        handle,
        checkpoint=checkpoint,
        metrics=[metrics] if isinstance(metrics, str) else list(metrics),
        data=None if isinstance(data, str) else data,
        overrides=given,
        store=locate(store),
        label=Label(name, _texts(tags), note, notify=_urls(notify)),
        say=say,
    )


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


def files(handle: str, *, store: str | None = None) -> dict[str, Path]:
    """Where the files of a run lie, by name: of a claim `taolu.files(run_id)["plot.png"]`.

    Raises ConfigError when there is no such run.
    """
    from experiments.store.files import list_files
    from experiments.store.location import locate
    from experiments.store.read import find_run

    place = locate(store)
    folder = place.run_folder(find_run(place, handle))
    return {name: folder / name for name in list_files(folder)}


def diff(handle: str, other: str, *, store: str | None = None) -> dict[str, Any]:
    """What differs between a run and another, or FILE.yaml, as the verb's `--json` prints it.

    Raises ConfigError when there is no such run or file.
    """
    from experiments.diff import diff as difference
    from experiments.store.location import locate

    return difference(locate(store), handle, other).plain()


def report(
    *handles: str,
    out: str | None = None,
    form: Literal["html", "markdown", "latex", "csv"] | None = None,
    store: str | None = None,
) -> pd.DataFrame:
    """Means over seeds with 95 % intervals: columns group, metric, n, mean, low, high, sd, n_lost (not finite).

    Args:
        handles: of runs and sweeps.
        out: a file the report is written to.
        form: of that file; None = by its ending: .md, .tex and .csv, else html.
        store: folder or URL.

    Raises ConfigError when there is no such run, none has finished, or the file cannot be written.
    """
    from pathlib import Path

    import pandas as pd

    from experiments.report import check_form, check_place, form_of, write_report
    from experiments.report import report as report_on
    from experiments.store.location import locate

    path = check_place(Path(out).expanduser()) if out else None
    found = report_on(locate(store), handles)
    if path is not None:
        write_report(found.text(check_form(form or form_of(out))), path)
    return pd.DataFrame(found.plain()["figures"])


def claims(
    *names: str,
    run: bool = False,
    effort: Literal["quick", "full"] = "quick",
    seed: int = 0,
    workers: int = 1,
    design: Mapping[str, Any] | None = None,
    files: Iterable[str] = (),
    store: str | None = None,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """One row a claim: statement, estimate with its 95 % interval, verdict; as they stand, or measured now.

    Args:
        names: claims and articles, as "5655-S1" and "6234"; none = all.
        run: measure them first, as runs of kind claim, and return what was found.
        effort: seconds or minutes a claim.
        seed: of every draw.
        workers: processes, one thread each.
        design: design values to replace, by name; the evidence is then marked custom.
        files: Python files with a tuple CLAIMS of your own.
        store: folder or URL.
        say: takes a line a claim.

    Raises ConfigError for an unknown name, design value or effort.
    """
    import pandas as pd

    from experiments.claims.listing import standing
    from experiments.claims.record import Settings
    from experiments.claims.registry import chosen
    from experiments.claims.runner import run as run_claims
    from experiments.store.location import locate

    place = locate(store)
    if run:
        custom = tuple((key, str(value)) for key, value in (design or {}).items())
        found = run_claims(names, Settings(seed, effort, workers, custom, tuple(files)), place, say)
        return pd.DataFrame([finding.row() for finding in found])
    now = standing(place, tuple(files))
    return pd.DataFrame([now.row(claim) for claim in chosen(names, now.claims)])


def sweep(
    target: str,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    seeds: int | None = None,
    n_trials: int | None = None,
    sampler: str | None = None,
    pruner: str | None = None,
    workers: int = 1,
    timeout: float | None = None,
    trial_timeout: float | None = None,
    resume: bool = False,
    name: str | None = None,
    store: str | None = None,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> pd.DataFrame:
    """One row a trial of a sweep: parameters, values, run; `taolu.sweep("vae", grid={"optimizer.lr": [1e-3, 3e-3]})`.

    Args:
        target: a shipped sweep, a sweep file, or an experiment with a grid.
        grid: dotted keys to the values to try.
        seeds: of every point.
        n_trials: in all, over every session.
        sampler: grid, random, tpe or another of Optuna's.
        pruner: none, median, hyperband or another of Optuna's.
        workers: processes, one thread each.
        timeout: seconds after which no further trial starts.
        trial_timeout: seconds after which a trial ends with what it has.
        resume: go on with a study that exists.
        name: of the study.
        store: folder or URL.
        say: takes the progress lines.
        settings: what all trials share, as `**{"trainer.max_epochs": 3}`.

    Raises ConfigError, a ValueError, in one line for whatever cannot be used.
    """
    from experiments.conduct import Conduct
    from experiments.conduct import sweep as conduct_sweep
    from experiments.design import read_design
    from experiments.store.location import locate
    from experiments.store.studies import trials_table

    words = [f"--{key}={json.dumps(value)}" for key, value in settings.items()]
    axes = [f"{key}={json.dumps(list(values))[1:-1]}" for key, values in (grid or {}).items()]
    given = {"name": name, "grid": axes, "repeats": seeds, "n_trials": n_trials, "sampler": sampler, "pruner": pruner}
    design = read_design(target, words, given)
    conduct = Conduct(workers, timeout=timeout, trial_timeout=trial_timeout, resume=resume)
    return trials_table(conduct_sweep(design, conduct, store=locate(store), say=say).study)


def check(experiment: str, *, store: str | None = None, **options: Any) -> Report:
    """What a few steps show of an experiment before it is run: `.warnings`, `.measured`, `.error`; no run is made.

    Args:
        experiment: a name, FILE.yaml or FILE.py:Class.
        store: folder or URL: where it is kept what was warned of, for the next run to say whether rightly.
        options: dotted keys to values, as on the command line.

    Raises ConfigError, a ValueError, in one line for whatever cannot be used.
    """
    from experiments.check import check as check_config
    from experiments.config import resolve
    from experiments.store.location import locate

    return check_config(resolve(str(experiment), overrides=options), locate(store))


def find(experiment: str, **options: Any) -> Finding:
    """A learning rate and batch size by measurement: `.suggested_lr`, `.suggested_batch`, `.ramp`, `.space()`.

    Args:
        experiment: a name, FILE.yaml or FILE.py:Class.
        options: dotted keys to values, as on the command line.

    Raises ConfigError, a ValueError, for whatever cannot be used, and when a step fails.
    """
    from experiments.config import resolve
    from experiments.find import find as find_settings

    return find_settings(resolve(str(experiment), overrides=options))


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


def generate(
    source: str,
    *prompts: str,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    max_length: int | None = None,
    num: int = 1,
    seed: int = 0,
    checkpoint: str = "best",
    store: str | None = None,
) -> list[str]:
    """What a language model goes on with after each prompt, `num` texts a prompt, those of a prompt together.

    Args:
        source: a run's handle, a checkpoint file, or a folder in transformers' format.
        prompts: beginnings.
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_k: only the likeliest k tokens are drawn from; None = all.
        top_p: of those the first whose sum reaches it.
        max_length: tokens at most; None = 256, or what the model's positions leave.
        num: texts of each prompt.
        seed: of the draws.
        checkpoint: best or last, of a run.
        store: folder or URL.

    Raises ConfigError, a ValueError, in one line for whatever cannot be used.
    """
    from experiments.generate import Request, open_speaker
    from experiments.store.location import locate
    from lightning_modules.gpt2.sampling import Truncation

    request = Request(prompts, Truncation(temperature, top_k, top_p), max_length=max_length, num=num, seed=seed)
    return [str(row["text"]) for row in open_speaker(source, locate(store), checkpoint).speak(request).rows]


def mine_itemsets(
    baskets: Path | str | Any,
    min_support: float,
    *,
    max_length: int | None = None,
    strict: bool = False,
    kind: Kind = "frequent",
    include: Collection[Hashable] = (),
    exclude: Collection[Hashable] = (),
    top_k: int | None = None,
    budget: Budget | None = None,
    method: Method = "fast",
    progress: Callable[[int], None] | None = None,
) -> Itemsets:
    """The sets of items that stand together in enough baskets; `.to_frame()` has mlxtend's columns. No run is made.

    Args:
        baskets: a file, "stdlib", any iterable of iterables, a pandas or Arrow table, a sparse matrix.
        min_support: a share of the baskets (float) or a count (int).
        max_length: the longest sets looked for.
        strict: whether a set must lie above `min_support` instead of at least at it.
        kind: `closed` leaves out sets with a superset of equal count, `maximal` those with a frequent superset.
        include: items every set must hold.
        exclude: items no set may hold.
        top_k: only so many sets, the most frequent.
        budget: `taolu.Budget`, at which the search ends with what it has, `.complete` then being False.
        method: `article` is the level-wise algorithm of kexue.fm/archives/5525.
        progress: called now and then with the number of sets found.

    Raises ValueError in one line for whatever cannot be used, TypeError for an item that is not hashable.
    """
    from mining.apriori import mine_itemsets as mine
    from mining.readers import baskets_of

    return mine(
        baskets_of(baskets),
        min_support,
        max_length=max_length,
        strict=strict,
        kind=kind,
        include=include,
        exclude=exclude,
        top_k=top_k,
        budget=budget,
        method=method,
        progress=progress,
    )


def rules(
    itemsets: Itemsets, min_confidence: float = 0.5, *, max_head: int | None = None, strict: bool = False
) -> Rules:
    """All rules between disjoint parts of an itemset that are confident enough.

    `.measure("lift")`, `.measure("holm")`, `.recommend(basket)`, `.without_redundant()`, `.sorted()`, `.to_frame()`.

    Args:
        itemsets: what `mine_itemsets` gives.
        min_confidence: share of the antecedent's baskets.
        max_head: the most items of a consequent.
        strict: whether confidence must lie above `min_confidence` instead of at least at it.
    """
    from mining.rules import rules as make

    return make(itemsets, min_confidence, max_head=max_head, strict=strict)


def mine_lexicon(
    texts: Path | str | Iterable[str],
    *,
    method: Literal["best", "article", "greedy"] = "best",
    min_count: int = 2,
    min_prob: float | None = None,
    min_pmi: float | Sequence[float] | None = None,
    max_length: int | None = None,
    known: Collection[str] = (),
    new_only: bool = False,
    keep: Collection[str] = (),
    stop: Collection[str] = (),
    policy: Policy | None = None,
    encoding: str | None = None,
    field: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Lexicon:
    """The words of raw texts, best first, with their evidence and the scores that texts are cut by. No run is made.

    `.words`, `.to_frame()`, `.save(folder)`; `segment(text, lexicon)` cuts by it.

    Args:
        texts: a file, a folder, "pydoc", "pydoc_zh" or "hub:OWNER/NAME"; or texts, as `["..."]`.
        method: "article" is that of kexue.fm/archives/5476, "greedy" merges by its F*.
        min_count: the fewest occurrences of a word.
        min_prob: the least share of a word, or by the article's method of a pair too.
        min_pmi: the least mutual information of a word's parts in nats, one for all lengths or one for each.
        max_length: characters of a word.
        known: a dictionary; its words are marked.
        new_only: whether they are left out.
        keep: words that are listed whatever their evidence.
        stop: words that are not listed.
        policy: `taolu.Policy`: whether runs of digits and of letters are one unit; None = what suits the texts.
        encoding: of files; None = found.
        field: key or column of the text.
        progress: called with what is being done, how much of it is done, and of how much; 0 = not known.

    Raises ValueError in one line for whatever cannot be used.
    """
    from pathlib import Path

    from mining.lexicon import mine_lexicon as mine
    from mining.sources import Sources, named, policy_of

    if isinstance(texts, str | Path):
        names = (named(str(texts)),)
        texts, policy = Sources(names, encoding, field), policy or policy_of(names)
    options: dict[str, Any] = {"policy": policy} if policy else {}
    return mine(
        texts,
        method=method,
        min_count=min_count,
        min_prob=min_prob,
        min_pmi=min_pmi,
        max_length=max_length,
        known=known,
        new_only=new_only,
        keep=keep,
        stop=stop,
        progress=progress,
        **options,
    )


def segment(text: str, lexicon: Lexicon | Mapping[str, float] | Path | str, *, store: str | None = None) -> list[str]:
    """The words and marks of a text, in order, without white space.

    Args:
        text: itself.
        lexicon: what `mine_lexicon` gives; words with their counts; or a run of `taolu mine lexicon`, a folder, a file.
        store: folder or URL, where the run is.

    Raises ConfigError, a ValueError, where there is no such lexicon.
    """
    from collections.abc import Mapping
    from pathlib import Path

    from mining.segment import Segmenter

    if isinstance(lexicon, str | Path):
        from experiments.lexicons import segmenter_of
        from experiments.store.location import locate

        return segmenter_of(locate(store), str(lexicon)).cut(text)
    return Segmenter(lexicon if isinstance(lexicon, Mapping) else lexicon.scores).cut(text)


_LAZY = {
    "Budget": "mining.lattice",
    "Policy": "mining.corpus",
    "Logger": "experiments.logger",
    "Recorder": "experiments.logger",
    "ConfigError": "experiments.errors",
}


def __getattr__(name: str) -> Any:
    """`taolu.Logger`, `.Recorder`, `.Budget`, `.Policy` and `.ConfigError`, imported when asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'taolu' has no attribute '{name}'")
