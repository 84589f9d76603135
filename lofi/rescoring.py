"""`lofi rescore`: the stored answers of a sweep graded again, file by file, without a model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lofi.data.docs import DOCS_FILE, load_docs
from lofi.errors import UserError
from lofi.grading import Grading, changed
from lofi.identity import scorer_of
from lofi.scoring.registry import get_scorer
from lofi.store import is_as_stamped, odd_columns, read_metadata, write_table
from lofi.sweep import DatasetSpec, Sweep


@dataclass(frozen=True)
class Rescored:
    """What came of one dataset."""

    dataset: str
    scorer: str
    version: int
    files: int
    samples: int
    changed: int  # samples that are read or graded otherwise than before
    crossed: int  # of these, from right to wrong or back

    def __str__(self) -> str:
        return (
            f"{self.dataset}: under {self.scorer}, version {self.version}, "
            f"{self.changed:,} of {self.samples:,} samples in {self.files} files are read otherwise than before, "
            f"and {self.crossed:,} go between right and wrong"
        )


def rescore(sweep: Sweep, results: Path, dataset: str | None = None, scorer: str | None = None) -> Iterator[Rescored]:
    """Grade every published sample of the sweep, or of one dataset, by `scorer`, or by what config and card say.

    Nothing is written before all files were found to be there and to answer the prepared questions; then each file is
    replaced whole.
    """
    asked = [sweep.dataset(dataset)] if dataset else sweep.datasets
    by = {spec.name: scorer or scorer_of(spec) for spec in asked}
    for name in by.values():
        get_scorer(name)
    files = {spec.name: _files(sweep, spec, results) for spec in asked}
    _refuse_gaps([path for paths in files.values() for path in paths])
    for spec in asked:
        _refuse_others(_prepared(results, spec), files[spec.name])
    for spec in asked:
        grading = Grading(by[spec.name], load_docs(_prepared(results, spec)))
        yield _dataset(spec, grading, files[spec.name])


def _prepared(results: Path, spec: DatasetSpec) -> Path:
    return results / "data" / spec.name


def _files(sweep: Sweep, spec: DatasetSpec, results: Path) -> list[Path]:
    cells = [cell for cell in sweep.cells() if cell.dataset == spec.name]
    return [results / cell.path(shard) for cell in cells for shard in range(sweep.shards)]


def _refuse_gaps(files: list[Path]) -> None:
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} sample files are missing, the first of them {missing[0]}; "
            "run the sweep to its end, or name a finished dataset with --dataset"
        )


def _refuse_others(prepared: Path, files: list[Path]) -> None:
    """A file with answers to other questions than the prepared ones cannot be graded by their targets."""
    path = prepared / DOCS_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing, which holds the right answers; run `lofi prepare`")
    revision = load_docs(prepared).revision
    for file in files:
        answered = set(_read(file, ["dataset_revision"]).column(0).to_pylist())
        if other := answered - {revision}:
            raise UserError(
                f"{file} answers the questions of revision {min(other)}, but those of revision {revision} are "
                "prepared; run the sweep again, or `lofi prepare` as the config was then"
            )


def _dataset(spec: DatasetSpec, grading: Grading, files: list[Path]) -> Rescored:
    samples = other = crossed = 0
    for path in files:
        before, metadata = _read(path), read_metadata(path)
        after = grading.grade(before)
        samples += after.num_rows
        other += changed(before, after)
        crossed += changed(before, after, ["correct"])
        if metadata.get("grading") != grading.stamp:
            write_table(after, path, {**metadata, "grading": grading.stamp})
    return Rescored(spec.name, grading.scorer, grading.rule.version, len(files), samples, other, crossed)


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Samples from one file; its folders, which look like a partitioned dataset, add no columns."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        odd, table = odd_columns(file.schema_arrow), file.read(columns)
        if not is_as_stamped(file.schema_arrow):
            raise ValueError("what it says of its making has changed")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{path} cannot be read ({error}); delete it, and run the sweep again, which makes it anew"
        ) from None
    if odd:
        raise UserError(f"{path} {odd}: another lofi wrote it; run the sweep again, which replaces it")
    return table
