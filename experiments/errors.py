"""The one error a user can cause: what was found, what is allowed, what to do next; one line, exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """Something the user gave cannot be used; the message is one line made for them."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A hint at the closest allowed name, or the empty string.

    >>> did_you_mean("latnet_dim", ["latent_dim", "beta"])
    " (did you mean 'latent_dim'?)"
    """
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def unknown(what: str, name: str, allowed: Iterable[str]) -> ConfigError:
    """The error for a mistyped name: what it was, the closest match, and every name there is."""
    names = sorted(set(allowed))
    listed = ", ".join(names) if names else "(nothing yet)"
    return ConfigError(f"unknown {what} '{name}'{did_you_mean(name, names)}; allowed: {listed}")
