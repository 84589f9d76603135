"""The report of 2,000 cells and 10^7 samples: how large, how long to build, how long to open.

Run as a program it builds that report: a process of its own, whose memory can be asked for.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from item import Item, Target, item_of

REPOSITORY = Path(__file__).parent.parent
sys.path.append(str(REPOSITORY))  # the made-up sweep and the browser are those of the tests

from tests.browser.chromium import Page  # noqa: E402
from tests.browser.scaled import Large, make_large  # noqa: E402

MODELS, DATASETS, METHODS, KEEPS = 4, 10, 10, 5
IMAGES, COPIES = 50, 34  # of 3 questions each: 5,100 samples a cell
OPENED = 5


@dataclass(frozen=True)
class Built:
    """A report and what it took to build."""

    page: Path
    seconds: float
    peak_bytes: int

    @property
    def page_bytes(self) -> int:
        return self.page.stat().st_size

    @property
    def side_bytes(self) -> int:
        """Of the rows that are loaded on demand."""
        return sum(file.stat().st_size for file in self.page.parent.rglob("*") if file != self.page and file.is_file())


def large_sweep(folder: Path) -> Large:
    return make_large(
        folder, models=MODELS, datasets=DATASETS, methods=METHODS, keeps=KEEPS, images=IMAGES, copies=COPIES
    )


def build_apart(large: Large, folder: Path) -> Built:
    """Build the report in a process of its own."""
    folder.mkdir()
    made = folder / "large.json"
    made.write_text(json.dumps(asdict(large), default=str))
    page = folder / "reports" / "index.html"
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, str(made), str(page)], cwd=REPOSITORY)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"building the report failed with status {os.waitstatus_to_exitcode(status)}")
    return Built(page, time.perf_counter() - start, peak(usage))


def described(large: Large, built: Built) -> str:
    """What was built, and what it took."""
    return (
        f"{large.n_cells} cells, {large.n_samples / 1e6:.1f} million samples, {large.n_flips / 1e6:.1f} million flips: "
        f"a page of {built.page_bytes / 1e6:.1f} MB and {built.side_bytes / 1e6:.1f} MB beside it, "
        f"built in {built.seconds:.0f} s with {built.peak_bytes / 1e9:.1f} GB"
    )


def peak(usage: resource.struct_rusage) -> int:
    """The most memory a process had, in bytes: macOS counts these, Linux kilobytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def opening(built: Built, profile: Path) -> list[tuple[float, float]]:
    """Seconds from the start of navigation to the load event, and to the first paint with content, each time."""
    found = []
    for i in range(OPENED):
        with Page(profile / str(i)) as page:
            page.open(built.page)
            page.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))")
            load = page.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
            paint = page.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            found.append((load / 1000, paint / 1000))
    return found


def report_scale() -> Item:
    """The report of 2,000 cells and 10^7 samples: seconds until Chromium has loaded it from disk."""
    with tempfile.TemporaryDirectory() as folder:
        large = large_sweep(Path(folder) / "results")
        built = build_apart(large, Path(folder) / "built")
        loads, paints = zip(*opening(built, Path(folder) / "profiles"), strict=True)
    reference = f"{described(large, built)}; first paint at {statistics.median(paints):.2f} s"
    return item_of("report_scale", list(loads), reference, unit="s")


def report_2k_cells() -> Item:
    """The same report: seconds to build it from stored tables."""
    with tempfile.TemporaryDirectory() as folder:
        large = large_sweep(Path(folder) / "results")
        built = build_apart(large, Path(folder) / "built")
    return item_of(
        "report_2k_cells", [built.seconds], described(large, built), unit="s", target=Target(60, at_most=True)
    )


if __name__ == "__main__":
    stored = json.loads(Path(sys.argv[1]).read_text())
    stored |= {"root": Path(stored["root"]), "files": tuple(map(Path, stored["files"]))}
    Large(**stored).build(Path(sys.argv[2]))
