"""The table of the verbs' own options, and how a command line is taken apart by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.errors import ConfigError, did_you_mean, unknown

Options = dict[str, Any]
Call = Callable[[list[str], Options], int]  # the words that are no option, and the options; returns the exit status
Tasks = Mapping[str, tuple[Call, tuple[str, ...]]]  # a task's function, and the options that only some tasks take


OPTIONS: dict[str, tuple[str, str]] = {
    "store": ("DIR|URL", "where runs are kept; default MLFLOW_TRACKING_URI, else the nearest mlruns/, else ./mlruns"),
    "store_dir": ("DIR", "where files lie when --store is a database server; default mlruns/"),
    "name": ("NAME", "name of the run"),
    "tags": ("KEY=VALUE *", "a tag of the run"),
    "note": ("TEXT", "Markdown shown beside the run"),
    "notify": ("URL *", "tell this apprise URL how runs end, die or turn non-finite; not kept: resume needs it again"),
    "json": ("", "one JSON object on the last line of standard output, all else on standard error"),
    "lang": ("en|zh", "language of tables, sentences and reports; default the locale's; errors are English"),
    "print_config": ("", "print the resolved config, which can be saved and run, and stop"),
    "schema": ("", "every option of every experiment, as JSON"),
    "limit": ("N", "rows shown; default 20"),
    "deleted": ("", "runs marked deleted"),
    "filter": (
        "EXPRESSION",
        'only runs it is true of, as "val/elbo > -30 and optimizer.lr < .01"; other names in `...`',
    ),
    "sort": ("COLUMN", "by this column; with - in front the largest first"),
    "columns": ("NAME,NAME", "what is shown of each run, as name,val/elbo,optimizer.lr"),
    "csv": ("", "as CSV, every run and column unless --limit and --columns say otherwise"),
    "older_than": ("AGE", "only what was deleted, or left behind, so long ago: 12h, 30d, 2w"),
    "format": (
        "html|markdown|latex|csv",
        "of the report, default by the ending of --out, else html; only html has curves and pictures",
    ),
    "reap": ("", "mark RUNNING runs FAILED whose process on this host is gone; tell those stale elsewhere"),
    "full": ("", "the longer form, up to 5 minutes"),
    "create": ("", "create the store's database now"),
    "grid": ("KEY=V,V *", "an axis of the space, and every point of it tried, as optimizer.lr=.1,.3"),
    "seeds": ("N", "seeds of every point, default the file's repeats, else 1; pairs of fork --against, default 8"),
    "sampler": ("NAME", "grid, random, tpe or another of Optuna's"),
    "pruner": ("NAME", "none, median, hyperband or another of Optuna's"),
    "n_trials": ("N", "trials in all, over every session"),
    "timeout": ("SECONDS", "after which no further trial starts"),
    "trial_timeout": ("SECONDS", "after which a trial ends with what it has"),
    "resume": ("", "go on with a study that exists; more trials, more seeds and a wider space are allowed"),
    "show": ("", "the cells of a study that exists, the best first, and stop"),
    "dry_run": ("", "check everything, show what would be run or removed, and stop; no run is made or removed"),
    "effort": ("quick|full", "seconds or minutes a claim; default quick"),
    "seed": ("N", "of every random draw; default 0"),
    "workers": ("N", "processes, one thread each; sweep --workers 0 only begins the study, for sweep worker"),
    "set": ("KEY=VALUE *", "another value of a claim's design; its evidence is then marked custom"),
    "import": ("FILE.py *", "claims of your own: the file's tuple CLAIMS"),
    "output": ("DIR|FILE", "where the report goes: a folder or FILE.html; default here"),
    "all": ("", "every run that is not deleted, and every study"),
    "out": ("FILE|DIR", "the file or new folder that is written, in a folder that is there"),
    "config": ("FILE", "GPT2_ML's config.json"),
    "vocab": ("FILE", "GPT2_ML's vocab.txt; without it the folder has no tokenizer"),
    "update": ("", "write the verdicts as they are now into claims.lock"),
    "background": (
        "",
        "start it in a process of its own, print its id and stop; taolu logs RUN -f shows what it prints",
    ),
    "id": ("KEY", "given again: the same run, resumed or finished; SIGTERM and SIGUSR1 end it with exit status 75"),
    "needed": ("", "run only if no finished run has the same config, data and code; else show that one"),
    "once": ("", "end when nothing waits"),
    "devices": ("N,N", "GPUs, a run at a time on each"),
    "follow": ("", "go on with what is printed until the run ends; short: -f"),
    "host": ("ADDRESS", "address to serve on; default 127.0.0.1, this machine only"),
    "port": ("PORT", "port to serve on"),
    "allow_launch": ("", "visitors may start and stop runs"),
    "allow_edit": ("", "visitors may write notes and tags, and archive runs"),
    "from": ("last|best|STEP", "the checkpoint it begins from: last, best, or the steps after which one was saved"),
    "reset": ("optimizer|schedule|data *", "a part of the state that begins anew"),
    "against": ("parent", "the effect of the change: pairs of runs over the same batches, with and without it"),
    "checkpoint": ("best|last", "the weights that are used; default best"),
    "metrics": ("NAME,NAME *", "the metrics that are kept; default all"),
    "prompt": ("TEXT *", "the beginning of a text"),
    "preset": ("7292", "settings and prompts of kexue.fm/archives/7292: top_k 5, 128 to 256 tokens, ended by a 。"),
    "top_k": ("K", "generate: draw from the K likeliest tokens; mine: the K most frequent itemsets; default all"),
    "top_p": ("P", "draw from the likeliest tokens whose probabilities reach P; default 1, all"),
    "top_p_edge": ("keep|drop", "whether the token that crosses P stays, as in transformers, or goes; default keep"),
    "temperature": ("T", "logits are divided by it; 0 takes the likeliest token; default 1"),
    "min_length": ("N", "tokens before which nothing ends; default 0"),
    "max_length": ("N", "generate: tokens at most, default 256 or what positions leave; mine: items of a set"),
    "end_token": ("TEXT", "the token that ends a text; default the tokenizer's own, if it has one"),
    "num": ("N", "continuations of each prompt; default 1"),
    "num_beams": ("N", "above 1 the likeliest text that so many beams find, nothing drawn; default 1"),
    "stream": ("", "show each token as it is made"),
    "interactive": ("", "continue each line that is typed"),
    "dtype": ("float32|bfloat16|float16", "of the weights; default float32"),
    "form": (
        "baskets|long|onehot",
        "of a file: a basket a line, an item a line, a column an item; default by its look",
    ),
    "delimiter": ("MARK", "between cells: comma, tab, semicolon, bar, space or any one letter; default by the look"),
    "encoding": ("NAME", "of a file's text; default utf-8 or gb18030, whichever it is"),
    "header": ("yes|no", "whether a file's first line holds titles"),
    "quotes": ("yes|no", "whether a file's cells may stand in double quotes"),
    "transaction": ("COLUMN", "title or number of the column that says which basket"),
    "item": ("X *", "mine: column, or JSON key, that holds the items; rules: an item on either side"),
    "drop_empty": ("", "leave baskets without items out of the count"),
    "min_support": ("S", "share of the baskets (.01) or how many (100); mine: default for about 10,000 itemsets"),
    "min_confidence": ("C", "share of the antecedent's baskets; mine: default .5"),
    "min_lift": ("L", "the least lift"),
    "max_p_value": ("P", "the largest p of Fisher's exact test"),
    "max_holm": ("P", "the largest p with Holm's correction"),
    "max_head": ("N", "items of a consequent at most; 1 is the form of kexue.fm/archives/5525"),
    "strict": ("", "above the thresholds instead of at least at them, as in kexue.fm/archives/5525"),
    "kind": (
        "frequent|closed|maximal",
        "itemsets: all, those without a superset of equal count, without a frequent one",
    ),
    "method": (
        "NAME",
        "apriori: fast, or article (kexue.fm/archives/5525); lexicon: best, greedy by F*, or article (5476)",
    ),
    "include": ("ITEM *", "an item that every itemset holds"),
    "exclude": ("ITEM *", "an item that none holds"),
    "significance": ("holm|fdr|none", "rules pass Fisher's test at 5 % so corrected; default holm without thresholds"),
    "redundant": ("keep|remove", "rules that simpler ones imply; default remove without thresholds"),
    "budget_itemsets": ("N", "itemsets after which the search ends, incomplete"),
    "budget_seconds": ("S", "seconds after which it does"),
    "budget_megabytes": ("M", "megabytes of itemsets; default 4000"),
    "scheduler": ("tcp://HOST:PORT", "Dask's: its workers mine the parts; they must see --parts DIR"),
    "parts": ("DIR", "mine what is larger than memory in parts kept there; again with the same DIR goes on"),
    "part_size": ("N", "baskets of a part; default 500,000, about 500 MB"),
    "baskets": ("N", "how many quest draws; default 100,000"),
    "antecedent": ("ITEM *", "an item before the arrow"),
    "consequent": ("ITEM *", "an item behind the arrow"),
    "basket": ("ITEM,ITEM *", "only rules whose antecedent lies in this basket and whose consequent does not"),
    "min_count": ("N", "the fewest occurrences of a word; default 2"),
    "min_prob": ("P", "the least share of a word, or by method article of a pair too; default there 1e-7"),
    "min_pmi": ("X|X,X,...", "nats of mutual information of a word's parts, one for all or one a length; article: 1"),
    "numbers": ("run|each|break", "a run of digits is one unit, or each digit is, or it ends words; default run"),
    "latin": ("run|each|break", "the same of Latin letters; default run, each for pydoc"),
    "known": ("FILE|jieba", "a dictionary; its words are marked"),
    "new_only": ("", "leave the known ones out"),
    "keep": ("FILE", "words that are listed whatever their evidence"),
    "stop": ("FILE", "words that are not listed"),
    "field": ("NAME", "JSON key or column that holds the text; default text"),
    "memory": ("MB", "counting out of core: megabytes for a block of the text, in each process"),
    "lexicon": ("RUN|FILE", "a run of mine lexicon, its folder, or a file with a word a line"),
    "help": ("", "this text"),
}

SHORT = {"-h": "help", "-f": "follow"}
STORE = ("store", "store_dir")
LABEL = ("name", "tags", "note")


@dataclass(frozen=True)
class Verb:
    """A verb of the command.

    Args:
        usage: what follows `taolu`.
        help: one line.
        run: its function.
        options: names from OPTIONS.
        passes: whether further options, such as --model.latent_dim 16, belong to the experiment.
    """

    usage: str
    help: str
    run: Call
    options: tuple[str, ...] = ()
    passes: bool = False
    example: str = field(default="", kw_only=True)


def take(words: list[str], verb: Verb) -> tuple[Options, list[str]]:
    """The verb's own options, and the other words in order."""
    allowed = (*verb.options, "help")
    found: Options = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        name = SHORT.get(word, name)
        if word == "-" or not word.startswith("-") or name not in allowed:  # "-" is standard input
            if word.startswith("-") and word != "-":
                _check_passed(name, word, verb)
            rest.append(word)
            if word.startswith("-") and word != "-" and not equals and queue and not queue[0].startswith("--"):
                rest.append(queue.pop(0))  # its value
            continue
        placeholder = OPTIONS[name][0]
        if not placeholder:
            if equals:
                raise ConfigError(f"--{name}: takes no value")
            found[name] = True
            continue
        if not equals and queue and not queue[0].startswith("--"):
            value = queue.pop(0)
        if not value:
            raise ConfigError(f"--{name}: needs a value: --{name} {placeholder.removesuffix(' *')}")
        if placeholder.endswith("*"):
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return found, rest


