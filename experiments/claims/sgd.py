"""Every claim of kexue.fm/archives/5655, SGD and momentum as dynamics, sorted by label; a file an idea."""

from __future__ import annotations

import re

from experiments.claims import (
    critical_batch,
    edge,
    escape,
    floors,
    momentum,
    noise,
    order,
    recipe,
    shuffling,
    stability,
    temperature,
)
from experiments.claims.registry import Claim

PARTS = (noise, floors, temperature, shuffling, stability, edge, order, momentum, recipe, escape, critical_batch)


def _place(claim: Claim) -> tuple[int, int, bool]:
    """S3 before S3c before S3.1."""
    label, row = re.findall(r"\d+", claim.id.partition("-")[2] + ".0")[:2]
    return int(label), int(row), claim.form == "corrected"


CLAIMS: tuple[Claim, ...] = tuple(
    sorted(
        (one for part in PARTS for one in part.CLAIMS),
        key=_place,
    )
)
