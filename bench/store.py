"""Tables from stored samples: against pandas, and as a sweep grows tenfold. Sweeps are made up by `lofi bench-data`."""

import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from item import Item, Target, compare, item_of
from process import LOFI, taken

from lofi.config import load
from lofi.stats import aggregate, checks, intervals
from lofi.stats.blocks import blocks
from lofi.stats.resample import DRAWS
from lofi.stats.sql import run_sql

SAMPLES = 5000  # of each of 52 cells of a (model, dataset)
CELL = ["model", "dataset", "method", "keep", "seed"]
SHOWN = ["prediction", "prediction_parsed", "margin", "option_logprobs"]  # of a changed answer, here and in full
OF_FLIPS = ["group_id", "image_hash", "category", "option_labels", "kl_full_to_this", "kept_indices", "n_visual_full"]
COLUMNS = [*CELL, "weights", "sample_id", "cluster_id", "correct", *SHOWN, *OF_FLIPS]


def made_up(folder: Path, *, models: int, datasets: int) -> list[Path]:
    """The files of a made-up sweep."""
    size = ["--models", str(models), "--datasets", str(datasets), "--samples", str(SAMPLES)]
    taken([*LOFI, "bench-data", str(folder), *size])
    return [folder / cell.path() for cell in load(folder / "sweep.json").cells()]


def by_lofi(files: list[Path]) -> tuple[list[tuple[float, ...]], int]:
    """Rates and intervals of every cell, and how many answers changed, whose table is made.

    By the steps of `lofi aggregate` that make them, its checks included.
    """
    with duckdb.connect() as con:
        aggregate._open_samples(con, files, files[0].parent)
        for name in ("macros", "answers"):
            run_sql(con, name)
        checks.check(con)
        run_sql(con, "outcomes")
        con.register("intervals", pa.concat_tables(intervals.of_cells(block) for block in blocks(con)))
        rates = "mean(correct), mean(agrees), mean(neg_flip), mean(pos_flip)"
        run_sql(con, "flips")
        ((n_flips,),) = con.execute("SELECT count(*) FROM flips").fetchall()
        of_cells = con.execute(
            f"SELECT {rates}, any_value(COLUMNS('.*_(low|high)')) FROM outcomes JOIN intervals USING (cell_id)"
            " GROUP BY cell_id ORDER BY cell_id"
        ).fetchall()
        return of_cells, n_flips


def by_pandas(files: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same rates, percentile intervals over images, and the changed answers, as one who knows pandas writes it."""
    rows = pd.concat([pd.read_parquet(file, columns=COLUMNS, partitioning=None) for file in files])
    full = rows[rows.method == "full"][["model", "dataset", "sample_id", "correct", *SHOWN]]
    rows = rows.merge(full, on=["model", "dataset", "sample_id"], suffixes=("", "_full"))
    rows["agrees"] = rows.prediction_parsed == rows.prediction_parsed_full
    correct, was = rows.correct.astype(bool), rows.correct_full.astype(bool)
    rows["neg_flip"], rows["pos_flip"] = ~rows.agrees & was & ~correct, ~rows.agrees & ~was & correct
    cells = rows.groupby(CELL, observed=True)
    rates = cells[["correct", "agrees", "neg_flip", "pos_flip"]].mean()
    bounds = {names: interval(cell) for names, cell in cells}
    flips = rows[~rows.agrees].sort_values([*CELL, "sample_id"])
    return rates.join(pd.DataFrame.from_dict(bounds, orient="index").rename_axis(CELL)), flips


def interval(cell: pd.DataFrame) -> dict[str, float]:
    """Bounds of three rates of one cell, from draws of its images with replacement."""
    images = cell.groupby("cluster_id")[["correct", "agrees", "neg_flip"]].agg(["sum", "count"])
    drawn = np.random.default_rng(0).integers(len(images), size=(DRAWS, len(images)))
    found = {}
    for name in ("correct", "agrees", "neg_flip"):
        sums, counts = images[name]["sum"].to_numpy(dtype=float), images[name]["count"].to_numpy(dtype=float)
        draws = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
        found[f"{name}_low"], found[f"{name}_high"] = np.quantile(draws, [0.025, 0.975])
    return found


def aggregate_1e6_vs_pandas() -> Item:
    """Accuracy, agreement, flips and intervals of 208 cells of 5,000 samples."""
    with tempfile.TemporaryDirectory() as folder:
        files = made_up(Path(folder), models=4, datasets=1)
        reference = f"{len(files)} cells of {SAMPLES} samples read, joined, grouped and resampled in pandas"
        slow, fast = (lambda: by_pandas(files)), (lambda: by_lofi(files))
        return compare("aggregate_1e6_vs_pandas", reference, slow, fast, 3, Target(5))


def aggregate_growth_1e6_to_1e7() -> Item:
    """CPU time of `lofi aggregate`, all tables, of 2,080 cells over that of 208."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for datasets in (1, 10):
            made = Path(folder) / str(datasets)
            made_up(made, models=4, datasets=datasets)
            runs.append(taken([*LOFI, "aggregate", "--config", f"{made}/sweep.json", "--results", str(made)]))
    few, many = runs
    reference = f"1.04 million samples in {few.seconds:.0f} s, ten times as many in {many.seconds:.0f} s"
    growth = many.cpu_seconds / few.cpu_seconds
    return item_of("aggregate_growth_1e6_to_1e7", [growth], reference, target=Target(11, at_most=True))
