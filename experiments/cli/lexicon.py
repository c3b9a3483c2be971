"""Verbs on words: mine lexicon, segment, lexicon diff and score."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.cli.options import LABEL, STORE, Options, Tasks, Verb, run_task
from experiments.cli.output import ended, lang_of, say_of, tell
from experiments.cli.values import label_of, one, real, store_of, whole
from experiments.errors import ConfigError

SETTINGS = ("method", "min_count", "min_prob", "min_pmi", "max_length", "numbers", "latin")
LISTS = ("known", "new_only", "keep", "stop")
LEXICON = (*SETTINGS, *LISTS, "encoding", "field", "parts", "memory", "workers", "scheduler", "out", *LABEL)
METHODS = ("best", "article", "greedy")
TREATMENTS = ("run", "each", "break")


def mine_lexicon(words: list[str], options: Options) -> int:
    """Runs `mine lexicon`."""
    from experiments.basket_source import refused
    from experiments.mine_lexicon import DEFAULT, Request, mine
    from mining.corpus import Policy
    from mining.lexicon import Settings
    from mining.sources import policy_of

    sources = tuple(words) or (DEFAULT,)
    given: dict[str, Any] = {
        name: whole(options, name, 2, 1) for name in ("min_count", "max_length") if name in options
    }
    given |= {"min_prob": real(options, "min_prob")} if "min_prob" in options else {}
    given |= {"min_pmi": _numbers("min_pmi", options["min_pmi"])} if "min_pmi" in options else {}
    given |= {"method": options["method"]} if "method" in options else {}
    more: dict[str, Any] = {
        name: options[name] for name in ("known", "encoding", "field", "scheduler") if name in options
    }
    more |= {name: Path(options[name]).expanduser() for name in ("keep", "stop") if name in options}
    more |= {"parts": Path(options["parts"]).expanduser().absolute()} if "parts" in options else {}
    more |= {"memory": real(options, "memory")} if "memory" in options else {}
    with refused():
        policy = policy_of(sources)
        if "numbers" in options or "latin" in options:
            policy = Policy(options.get("numbers", policy.numbers), options.get("latin", policy.latin))
        settings = Settings(**given)
    request = Request(
        sources,
        settings,
        policy,
        new_only=bool(options.get("new_only")),
        workers=whole(options, "workers", 1, 1),
        **more,
    )
    out = Path(options["out"]).expanduser() if "out" in options else None
    say, lang = say_of(options), lang_of(options)
    mined = mine(request, store=store_of(options), label=label_of(options), out=out, say=say, words=lang)
    return ended(mined.result, options, **mined.plain)


def _numbers(name: str, text: str) -> float | tuple[float, ...]:
    """One number, or one for each length."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise ConfigError(f"--{name} {text}: must be a number, or one for each length, as 0,2,4,6")
    return found[0] if len(found) == 1 else found


def _segment(words: list[str], options: Options) -> int:
    source = one(words, "TEXT, FILE or -")
    if "lexicon" not in options:
        raise ConfigError("--lexicon: by which words? give a run of mine lexicon, or a file with a word a line")
    from experiments.basket_source import refused
    from experiments.lexicons import segmenter_of

    segmenter = segmenter_of(store_of(options), options["lexicon"])
    with refused():
        is_open = False  # whether the last piece ended within a line
        for piece in segmenter.stream(_texts(source, options)):
            sys.stdout.write(piece.encode("utf-8", "replace").decode())  # half a surrogate pair cannot be written
            sys.stdout.flush()  # what comes through a pipe goes on at once
            is_open = not piece.endswith("\n")
        if is_open:
            sys.stdout.write("\n")
    return 0


def _texts(source: str, options: Options) -> Iterator[str]:
    from mining.texts import STDIN, SUFFIXES, read

    try:
        is_file = source == STDIN or (bool(source) and Path(source).expanduser().exists())
    except (OSError, ValueError):  # too long for a name, or with a NUL
        is_file = False
    if not is_file and source.endswith((*SUFFIXES, ".gz")) and not any(map(str.isspace, source)):
        raise ConfigError(f"{source}: no such file; give a file, a text, or - for standard input")
    if not is_file:
        yield source
        return
    path = source if source == STDIN else str(Path(source).expanduser())
    typed = sys.stdin.encoding if source == STDIN and sys.stdin.isatty() else None
    yield from read(path, encoding=options.get("encoding", typed), field=options.get("field"))


def _lexicon(words: list[str], options: Options) -> int:
    return run_task("lexicon", TASKS, words, options, default="")


def _diff(words: list[str], options: Options) -> int:
    if len(words) != 2:
        raise ConfigError(f"give two lexicons, runs or files, as in: taolu lexicon diff A B; found {len(words)}")
    from experiments.lexicons import difference
    from experiments.lexicons import words_of as lexicon_of

    store = store_of(options)
    found = difference(*(lexicon_of(store, handle) for handle in words))
    return tell(options, found.plain(), found.lines(lang_of(options)))


def _score(words: list[str], options: Options) -> int:
    if len(words) != 2:
        raise ConfigError(f"give the cut text and the gold standard: taolu lexicon score CUT GOLD; found {len(words)}")
    from experiments.basket_source import refused
    from experiments.words import padded
    from mining.segment import score
    from mining.texts import read

    with refused():
        cut, gold = ("".join(read(name, encoding=options.get("encoding"))) for name in words)
        found = score(cut, gold)
    lang = lang_of(options)
    rows = [
        f"{padded(lang(f'score_{what}'), 8)} {lang('score', p=p, r=r, f=f)}"
        for what, (p, r, f) in (("words", found[:3]), ("borders", found[3:]))
    ]
    return tell(options, found._asdict(), rows)


def _which(words: list[str], options: Options) -> int:
    raise ConfigError("name what to do: taolu lexicon diff A B, or: taolu lexicon score CUT GOLD")


TASKS: Tasks = {"": (_which, ()), "diff": (_diff, ()), "score": (_score, ("encoding",))}
VERBS: dict[str, Verb] = {
    "segment": Verb(
        "segment TEXT|FILE|- --lexicon RUN|FILE",
        "a text cut into words, single spaces between them, lines kept",
        _segment,
        ("lexicon", "encoding", "field", *STORE),
        example="segment 去北京大学 --lexicon last",
    ),
    "lexicon": Verb(
        "lexicon diff A B | lexicon score CUT GOLD",
        "what two lexicons differ in; how well a cut text agrees with a gold standard",
        _lexicon,
        ("encoding", *STORE, "lang", "json"),
        example="lexicon score cut.txt gold.txt",
    ),
}
