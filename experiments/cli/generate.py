"""The verb generate."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from experiments.cli.options import STORE, Options, Verb
from experiments.cli.output import print_json
from experiments.cli.values import first, none, real, store_of, whole
from experiments.errors import ConfigError

if TYPE_CHECKING:
    from experiments.generate import Request, Speaker


def _generate(words: list[str], options: Options) -> int:
    source, rest = first(words, "run or folder", "generate last --prompt TEXT")
    none(rest)
    from experiments.generate import open_speaker

    request = _request(options)
    if not request.prompts and not options.get("interactive"):
        raise ConfigError("needed: --prompt TEXT, --preset 7292 or --interactive")
    checkpoint, dtype = options.get("checkpoint", "best"), options.get("dtype", "float32")
    speaker = open_speaker(source, store_of(options), checkpoint, dtype)
    if options.get("interactive"):
        return _converse(speaker, request)
    if options.get("stream"):
        return _stream(speaker, request)
    spoken = speaker.speak(request)
    if options.get("json"):
        print_json(spoken.plain())
        return 0
    for row in spoken.rows:
        print(f"{row['prompt']}{row['text']}\n")
    print(spoken.cost(), file=sys.stderr)
    return 0


def _request(options: Options) -> Request:
    """The preset with the options over it."""
    from dataclasses import replace

    from experiments.generate import Request, preset

    begin = preset(options["preset"]) if "preset" in options else Request()
    given: Options = {"prompts": tuple(options["prompt"])} if "prompt" in options else {}
    numbers = (("min_length", 0), ("max_length", 1), ("num", 1), ("num_beams", 1), ("seed", 0))
    given |= {name: whole(options, name, least, least) for name, least in numbers if name in options}
    given |= {"end_token": options["end_token"]} if "end_token" in options else {}
    drawn: Options = {"top_k": whole(options, "top_k", 1, 1)} if "top_k" in options else {}
    drawn |= {name: real(options, name) for name in ("top_p", "temperature") if name in options}
    drawn |= {"edge": options["top_p_edge"]} if "top_p_edge" in options else {}
    try:
        return replace(begin, **given, truncation=replace(begin.truncation, **drawn))
    except ValueError as error:
        raise ConfigError(f"--{error}") from error


def _stream(speaker: Speaker, request: Request) -> int:
    """Each prompt and its continuation, as it is made."""
    for prompt in request.prompts:
        print(prompt, end="", flush=True)
        for piece in speaker.stream(prompt, request):
            print(piece, end="", flush=True)
        print()
    return 0


def _converse(speaker: Speaker, request: Request) -> int:
    """Continues each line that is typed, until there is none."""
    print("type the beginning of a text; an empty line ends", file=sys.stderr)
    for line in sys.stdin:
        prompt = line.rstrip("\n")
        if not prompt:
            break
        try:
            for piece in speaker.stream(prompt, request):
                print(piece, end="", flush=True)
        except ConfigError as error:  # of this line alone
            print(f"taolu: {error}", file=sys.stderr, end="")
        print(flush=True)
    return 0


VERBS: dict[str, Verb] = {
    "generate": Verb(
        "generate RUN|DIR|FILE.ckpt --prompt TEXT",
        "continue texts with a GPT-2 or GPT2_ML of a run, a folder or a checkpoint",
        _generate,
        (
            *("prompt", "preset", "top_k", "top_p", "top_p_edge", "temperature", "min_length", "max_length"),
            *("end_token", "num", "num_beams", "seed", "stream", "interactive", "dtype", "checkpoint"),
            *(*STORE, "json"),
        ),
        example='generate last:gpt2_pydoc --prompt "The following" --top_p 0.9 --num 3',
    ),
}
