"""Real baskets that every Python has: each module file of the standard library is the set of modules it imports."""

from __future__ import annotations

import ast
import functools
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from mining.baskets import Baskets

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
_IMPORTS = re.compile(r"^[ \t]*(?:import|from)[ \t]", re.MULTILINE)


@functools.cache
def stdlib_baskets() -> Baskets:
    """A basket a file of the running Python, its tests left out; files that import nothing are empty baskets."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(file for file in folder.rglob("*.py") if not LEFT_OUT & {*file.relative_to(folder).parts})
    return Baskets.of([imports(file, folder) for file in files])


def imports(file: Path, folder: Path) -> list[str]:
    """The modules a file imports anywhere in it, sorted; relative ones by their full names."""
    text = file.read_text(encoding="utf-8", errors="replace")
    if not _IMPORTS.search(text):
        return []
    package = file.relative_to(folder).parent.parts
    return sorted({name for node in _statements(ast.parse(text)) for name in _names(node, package)})


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node; what is inside expressions, most of a tree, cannot hold an import."""
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for statement in getattr(node, block, ()):
            yield statement
            yield from _statements(statement)


def _names(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else ()
        inside = [*above, *([node.module] if node.module else [])]
        if node.module:
            yield ".".join(inside)
        else:  # from . import name
            yield from (".".join([*inside, alias.name]) for alias in node.names)