def _check_passed(name: str, word: str, verb: Verb) -> None:
    """Refuses an option that the verb has not, and that is not the experiment's either by its look."""
    own = [f"--{option}" for option in (*verb.options, "help")]
    if verb.passes:
        from experiments.config import PARTS

        own += [f"--{each}" for each in (*PARTS, "seed", "threads", "config")]
        is_typo = name in OPTIONS or did_you_mean(name, own)
        if word.startswith("--") and ("." in name or f"--{name}" in own or not is_typo):
            return
    raise unknown("option", word.partition("=")[0], own)


def run_task(verb: str, tasks: Tasks, words: list[str], options: Options, default: str) -> int:
    """Runs the task of the verb that the first word names, the default one without words.

    Raises ConfigError for a task there is not, and for an option of other tasks.
    """
    task, rest = (words[0], words[1:]) if words else (default, [])
    if task not in tasks:
        raise unknown("task", task, filter(None, tasks), (*tasks, verb))
    function, allowed = tasks[task]
    for name in options:
        if name not in (*STORE, "lang", "json", *allowed):
            takers = [f"{verb} {other}".strip() for other, (_, own) in tasks.items() if name in own]
            raise ConfigError(f"--{name}: belongs to {', '.join(takers)}, not to {f'{verb} {task}'.strip()}")
    return function(rest, options)
