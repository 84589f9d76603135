"""What tests share: small real models and datasets, built once per test process."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

REPOSITORY = Path(__file__).parent.parent
LONG = ("workflow", "slurm", "faults", "browser", "families")  # folders whose files take minutes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One file of each long folder in turn, then all others.

    So a test process that waits for a cluster has one beside it that computes, and none is left with a long file when
    the other is done.
    """
    files: dict[str, dict[Path, int]] = {name: {} for name in LONG}

    def place(item: pytest.Item) -> tuple[int, int]:
        folder = item.path.relative_to(REPOSITORY / "tests").parts[0]
        if folder not in files:
            return len(items), 0
        return files[folder].setdefault(item.path, len(files[folder])), LONG.index(folder)

    items[:] = sorted(items, key=place)


def require(program: str, fix: str) -> None:
    """Skip where an outside program is missing, but fail where LOFI_REQUIRE names it, as CI does."""
    if shutil.which(program):
        return
    if program in os.environ.get("LOFI_REQUIRE", "").split():
        pytest.fail(f"{program} is missing and LOFI_REQUIRE asks for it: {fix}")
    pytest.skip(f"{program} is missing: {fix}")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained LLaVA with five decoder layers, in the format of the hub."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny-llava"))


def write_tiny_model(folder: Path) -> Path:
    """Write that model to a folder, and return it."""
    import torch

    from lofi.training.llava import build_config, build_model, build_processor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        build_model(build_config(width=32, layers=5, vision_width=32, vision_layers=3)).save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three built-in datasets, small, in the format of the hub."""
    from lofi.data.digits.folder import write_folder

    root = tmp_path_factory.mktemp("digits")
    for name in ("digits-pope", "digits-sqa", "digits-vqa"):
        write_folder(name, root / name, n_images=8, seed=3)
    return root
