"""Who may import whom, read from the source; and what importing loads, seen in a fresh process."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mining", "lightning_modules", "experiments", "dashboard", "benchmarks")
SOURCES = [*sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")), ROOT / "taolu.py"]

# Files of a folder may not import these.
FORBIDDEN = {
    "mining": ("torch", "pytorch_lightning", "mlflow", "experiments", "lightning_modules", "dashboard", "taolu"),
    "lightning_modules": ("experiments", "dashboard", "mlflow", "optuna", "streamlit", "taolu"),
    "experiments": ("dashboard", "streamlit", "taolu"),
    "dashboard": ("torch", "pytorch_lightning", "lightning_modules", "mlflow", "optuna", "taolu"),
}
# A library's only importers.
OWNERS = {
    "mlflow": ("experiments/store/", "experiments/logger.py"),
    "optuna": ("experiments/sweep.py", "experiments/store/studies.py", "experiments/store/study_documents.py"),
    "dask": ("experiments/cluster.py",),
    "distributed": ("experiments/cluster.py",),
    "streamlit": ("dashboard/",),
}
OPTIONAL = ("pandas", "pyarrow", "scipy", "polars", "numba")  # in mining: only in frames.py, inside functions


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Every module a file imports, at its top or inside functions; not what only type checkers read."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    tree = parsed(path)
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_folder_imports_only_what_stands_before_it(folder: str) -> None:
    files = [path for path in SOURCES if place(path).startswith(f"{folder}/")]
    wrong = [
        f"{place(path)} imports {module}"
        for path in files
        for module in imported(path)
        if any(is_of(module, package) for package in FORBIDDEN[folder])
    ]
    assert wrong == []


def test_the_dashboard_knows_of_experiments_only_the_store() -> None:
    wrong = [
        f"{place(path)} imports {module}"
        for path in SOURCES
        for module in imported(path)
        if place(path).startswith("dashboard/") and is_of(module, "experiments")
        if not is_of(module, "experiments.store") and not is_of(module, "experiments.errors")
    ]
    assert wrong == []


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_has_one_owner(library: str) -> None:
    wrong = [
        place(path)
        for path in SOURCES
        if any(is_of(module, library) for module in imported(path))
        if not place(path).startswith((*OWNERS[library], "benchmarks/"))
    ]
    assert wrong == []


def test_optional_libraries_of_mining_stand_in_one_file() -> None:
    wrong = [
        place(path)
        for path in SOURCES
        if place(path).startswith("mining/") and path.name != "frames.py"
        if any(is_of(module, library) for module in imported(path) for library in OPTIONAL)
    ]
    assert wrong == []


def test_only_the_command_prints() -> None:
    calls = [
        place(path)
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert [name for name in calls if not name.startswith(("benchmarks/", "experiments/cli/"))] == []


def test_no_file_is_named_after_nothing() -> None:
    nothing = ("utils", "util", "helpers", "helper", "common", "base", "misc")
    assert [place(path) for path in SOURCES if path.stem in nothing] == []


def test_every_file_says_what_it_is() -> None:
    assert [place(path) for path in SOURCES if not ast.get_docstring(parsed(path))] == []


@pytest.mark.parametrize("folder", ["experiments/store", "dashboard", "."])
def test_importing_what_only_reads_loads_no_torch(folder: str) -> None:
    modules = {
        "experiments/store": [p.stem for p in (ROOT / "experiments/store").glob("*.py") if p.stem != "__init__"],
        "dashboard": [f"views.{p.stem}" for p in (ROOT / "dashboard/views").glob("*.py") if p.stem != "__init__"],
        ".": ["taolu", "experiments.cli", "experiments.config", "experiments.completion", "experiments.trainer"],
    }[folder]
    package = "" if folder == "." else folder.replace("/", ".") + "."
    heavy = ["torch", "pytorch_lightning", "mlflow", "optuna"]
    heavy += ["streamlit", "lightning_modules.data"] if folder == "experiments/store" else []
    program = (
        f"import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module({package!r} + name)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
