"""Imports go one way: a layer may use those before it in this list, and only where the design says so."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

# package or module of lofi -> what else of lofi it may import
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "grace": set(),
    "startup": set(),
    "edits": set(),
    "refusals": set(),
    "progress": set(),
    "recover": {"errors"},
    "credentials": {"errors"},
    "strict_yaml": {"credentials", "errors"},
    "cell": {"errors"},
    "scratch": set(),
    "checksum": set(),
    "encodings": set(),
    "store": {"checksum", "encodings", "scratch"},
    "spectra": set(),
    "projector": {"spectra"},
    "leverage": {"projector", "spectra"},
    "provenance": set(),
    "scoring": {"edits", "errors"},
    "methods": {"errors", "leverage", "spectra"},
    "data": {"errors", "refusals", "store", "strict_yaml"},
    "models": {"errors", "methods", "refusals"},
    "sweep": {"cell", "errors", "methods"},
    "request": {"sweep"},
    "made_up": {"cell", "errors", "store", "sweep"},
    "breach": {"errors"},
    "feasible": {"cell", "errors", "methods", "models", "sweep"},
    "config": {"breach", "cell", "data", "errors", "feasible", "methods", "models", "scoring", "strict_yaml", "sweep"},
    "plan": {"cell", "data", "errors", "methods", "models", "store", "sweep"},
    "identity": {"cell", "data", "methods", "models", "scoring", "sweep"},
    "grading": {"data", "errors", "scoring", "store"},
    "data_check": {"data", "errors", "grading", "scoring"},
    "rescoring": {"data", "errors", "grading", "identity", "scoring", "store", "sweep"},
    "engine": {
        "cell",
        "data",
        "errors",
        "grace",
        "grading",
        "identity",
        "methods",
        "models",
        "plan",
        "progress",
        "provenance",
        "scratch",
        "spectra",
        "startup",
        "store",
        "sweep",
    },
    "reduction": {"cell", "engine", "errors", "methods", "models", "sweep"},
    "pretrained": {"models"},
    "answers": {"engine", "errors", "models"},
    "tables": {"errors"},
    "stats": {"cell", "edits", "errors", "scoring", "scratch", "store", "tables"},
    "report": {"cell", "errors", "scratch", "store", "tables"},
    "reproduce": {
        "data",
        "errors",
        "identity",
        "methods",
        "models",
        "provenance",
        "scoring",
        "store",
        "strict_yaml",
        "sweep",
        "tables",
    },
    "dataset_pages": {"data", "scoring"},
    "training": {"data", "errors", "models", "progress", "store"},
    "commands": {
        "config",
        "data",
        "data_check",
        "engine",
        "errors",
        "identity",
        "made_up",
        "models",
        "plan",
        "progress",
        "provenance",
        "recover",
        "report",
        "reproduce",
        "rescoring",
        "scoring",
        "startup",
        "stats",
        "store",
        "sweep",
        "training",
    },
    "looks": {
        "config",
        "data",
        "data_check",
        "engine",
        "errors",
        "identity",
        "progress",
        "reproduce",
        "request",
        "scoring",
        "stats",
    },
    "cli": {"commands", "credentials", "errors", "grace", "looks"},
}
LIGHT = ("lofi.cli", "lofi.config", "lofi.methods.registry", "lofi.data.registry", "lofi.models.facts", "lofi.identity")
WITHOUT_A_MODEL = ("lofi.engine.stages", "lofi.engine.status", "lofi.rescoring", "lofi.data.prepare", "lofi.plan.plan")
HEAVY = ("torch", "transformers", "datasets", "pandas", "duckdb", "pyarrow", "numpy")


def imported(path: Path) -> set[str]:
    """Every module of lofi that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from lofi.data import images` names the module images, `from lofi import __version__` does not
            found |= {node.module} if node.module != "lofi" else {f"lofi.{name.name}" for name in node.names}
    return {name for name in found if name.startswith("lofi.")}


def test_imports_go_one_way(repository: Path) -> None:
    order = list(ALLOWED)
    for layer, allowed in ALLOWED.items():
        assert all(order.index(other) < order.index(layer) for other in allowed), layer
    for path in sorted((repository / "lofi").rglob("*.py")):
        layer = path.relative_to(repository / "lofi").parts[0].removesuffix(".py")
        if layer == "__init__":
            continue
        assert layer in ALLOWED, f"{path} belongs to no layer of this list"
        used = {name.split(".")[1] for name in imported(path)} - {layer, "__version__", "NUMERICS_VERSION"}
        assert used <= ALLOWED[layer], f"{path} imports {sorted(used - ALLOWED[layer])}"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_stay_light(module: str) -> None:
    assert heavy_beside(module) == set()


@pytest.mark.parametrize("module", WITHOUT_A_MODEL)
def test_what_runs_no_model_imports_tables_at_most(module: str) -> None:
    assert heavy_beside(module) <= {"numpy", "pyarrow"}


def heavy_beside(module: str) -> set[str]:
    """What a module imports that takes long."""
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_modules_and_functions_stay_short(repository: Path) -> None:
    for path in sorted((repository / "lofi").rglob("*.py")):
        text = path.read_text()
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                start = node.body[0].end_lineno if ast.get_docstring(node) and node.body[0].end_lineno else node.lineno
                assert node.end_lineno - start <= 40, f"{path}:{node.name}"
