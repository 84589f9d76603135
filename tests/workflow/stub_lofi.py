"""A stand-in for the `lofi` command: it writes the files that the real one writes, in an instant and empty.

It appends its arguments to calls.txt. Where a file `fail` exists, the commands named in it write half and fail.
"""

import argparse
import sys
from pathlib import Path

from lofi.cell import stability_path
from lofi.config import load

RESULTS = Path("results")


def put(path):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("stub")


def main():
    with open("calls.txt", "a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    for name in ("config", "output", "model", "dataset", "method", "keep", "work"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--shard", type=int)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    files = {"prepare": prepare, "reference": reference, "evaluate": evaluate, "stability": stability}
    paths = list(files[options.command](options) if options.command in files else others(options))
    failing = Path("fail").read_text().split() if Path("fail").exists() else []
    if options.command in failing:
        put(paths[0])
        sys.exit("the stub fails as it was told to")
    for path in paths:
        put(path)


def prepare(options):
    load(Path(options.config)).dataset(options.dataset)
    return [RESULTS / "data" / options.dataset / name for name in ("docs.parquet", "images.parquet")]


def reference(options):
    sweep = load(Path(options.config))
    folder = RESULTS / "reference" / f"model={options.model}" / f"dataset={options.dataset}"
    cells = [cell for cell in sweep.reference_cells() if (cell.model, cell.dataset) == (options.model, options.dataset)]
    assert len(cells) == 2
    paths = [RESULTS / cell.path(options.shard) for cell in cells]
    return [*paths, folder / f"shard-{options.shard:04d}.parquet", folder / f"images-{options.shard:04d}.parquet"]


def evaluate(options):
    for cell in load(Path(options.config)).reduced_cells():
        asked = {axis: getattr(options, axis) for axis in ("model", "dataset", "method", "keep", "seed")}
        if all(value is None or getattr(cell, axis) == value for axis, value in asked.items()):
            yield RESULTS / cell.path(options.shard)


def stability(options):
    assert load(Path(options.config)).stability_images
    return [RESULTS / stability_path(options.model, options.dataset)]


def others(options):
    if options.command == "aggregate":
        sweep = load(Path(options.config))
        paths = [cell.path(shard) for cell in sweep.cells() for shard in range(sweep.shards)]
        assert all((RESULTS / path).exists() for path in [*paths, *sweep.stability_files()])
        tables = ["cells", "measures", "margins", "calibration", "averages"]
        tables += ["metrics", "spectra", "correlations", "methods", "comparisons", "ranks"]
        tables += ["sample_shifts", "beyond_margin", "forecast", "forecast_cells"]
        tables += ["flips", "categories", "stability", "risks", "certificates"]
        return [
            *(RESULTS / "tables" / f"{table}.parquet" for table in [*tables, "timings", "runs"]),
            RESULTS / "audit.duckdb",
        ]
    if options.command == "report":
        output = Path(options.output)
        return [output, output.with_name(f"{output.stem}_files") / "samples-index.js"]
    if options.command == "train-digits":
        return [Path(options.work) / "checkpoint", Path(options.output) / "model.safetensors"]
    raise ValueError(options.command)


main()
