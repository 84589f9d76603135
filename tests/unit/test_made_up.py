"""Made-up sweeps: they aggregate like real ones, and what is opened and written is counted."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.cli import main
from lofi.config import load
from lofi.store import odd_columns

SIZE = ["--models", "1", "--datasets", "3", "--methods", "2", "--keeps", "2"]
SAMPLES = 60
N_CELLS = 3 * (2 * 2 + 2)


def make(folder: Path) -> list[Path]:
    assert main(["bench-data", str(folder), *SIZE, "--samples", str(SAMPLES)]) == 0
    return [folder / cell.path() for cell in load(folder / "sweep.json").cells()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make(folder)
    return folder


def test_every_cell_has_a_file_of_the_frozen_schema(made: Path) -> None:
    files = sorted((made / "samples").rglob("*.parquet"))
    assert len(files) == N_CELLS
    for file in files:
        metadata = pq.read_metadata(file)
        assert metadata.num_rows == SAMPLES
        assert metadata.num_row_groups == 1
        assert not odd_columns(pq.read_schema(file))


def test_the_same_sizes_give_the_same_bytes_and_no_more_than_a_sample_needs(made: Path, tmp_path: Path) -> None:
    files = make(tmp_path)
    assert [file.read_bytes() for file in files] == [(made / file.relative_to(tmp_path)).read_bytes() for file in files]
    footer = sum(int.from_bytes(file.read_bytes()[-8:-4], "little") for file in files)
    assert (sum(file.stat().st_size for file in files) - footer) / (N_CELLS * SAMPLES) < 3000


def test_tables_are_made_and_each_file_is_opened_so_many_times(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    begin, read = pq.ParquetFile.__init__, pq.ParquetFile.read_row_group

    def spied(self: pq.ParquetFile, source: object, *args: object, **options: object) -> None:
        opened[f"footer of {source}"] += 1
        begin(self, source, *args, **options)

    def spied_read(self: pq.ParquetFile, group: int, **options: object) -> pa.Table:
        opened["columns"] += 1
        return read(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "__init__", spied)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spied_read)
    assert main(["aggregate", "--config", f"{made}/sweep.json", "--results", str(made)]) == 0
    # Whether each is whole, and its spectra; those of full cells first, to lie beside the others.
    assert sorted(count for name, count in opened.items() if "samples" in name) == [2] * (N_CELLS - 3) + [3] * 3
    assert opened["columns"] == N_CELLS + 3
    cells = pq.read_table(made / "tables" / "cells.parquet").to_pylist()
    assert len(cells) == N_CELLS
    assert all(cell["n"] == SAMPLES for cell in cells)
    assert all(cell["agreement"] == 1 for cell in cells if cell["method"] == "full")
    assert min(cell["agreement"] for cell in cells) < 1


@pytest.mark.parametrize("option", ["--methods", "--keeps", "--models", "--samples"])
def test_a_size_that_cannot_be_is_refused(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench-data", str(tmp_path), option, "0"]) == 2
    assert option in capsys.readouterr().err
    assert not (tmp_path / "samples").exists()
