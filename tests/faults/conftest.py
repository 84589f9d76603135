"""One small sweep in two parts that ran to its end undisturbed, and copies of it to disturb."""

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from lofi.store import first_broken, read_metadata
from tests.faults.process import start

JOB = ("--model", "m", "--dataset", "digits-pope")
COMMANDS = {
    "prepare": ("prepare", "--dataset", "digits-pope"),
    "reference": ("reference", *JOB),
    "evaluate": ("evaluate", *JOB),
    "aggregate": ("aggregate",),
    "report": ("report", "--date", "2026-01-01"),
}
HOW_IT_RAN = ["run_id", "t_vision_ms", "t_select_ms", "t_prefill_ms", "t_decode_ms"]
SCRATCH = re.compile(r"\..+\.[a-z0-9_]{8}")  # a folder in which something is made


@dataclass(frozen=True)
class Sweep:
    """A folder with the sweep, and how many seconds each command took that nobody disturbed."""

    folder: Path
    seconds: dict[str, float]

    def forget(self, *commands: str) -> None:
        """Take away what these commands made."""
        for command in commands:
            for path in self.made(command):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def made(self, command: str) -> list[Path]:
        """The files and folders that a command makes."""
        results = self.folder / "results"
        if command == "evaluate":
            return [*results.glob("samples/*/*/method=[rl]*"), *(path.parent for path in self.cached())]
        patterns = {"prepare": "data", "aggregate": "tables", "report": "../reports"}
        return list(results.glob(patterns[command]))

    def cached(self) -> list[Path]:
        """The finished reduced cells in the cache."""
        files = sorted((self.folder / "results/cache").glob("*/samples.parquet"))
        return [path for path in files if re.search("random|lofi", read_metadata(path)["cell"])]

    def parts(self) -> list[Path]:
        """Finished parts of unfinished cells."""
        return sorted((self.folder / "results/cache").glob("*/samples-*.parquet"))

    def files(self) -> list[Path]:
        """Every file of the results and the report that has its own name."""
        found = [path for root in ("results", "reports") for path in (self.folder / root).rglob("*")]
        return [path for path in found if path.is_file() and not any(map(SCRATCH.fullmatch, path.parts))]

    def leftovers(self) -> list[Path]:
        """Files that something was to be made of, and that nobody makes any more."""
        found = [path for root in ("results", "reports") for path in (self.folder / root).rglob("*")]
        return [path for path in found if path.is_file() and any(map(SCRATCH.fullmatch, path.parts))]

    def half(self) -> list[Path]:
        """Files under their own names that do not hold all that was to be in them."""
        pages = [path for path in self.files() if path.suffix == ".html"]
        half = [path for path in pages if not path.read_text().rstrip().endswith("</html>")]
        broken = first_broken(path for path in self.files() if path.suffix == ".parquet")
        return half + [broken] * (broken is not None)

    def contents(self, command: str) -> dict[str, object]:
        """What a command made, without what differs between two equal runs."""
        if command == "evaluate":
            files = sorted((self.folder / "results/samples").rglob("*.parquet"))
            return {str(path.relative_to(self.folder)): samples(path) for path in files}
        roots = self.made(command)
        files = sorted(path for root in roots for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


def samples(path: Path) -> list[dict[str, object]]:
    """The samples of a cell, without how long they took."""
    with pq.ParquetFile(path) as file:
        return file.read().drop_columns(HOW_IT_RAN).to_pylist()


@pytest.fixture(scope="session")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A folder with every result of the sweep, the report among them."""
    folder = tmp_path_factory.mktemp("finished")
    sweep = {
        "models": {"m": {"source": str(tiny_model), "batch_images": 16}},
        "datasets": {"digits-pope": {"limit": 66}},  # a part is 64 images
        "methods": {"random": {}, "lofi": {}},
        "keeps": [0.5],
        "stability_images": 0,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(sweep))
    seconds = {}
    for name, words in COMMANDS.items():
        started, since = start(folder, *words), time.monotonic()
        assert started.end() == 0, started.text()
        seconds[name] = time.monotonic() - since
    return Sweep(folder, seconds)


@pytest.fixture
def copy(finished: Sweep, tmp_path: Path) -> Sweep:
    """The same results elsewhere."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return Sweep(tmp_path / "copy", finished.seconds)
