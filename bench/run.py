"""Benchmarks as ratios: each item is timed next to its reference, in turns, in the same run. The report is in seconds.

`make bench` runs all, `make bench ITEMS="ipr_vs_svd"` some. Writes bench/results.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from lofi.provenance import machine, versions

if TYPE_CHECKING:
    from loading import Bare

ROUNDS = 7


@dataclass(frozen=True)
class Item:
    """One measured ratio: how many times faster than its reference; in seconds where it has none."""

    name: str
    value: float
    unit: str
    reference: str
    spread: tuple[float, float]
    runs: int


def compare(name: str, reference: str, slow: Callable[[], object], fast: Callable[[], object], rounds: int) -> Item:
    """Median of slow / fast over rounds in which both run, so that a busy machine slows both."""
    slow(), fast()
    ratios = []
    for _ in range(rounds):
        ratios.append(seconds(slow) / seconds(fast))
    return Item(name, statistics.median(ratios), "x", reference, (min(ratios), max(ratios)), rounds)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ipr_vs_svd() -> Item:
    """IPR of a 576 x 4096 token matrix: one Gram product against singular values."""
    from lofi.spectra import ipr

    x = torch.randn(576, 4096, generator=torch.Generator().manual_seed(0))

    def through_svd() -> torch.Tensor:
        p = torch.linalg.svdvals(x).square()
        return (p / p.sum()).square().sum()

    return compare("ipr_vs_svd", "torch.linalg.svdvals, float32", through_svd, lambda: ipr(x), ROUNDS)


def leverage_vs_svd() -> Item:
    """Leverage of a 576 x 4096 token matrix: Gram and eigh against a thin SVD."""
    from lofi.spectra import left_basis

    x = torch.randn(576, 4096, generator=torch.Generator().manual_seed(0))
    return compare(
        "leverage_vs_svd",
        "torch.linalg.svd, float32",
        lambda: torch.linalg.svd(x, full_matrices=False),
        lambda: left_basis(x),
        ROUNDS,
    )


def engine_vs_sample() -> Item:
    """The demo's methods and keeps on one dataset: the shared engine against one plain forward per sample."""
    from lofi.config import load
    from lofi.data.images import open_image
    from lofi.data.prepare import prepare
    from lofi.data.registry import get_card
    from lofi.engine.job import open_job
    from lofi.engine.plain import run_plain
    from lofi.engine.stages import evaluate, open_session, reference

    sweep = load(Path(__file__).parent.parent / "config.yaml")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        spec = sweep.datasets[0]
        prepare(get_card(spec.name), results / "data" / spec.name, limit=64, prompt_style=spec.prompt_style)
        job = open_job(results, sweep, sweep.models[0].name, spec.name, 0)
        reference(job)
        cells = job.cells()
        shared = seconds(lambda: evaluate(job, cells)) / (len(cells) * job.n_samples)
        session = open_session(job)
        photos = job.photos(job.spans[0])[:4]
        timed = [
            seconds(
                lambda cell=cell, photo=photo, doc=doc: run_plain(
                    session, open_image(photo.content), photo.key, doc.prompt, cell, job.method(cell), 0
                )
            )
            for photo in photos
            for doc in photo.docs
            for cell in cells
        ]
    plain = statistics.fmean(timed)
    return Item("engine_vs_sample", plain / shared, "x", "one forward per sample", (plain / shared,) * 2, len(timed))


def loader_vs_decode() -> Item:
    """JPEGs of 336 x 336 pixels from a prepared dataset to pixel values, against decoding them and nothing else."""
    from loading import SIDE, Bare, Loading

    return _loading("loader_vs_decode", (SIDE, SIDE), 2000, Loading, Bare)


def loader_vs_decode_gpu() -> Item:
    """The same up to the bytes that go to a GPU, where the arithmetic is done."""
    from loading import SIDE, Bare, Handing

    return _loading("loader_vs_decode_gpu", (SIDE, SIDE), 2000, Handing, Bare)


def loader_vs_decode_large() -> Item:
    """The same for pictures of the size of COCO's, which POPE, VQAv2 and GQA show."""
    from loading import Bare, Loading

    return _loading("loader_vs_decode_large", (640, 480), 600, Loading, Bare)


def loader_vs_processor() -> Item:
    """JPEGs of 336 x 336 pixels to pixel values, against the library's own processor in as many processes."""
    from loading import SIDE, Loading, Whole

    return _loading("loader_vs_processor", (SIDE, SIDE), 1000, Loading, Whole)


def _loading(
    name: str, size: tuple[int, int], count: int, kind: Callable[[Path], Callable[[], None]], bare: "type[Bare]"
) -> Item:
    from loading import CORES, picture, stored

    torch.set_num_threads(1)  # the workers have the cores
    contents = [picture(seed, *size) for seed in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        loading = kind(stored(Path(folder) / "images.parquet", contents))
        return compare(name, f"{bare.about} in {CORES} processes", bare(contents), loading, ROUNDS)


def resampling_vs_gathering() -> Item:
    """Intervals, comparisons and ranks of 2,000 cells of 5,000 samples: one product of matrices for all cells."""
    from resampling import IMAGES, gathered, made_up

    from lofi.stats.uncertainty import resample

    con = made_up()
    n_cells = con.execute("SELECT count(*) FROM grid").fetchall()[0][0]
    taken = seconds(lambda: resample(con))
    each = [seconds(lambda cell=cell: gathered(con, cell)) for cell in range(1, 6)]
    ratio = statistics.fmean(each) * n_cells / taken
    reference = f"intervals by gathering {IMAGES} drawn images a cell; the {n_cells} cells took {taken:.1f} s"
    return Item("resampling_vs_gathering", ratio, "x", reference, (ratio, ratio), 1)


def report_scale() -> Item:
    """The report of 2,000 cells and 10^7 samples: seconds until Chromium has loaded it from disk."""
    from report_scale import build_apart, described, large_sweep, opening

    with tempfile.TemporaryDirectory() as folder:
        large = large_sweep(Path(folder) / "results")
        built = build_apart(large, Path(folder) / "built")
        loads, paints = zip(*opening(built, Path(folder) / "profiles"), strict=True)
        reference = f"{described(large, built)}; first paint at {statistics.median(paints):.2f} s"
    return Item("report_scale", statistics.median(loads), "s", reference, (min(loads), max(loads)), len(loads))


ITEMS = {
    item.__name__: item
    for item in (
        ipr_vs_svd,
        leverage_vs_svd,
        engine_vs_sample,
        loader_vs_decode,
        loader_vs_decode_gpu,
        loader_vs_decode_large,
        loader_vs_processor,
        resampling_vs_gathering,
        report_scale,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"of {', '.join(ITEMS)}; default: all")
    names = parser.parse_args().items or list(ITEMS)
    if unknown := sorted(set(names) - ITEMS.keys()):
        parser.error(f"unknown item {unknown[0]!r}; choose from {', '.join(ITEMS)}")
    found = []
    for name in names:
        item = ITEMS[name]()
        found.append(item)
        low, high = item.spread
        print(f"{item.name:20} {item.value:8.2f}{item.unit}  [{low:.2f}, {high:.2f}]  against {item.reference}")
    content = {"machine": {**machine(), "threads": torch.get_num_threads()}, "versions": versions()}
    target = Path(__file__).parent / "results.json"
    target.write_text(json.dumps({**content, "items": [asdict(item) for item in found]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
