"""What made a file: versions, commit, machine. Written into every Parquet file, shown in the report."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import lofi

PACKAGES = (
    *("torch", "torchao", "transformers", "tokenizers", "datasets"),
    *("pyarrow", "duckdb", "numpy", "scipy", "pillow"),
)


@cache
def commit() -> str:
    """The commit of this checkout, with `+` where files differ from it; empty outside a checkout."""
    folder = Path(lofi.__file__).parent
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("+" if _git(folder, "status", "--porcelain", "--", str(folder)) else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of every package that could change a number."""
    found = {"python": platform.python_version(), "lofi": lofi.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # report and aggregate run without torch
            continue
    return found


def machine() -> dict[str, str]:
    """The class of machine, without anything that names it."""
    return {"system": platform.system(), "processor": _processor()}


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
