"""Every package is pinned by version and hash, and none comes along that no lock names."""

import re
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINNED = re.compile(r"([a-z0-9-]+)==([A-Za-z0-9.+]+)( ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)")
OPTIONS = {"--only-binary :all:", "--no-binary connection-pool"}
INSTALLED = ("requirements", "build")  # what every platform gets, beside torch
EXTRAS = {"lofi": {"weights"}}


def text_of(lock: Path) -> str:
    """A lock without its comments."""
    return "".join(line for line in lock.read_text().splitlines(keepends=True) if not line.startswith("#"))


def pins(lock: Path) -> dict[str, str]:
    return {name: number for name, number, _, _ in PINNED.findall(text_of(lock))}


@pytest.fixture(scope="module")
def locks(repository: Path) -> dict[str, Path]:
    return {path.stem: path for path in (repository / "envs").glob("*.lock")}


def test_a_lock_holds_pins_with_hashes_and_nothing_else(locks: dict[str, Path]) -> None:
    assert locks.keys() == {"build", "requirements", "tests", "torch", "torch-cpu"}
    for lock in locks.values():
        rest = [line.strip() for line in PINNED.sub("", text_of(lock)).splitlines() if line.strip()]
        assert set(rest) <= OPTIONS, lock
        assert pins(lock)
        assert "//" not in lock.read_text(), "a lock names no place to install from"


def test_no_package_is_pinned_twice(locks: dict[str, Path]) -> None:
    names = [name for stem, lock in locks.items() if stem != "torch-cpu" for name in pins(lock)]
    assert len(names) == len(set(names))
    assert pins(locks["torch-cpu"])["torch"].partition("+")[0] == pins(locks["torch"])["torch"]


def needed(name: str, seen: set[str]) -> Iterator[str]:
    """A package and all that it needs here, as the installed packages say."""
    if name in seen:
        return
    seen.add(name)
    yield name
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        extras = EXTRAS.get(name, set()) | {""}
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            yield from needed(canonicalize_name(requirement.name), seen)


def test_all_that_lofi_needs_is_pinned_and_is_what_is_installed(locks: dict[str, Path]) -> None:
    pinned = {name: number for stem in INSTALLED for name, number in pins(locks[stem]).items()}
    pinned |= pins(locks["torch"])
    wanted = set(needed("lofi", set())) - {"lofi"}
    assert len(wanted) > 50
    assert wanted <= pinned.keys()
    differing = {name: (version(name), pinned[name]) for name in wanted - {"torch"} if version(name) != pinned[name]}
    assert not differing
    assert version("torch").partition("+")[0] == pinned["torch"]


def test_whatever_installs_checks_hashes_and_resolves_nothing(repository: Path) -> None:
    scripts = ["Makefile", "envs/install.sh", "envs/lofi.post-deploy.sh", ".ci/run"]
    lines = [line for script in scripts for line in (repository / script).read_text().splitlines()]
    installs = [line for line in lines if re.search(r"\bpip\"? install|-m pip install", line) and "#" not in line]
    assert len(installs) == 3
    for line in installs:
        assert "--no-deps" in line
        assert "--require-hashes" in line or line.endswith("--editable ."), line
