"""The results of a large sweep, from those of a small one: its tables and data, repeated under other names.

The small sweep is aggregated as any is, so tables have the columns that they have today.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from lofi.report.build import build
from tests.unit.report_setup import make_results

METHODS = ("random", "lofi", "fastv", "prumerge", "dart", "divprune", "visionzip", "fastervlm", "cdpruner", "tome")
KEEPS = ("0.7500", "0.5000", "0.2500", "0.1250", "0.0625")
KINDS = ("scenes-yesno", "scenes-letters", "scenes-open")
Names = Mapping[str, Mapping[str, Sequence[str]]]  # axis -> a name of the small sweep -> its names in the large one
OF_A_SAMPLE = ("sample_id", "group_id", "cluster_id", "image_hash")


@dataclass(frozen=True)
class Large:
    """A results folder, the sweep that would have made it, and how large that is."""

    root: Path
    sweep: dict[str, Any]
    files: tuple[Path, ...]
    n_cells: int
    n_samples: int
    n_flips: int

    def build(self, output: Path) -> None:
        """Build its report, with thumbnails of every dataset."""
        tables, data = self.root / "tables", self.root / "data"
        allowed = set(self.sweep["datasets"])
        build(self.sweep, self.files, tables, data, output, command="lofi report", generated=None, thumbnails=allowed)


def make_large(
    root: Path, *, models: int, datasets: int, methods: int = 10, keeps: int = 5, images: int, copies: int
) -> Large:
    """models x datasets x methods x keeps cells; each dataset has `copies` times 3 questions on `images` images."""
    small = make_results(
        root / "small",
        models=("model",),
        datasets=KINDS[:datasets],
        methods=dict.fromkeys(METHODS[:methods], (0,)),
        keeps=KEEPS[:keeps],
        images=images,
    )
    models_of = {"model": [f"model-{i}" for i in range(models)]}
    datasets_of: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for i in range(datasets):
        kind = KINDS[i % len(KINDS)]
        datasets_of[kind].append(f"{kind}-{i}")
    paths = repeat(small.root, root / "large", {"model": models_of, "dataset": datasets_of}, copies)
    with duckdb.connect() as con:
        ((n_flips,),) = con.execute(f"SELECT count(*) FROM '{root}/large/tables/flips.parquet'").fetchall()
    sweep = {
        "models": {name: {"source": "local"} for name in models_of["model"]},
        "datasets": {name: {} for made in datasets_of.values() for name in made},
        "methods": {name: {} for name in METHODS[:methods]},
        "keeps": [float(keep) for keep in KEEPS[:keeps]],
    }
    return Large(root / "large", sweep, tuple(paths), len(paths), len(paths) * images * 3 * copies, n_flips)


def repeat(small: Path, large: Path, names: Names, copies: int = 1) -> list[Path]:
    """Tables and data under new names, and so many times as other samples; the sample files that `runs` then names."""
    (large / "tables").mkdir(parents=True)
    with duckdb.connect() as con:
        for table in (small / "tables").glob("*.parquet"):
            _repeat(con, table, large / "tables" / table.name, names, copies if table.stem == "flips" else 1)
        for kind, made in names["dataset"].items():
            for dataset in made:
                (large / "data" / dataset).mkdir(parents=True)
                for file in (small / "data" / kind).glob("*.parquet"):
                    _repeat(con, file, large / "data" / dataset / file.name, {}, copies)
        con.read_parquet(str(small / "tables" / "runs.parquet")).create_view("before")
        con.read_parquet(str(large / "tables" / "runs.parquet")).create_view("runs")
        linked = con.execute("SELECT before.path, runs.path FROM runs JOIN before USING (key)").fetchall()
    for path, new in linked:  # the report reads no more of a sample file than its key
        (large / new).parent.mkdir(parents=True, exist_ok=True)
        (large / new).hardlink_to(small / path)
    return [large / new for _, new in linked]


def _repeat(con: duckdb.DuckDBPyConnection, file: Path, target: Path, names: Names, copies: int) -> None:
    """Every row once for each new name, and so many times as another sample."""
    rows = con.read_parquet(str(file))
    joins, replaced = "", {}
    for column, axis in (("model", "model"), ("dataset", "dataset"), ("method", "method"), ("versus", "method")):
        if column in rows.columns and axis in names:
            listed = ", ".join(f"({quoted(old)}, {quoted(new)})" for old, made in names[axis].items() for new in made)
            joins += f" LEFT JOIN (VALUES {listed}) AS of_{column}(old, new) ON rows.{column} = of_{column}.old"
            replaced[column] = f"coalesce(of_{column}.new, rows.{column})"
    if "path" in rows.columns:
        axes = {axis: replaced.get(axis, f"rows.{axis}") for axis in ("model", "dataset", "method", "keep", "seed")}
        parts = ", '/', ".join(f"'{axis}=', replace({name}::VARCHAR, '/', '|')" for axis, name in axes.items())
        replaced["path"] = f"concat('samples/', {parts}, '/', parse_filename(rows.path))"
    if copies > 1:
        replaced |= {name: f"concat(rows.{name}, '-', copy)" for name in OF_A_SAMPLE if name in rows.columns}
    written = ", ".join(f"{expression} AS {name}" for name, expression in replaced.items())
    made = con.sql(
        f"SELECT rows.* {f'REPLACE ({written})' if written else ''} FROM rows{joins}, range({copies}) AS copies(copy)"
    )
    made.write_parquet(str(target), compression="zstd")


def quoted(text: str) -> str:
    """Text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"
