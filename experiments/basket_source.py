"""Where the baskets of a mining job come from: a file, the standard library, a generator; in memory or in chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.errors import ConfigError
from experiments.words import Words
from mining.baskets import Baskets
from mining.layouts import Layout
from mining.quest import Quest
from mining.readers import basket_chunks, read_baskets
from mining.stdlib import stdlib_baskets

if TYPE_CHECKING:
    from experiments.mine import Request

SOURCES = ("stdlib", "quest")


@contextmanager
def refused() -> Iterator[None]:
    """What the miners refuse, as the command does: in one line, before there is a run."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(" ".join(str(error).split())) from error


@dataclass
class Source:
    """Baskets, or, where they are larger than memory, how to come by them.

    Args:
        name: of the data.
        baskets: None where they come in chunks.
        chunks: of so many baskets.
        layout: how a file was read.
    """

    name: str
    baskets: Baskets | None
    chunks: Callable[[int], Iterable[Baskets]]
    layout: Layout | None = None

    @classmethod
    def of(cls, request: Request) -> Source:
        """The source that is named.

        Raises ConfigError for one without baskets.
        """
        if request.source == "quest":
            quest = Quest(seed=request.seed)
            made = None if request.parts else quest.baskets(request.n_baskets)
            return cls("quest", made, lambda size: quest.chunks(request.n_baskets))
        if request.source == "stdlib":
            found = stdlib_baskets()
            return cls("stdlib", found.without_empty() if request.drop_empty else found, lambda size: [found])
        path = Path(request.source).expanduser()
        if request.parts is not None:
            return cls(path.name, None, lambda size: basket_chunks(path, size, request.layout), request.layout)
        if not path.exists() and "/" not in request.source:
            raise ConfigError(f"{request.source}: no such file; or name one of {', '.join(SOURCES)}")
        found, layout = read_baskets(path, request.layout)
        if not len(found):
            raise ConfigError(f"{request.source}: holds no baskets")
        return cls(path.name, found.without_empty() if request.drop_empty else found, lambda size: [found], layout)

    def digest(self, request: Request) -> str:
        """SHA-256 of the file, or of the baskets."""
        if self.name != request.source:
            with Path(request.source).expanduser().open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if self.baskets is None:
            return hashlib.sha256(repr((Quest(seed=request.seed), request.n_baskets)).encode()).hexdigest()
        whole = hashlib.sha256(repr(list(self.baskets.items)).encode())
        whole.update(self.baskets.indptr.tobytes())
        whole.update(self.baskets.indices.tobytes())
        return whole.hexdigest()

    def facts(self) -> dict[str, Any]:
        """About the data."""
        if self.baskets is None:
            return {}
        lengths = np.diff(self.baskets.indptr)
        figures = {"baskets": len(self.baskets), "items": len(self.baskets.items), "entries": len(self.baskets.indices)}
        figures |= {"longest": int(lengths.max(initial=0)), **dict(self.baskets.notes)}
        return figures | ({"read": self.layout.said()} if self.layout else {})

    def said(self, words: Words) -> str:
        """The data in one line."""
        if self.baskets is None:
            return words("baskets_in_parts", name=self.name)
        facts = self.facts()
        mean = facts["entries"] / max(facts["baskets"], 1)
        text = words("baskets_read", name=self.name, baskets=facts["baskets"], items=facts["items"], mean=mean)
        notes = self.baskets.notes.items()
        noted = [f"{count:,} {words.known(f'baskets_{name}', name)}" for name, count in notes if count]
        layout = words("baskets_layout", layout=self.layout.said()) if self.layout else ""
        return "; ".join([text, *noted]) + layout
