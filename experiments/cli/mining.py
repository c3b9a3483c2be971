"""Verbs that mine, and read what was mined: mine, rules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.lexicon import LEXICON, mine_lexicon
from experiments.cli.options import LABEL, STORE, Options, Tasks, Verb, run_task
from experiments.cli.output import ended, lang_of, print_json, say_of, tell
from experiments.cli.values import label_of, listed, one, real, store_of, whole
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.store.rules import Wanted
    from mining.layouts import Layout

READING = ("form", "delimiter", "encoding", "header", "quotes", "transaction", "item", "drop_empty")
THRESHOLDS = ("min_support", "min_confidence", "max_length", "max_head", "strict", "kind", "method")
CHOICE = ("include", "exclude", "top_k", "significance", "redundant")
COST = ("budget_itemsets", "budget_seconds", "budget_megabytes", "parts", "part_size", "workers", "scheduler")
APRIORI = (*READING, *THRESHOLDS, *CHOICE, *COST, "baskets", "seed", "out", *LABEL)
FILTERS = ("item", "antecedent", "consequent", "min_support", "min_confidence", "min_lift", "max_p_value", "max_holm")


def _mine(words: list[str], options: Options) -> int:
    if not words:
        raise ConfigError(
            "name what is mined, as in: taolu mine apriori FILE|stdlib|quest, or: taolu mine lexicon PATH"
        )
    return run_task("mine", MINERS, words, options, default="")


def _apriori(words: list[str], options: Options) -> int:
    source = one(words, "source: FILE, stdlib or quest")
    from experiments.basket_source import refused
    from experiments.mine import Request, mine
    from mining.lattice import Budget

    given: dict[str, Any] = {name: options[name] for name in ("kind", "method", "significance") if name in options}
    given |= {"scheduler": options["scheduler"]} if "scheduler" in options else {}
    _check_words(given, kind=("frequent", "closed", "maximal"), method=("fast", "article"), significance=SIGNIFICANCE)
    given |= {"min_support": _support(options["min_support"])} if "min_support" in options else {}
    given |= {"min_confidence": real(options, "min_confidence")} if "min_confidence" in options else {}
    numbers = (("max_length", 1), ("max_head", 1), ("top_k", 1), ("part_size", 1), ("workers", 1), ("seed", 0))
    given |= {name: whole(options, name, least, least) for name, least in numbers if name in options}
    given |= {"n_baskets": whole(options, "baskets", 1, 1)} if "baskets" in options else {}
    given |= {name: bool(options.get(name)) for name in ("strict", "drop_empty")}
    given |= {name: tuple(options.get(name, ())) for name in ("include", "exclude")}
    given |= {"keep_redundant": options["redundant"] == "keep"} if "redundant" in options else {}
    _check_words(options, redundant=("keep", "remove"), header=YES_NO, quotes=YES_NO)
    with refused():
        bounds = {name: real(options, f"budget_{name}") for name in BOUNDS if f"budget_{name}" in options}
        parts = Path(options["parts"]).expanduser().absolute() if "parts" in options else None
        request = Request(source, _layout(options), budget=Budget(**bounds), parts=parts, **given)
    out = Path(options["out"]).expanduser() if "out" in options else None
    say, lang = say_of(options), lang_of(options)
    mined = mine(request, store=store_of(options), label=label_of(options), out=out, say=say, words=lang)
    return ended(mined.result, options, **mined.plain)


YES_NO = ("yes", "no")
BOUNDS = ("itemsets", "seconds", "megabytes")
SIGNIFICANCE = ("holm", "fdr", "none")


def _check_words(options: Options, **allowed: tuple[str, ...]) -> None:
    for name, words in allowed.items():
        if name in options and options[name] not in words:
            raise ConfigError(f"--{name} {options[name]}: must be one of {', '.join(words)}")


def _support(text: str) -> float:
    """A count where it is written as a whole number, else a share."""
    if text.isdecimal():
        return int(text)
    return real({"min_support": text}, "min_support")


def _layout(options: Options) -> Layout:
    from mining.layouts import DELIMITERS, Layout

    given: dict[str, Any] = {name: options[name] for name in ("form", "encoding", "transaction") if name in options}
    given |= {"item": listed(options, "item")[0]} if listed(options, "item") else {}
    if "delimiter" in options:
        given["delimiter"] = DELIMITERS.get(options["delimiter"], options["delimiter"])
    switches = {name: options[name] == "yes" for name in ("header", "quotes") if name in options}
    return Layout(**given, **switches)


def _rules(words: list[str], options: Options) -> int:
    if words[:1] == ["diff"]:
        return _rules_diff(words[1:], options)
    handle = one(words, "RUN, or: taolu rules diff A B")
    from experiments.rule_report import COLUMNS, rule_lines
    from experiments.rules import write_rules
    from experiments.store.rules import chosen, read_rules

    table = read_rules(store_of(options), handle)
    found = chosen(table, _wanted(options))
    if "out" in options:
        write_rules(found, path := Path(options["out"]).expanduser())
        print(f"written: {path}", file=sys.stderr)
    rows = found.slice(0, whole(options, "limit", 20, 1)).to_pylist()
    if options.get("json"):
        print_json({"total": table.num_rows, "found": found.num_rows, "rules": rows})
        return 0
    lang = lang_of(options)
    shown = lang("rules_shown", n=len(rows)) if rows else ""
    print(lang("rules_of", n=found.num_rows, total=table.num_rows) + shown)
    by = options.get("sort", "").removeprefix("-")
    for line in rule_lines(rows, [*COLUMNS, *([by] if by and by not in COLUMNS else [])], lang):
        print(line)
    return 0


def _wanted(options: Options) -> Wanted:
    from experiments.store.rules import Wanted

    bounds = {name: real(options, name) for name in FILTERS if name[:4] in ("min_", "max_") and name in options}
    return Wanted(
        tuple(options.get("item", ())),
        tuple(options.get("antecedent", ())),
        tuple(options.get("consequent", ())),
        {name[4:]: value for name, value in bounds.items() if name.startswith("min_")},
        {name[4:]: value for name, value in bounds.items() if name.startswith("max_")},
        tuple(listed(options, "basket")),
        options.get("sort", "-confidence" if options.get("basket") else ""),
    )


def _rules_diff(words: list[str], options: Options) -> int:
    for name in options:
        if name not in (*STORE, "lang", "json"):
            raise ConfigError(f"--{name}: belongs to rules RUN, not to rules diff")
    if len(words) != 2:
        raise ConfigError(f"give two runs, as in: taolu rules diff A B; found {len(words)}")
    from experiments.rules import difference_lines
    from experiments.store.rules import difference, read_rules

    store = store_of(options)
    found = difference(*(read_rules(store, handle) for handle in words))
    return tell(options, found.plain(), difference_lines(found, lang_of(options)))


MINERS: Tasks = {"apriori": (_apriori, APRIORI), "lexicon": (mine_lexicon, LEXICON)}
VERBS: dict[str, Verb] = {
    "mine": Verb(
        "mine apriori FILE|stdlib|quest | mine lexicon [PATH|pydoc|pydoc_zh|hub:NAME|- ...]",
        "itemsets and association rules of baskets, or the words of raw texts, as a run",
        _mine,
        (*dict.fromkeys((*APRIORI, *LEXICON)), *STORE, "lang", "json"),
        example="mine apriori stdlib",
    ),
    "rules": Verb(
        "rules RUN | rules diff A B",
        "the rules of a run, filtered, or recommended for a basket; what two runs differ in",
        _rules,
        (*FILTERS, "basket", "sort", "limit", "out", *STORE, "lang", "json"),
        example="rules last --item milk --min_lift 2 --sort -lift",
    ),
}
