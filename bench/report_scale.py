"""The report of 2,000 cells and 10^7 samples: how large, how long to build, how long to open.

Run as a program it builds that report: a process of its own, whose memory can be asked for.
"""

import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from item import Item, Target, item_of
from process import taken

REPOSITORY = Path(__file__).parent.parent
sys.path.append(str(REPOSITORY))  # the made-up sweep and the browser are those of the tests

from tests.browser.chromium import Page  # noqa: E402
from tests.browser.scaled import Large, make_large  # noqa: E402

MODELS, DATASETS, METHODS, KEEPS = 4, 10, 10, 5
IMAGES, COPIES = 50, 34  # of 3 questions each: 5,100 samples a cell
OPENED = 5


@dataclass(frozen=True)
class Built:
    """A report, how long it took to build, and both in words."""

    page: Path
    seconds: float
    described: str


def build_large(folder: Path) -> Built:
    """Make the large sweep, and build its report in a process of its own."""
    large = make_large(
        folder / "results", models=MODELS, datasets=DATASETS, methods=METHODS, keeps=KEEPS, images=IMAGES, copies=COPIES
    )
    made, page = folder / "large.json", folder / "reports" / "index.html"
    made.write_text(json.dumps(asdict(large), default=str))
    build = taken([sys.executable, __file__, str(made), str(page)], REPOSITORY)
    size = page.stat().st_size
    beside = sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file()) - size
    described = (
        f"{large.n_cells} cells, {large.n_samples / 1e6:.1f} million samples, {large.n_flips / 1e6:.1f} million flips: "
        f"a page of {size / 1e6:.1f} MB and {beside / 1e6:.1f} MB beside it, "
        f"built in {build.seconds:.0f} s with {build.peak_bytes / 1e9:.1f} GB"
    )
    return Built(page, build.seconds, described)


def opening(page: Path, profile: Path) -> list[tuple[float, float]]:
    """Seconds from the start of navigation to the load event, and to the first paint with content, each time."""
    found = []
    for i in range(OPENED):
        with Page(profile / str(i)) as browser:
            browser.open(page)
            browser.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))")
            load = browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
            paint = browser.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            found.append((load / 1000, paint / 1000))
    return found


def report_scale() -> Item:
    """The report of 2,000 cells and 10^7 samples: seconds until Chromium has loaded it from disk."""
    with tempfile.TemporaryDirectory() as folder:
        built = build_large(Path(folder))
        loads, paints = zip(*opening(built.page, Path(folder) / "profiles"), strict=True)
    reference = f"{built.described}; first paint at {statistics.median(paints):.2f} s"
    return item_of("report_scale", list(loads), reference, unit="s")


def report_2k_cells() -> Item:
    """The same report: seconds to build it from stored tables."""
    with tempfile.TemporaryDirectory() as folder:
        built = build_large(Path(folder))
    return item_of("report_2k_cells", [built.seconds], built.described, unit="s", target=Target(60, at_most=True))


if __name__ == "__main__":
    stored = json.loads(Path(sys.argv[1]).read_text())
    stored |= {"root": Path(stored["root"]), "files": tuple(map(Path, stored["files"]))}
    Large(**stored).build(Path(sys.argv[2]))
