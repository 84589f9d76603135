"""What the jobs of a sweep ask a cluster for: main memory and minutes, by the cells they work on and by the attempt.

Nothing is read from disk: Snakemake asks before anything is prepared. The figures are generous, as a job that is killed
for want of memory or time has to wait in the queue again; it then asks for more and goes on from its cell cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from lofi.sweep import Sweep

LONGEST = 24 * 60  # minutes: what partitions commonly allow; a job that needs more takes it in several attempts
FULL_CELLS = 4  # of work in a reference: `full` and `floor` read every token, and spectra and states come with them


@dataclass(frozen=True)
class Request:
    """Main memory in MB, and minutes."""

    memory: int
    minutes: int

    def at(self, attempt: int) -> "Request":
        """What a job asks for that was started so many times: as much again each time."""
        return Request(self.memory * attempt, min(LONGEST, self.minutes * attempt))


@dataclass(frozen=True)
class Need:
    """What a job needs to start, and what each cell adds to it."""

    memory: int
    minutes: int
    cell_memory: int
    cell_minutes: float

    def request(self, cells: int, shards: int = 1) -> Request:
        """What a job on one of so many shards of so many cells asks for."""
        minutes = self.minutes + ceil(self.cell_minutes * cells / shards)
        return Request(self.memory + self.cell_memory * cells, min(LONGEST, minutes))


# 7 billion parameters in half precision pass through main memory (14 GB, and 2 for libraries), and are read from a slow
# file system in minutes. A cell holds the rows of 64 images: 4 MB in the demo. 10,000 questions at 17 a second: 10 min.
ANSWERS = Need(memory=16_000, minutes=30, cell_memory=50, cell_minutes=10)
# The same model, but a few images.
FEW_IMAGES = Need(memory=16_000, minutes=30, cell_memory=50, cell_minutes=1)
# DuckDB takes 3 GB at most, and resampling reads one dataset at a time.
TABLES = Need(memory=8_000, minutes=30, cell_memory=10, cell_minutes=0.25)
PAGE = Need(memory=4_000, minutes=30, cell_memory=2, cell_minutes=0.05)


def requests(sweep: Sweep) -> dict[str, Request]:
    """What a job of each rule asks for at its first attempt."""
    cells, packed = len(sweep.cells()), len(sweep.packed())
    treatments = len(sweep.reduced_cells()) // (len(sweep.models) * len(sweep.datasets))
    return {
        "reference": ANSWERS.request(FULL_CELLS, sweep.shards),
        "evaluate": ANSWERS.request(packed, sweep.shards),
        "stability": FEW_IMAGES.request(treatments),
        "aggregate": TABLES.request(cells),
        "report": PAGE.request(cells),
    }


def lines(sweep: Sweep) -> Iterator[str]:
    """The requests as `lofi check` prints them."""
    for rule, request in requests(sweep).items():
        yield f"{rule}: asks a cluster for {request.memory / 1000:.1f} GB of main memory and {request.minutes} minutes"
