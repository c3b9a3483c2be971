"""Any name as MLflow can store it, and back: characters it refuses become `:hex:`."""

from __future__ import annotations

import hashlib
import re

LONGEST = 250  # MLflow's limit on a key
_REFUSED = re.compile(r"[^\w.\- /]")  # \w is any script's letters and digits; the colon is MLflow's too, but ours here
_ENCODED = re.compile(r":([0-9a-f]{1,6}):")


def encode(name: str) -> str:
    """The name as a key of MLflow; what `decode` turns back.

    MLflow also refuses names that are no clean path: a leading, doubled or final slash, and parts `.` or `..`. A name
    that stays too long is cut and ends in a digest, which nothing turns back.

    >>> encode("验证/ppl@1%"), encode("//x/..")
    ('验证/ppl:40:1:25:', ':2f::2f:x/:2e::2e:')
    """
    key = _REFUSED.sub(_hex, name)
    key = re.sub(r"(?:^|(?<=/))\.{1,2}(?=/|$)", lambda dots: "".join(map(_hex_of, dots[0])), key)
    key = re.sub(r"^/+|/+$|/{2,}", lambda slashes: "".join(map(_hex_of, slashes[0])), key)
    if not key:
        return ":20:"
    if len(key) > LONGEST:
        key = f"{key[: LONGEST - 10]}:{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return key


def decode(key: str) -> str:
    """The name that `encode` made a key of.

    >>> decode("验证/ppl:40:1:25:")
    '验证/ppl@1%'
    """
    return _ENCODED.sub(_character, key) if ":" in key else key


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number <= 0x10FFFF else match[0]


def _hex(match: re.Match[str]) -> str:
    return _hex_of(match[0])


def _hex_of(character: str) -> str:
    return f":{ord(character):x}:"
