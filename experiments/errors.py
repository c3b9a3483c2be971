"""The one error a user can cause: what was found, what is allowed, what to do next; one line, exit status 2."""

from __future__ import annotations

from collections.abc import Iterable

from lightning_modules.parts import did_you_mean as did_you_mean


class ConfigError(ValueError):
    """Something the user gave cannot be used; the message is one line made for them."""


def unknown(what: str, name: str, allowed: Iterable[str], elsewhere: Iterable[str] = ()) -> ConfigError:
    """The error for a mistyped name: what it was, the closest match (also of those elsewhere), and every name here."""
    names = sorted(set(allowed))
    listed = ", ".join(names) if names else "(nothing yet)"
    return ConfigError(f"unknown {what} '{name}'{did_you_mean(name, [*elsewhere, *names])}; allowed: {listed}")
