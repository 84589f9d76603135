"""One checksum over a whole file: any bit that changes shows, in pages, their headers and the footer alike."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.checksum import KEY, is_whole
from lofi.store import first_broken, read_metadata, write_table

TABLE = pa.table({"number": range(20_000), "text": [str(number % 7) for number in range(20_000)]})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "table.parquet"
    write_table(TABLE, path, {"key": "k"})
    return path


def test_a_file_as_it_was_written_is_whole(file: Path) -> None:
    assert is_whole(file) is True
    assert pq.ParquetFile(file).read().equals(TABLE)
    assert read_metadata(file) == {"key": "k"}


def test_every_changed_bit_is_found(file: Path, tmp_path: Path) -> None:
    content, rng = file.read_bytes(), random.Random(0)
    footer = len(content) - int.from_bytes(content[-8:-4], "little")
    places = [rng.randrange(len(content)) for _ in range(60)] + [rng.randrange(footer, len(content)) for _ in range(60)]
    for place in places:
        if content.rfind(KEY) <= place < content.rfind(KEY) + len(KEY):  # then there is none, and pages are decoded
            continue
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        (tmp_path / "changed.parquet").write_bytes(changed)
        assert first_broken([file, tmp_path / "changed.parquet"]) == tmp_path / "changed.parquet"


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_broken(file: Path, share: float) -> None:
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert first_broken([file]) == file


def test_a_file_without_a_checksum_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "other.parquet", []
    pq.write_table(TABLE, path, row_group_size=8192)
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda file, group: (read.append(group), original(file, group))[1]
    )
    assert is_whole(path) is None
    assert first_broken([path]) is None
    assert read == [0, 1, 2]


def test_a_table_that_was_read_and_written_again_has_a_checksum_of_its_own(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    write_table(pq.ParquetFile(file).read().slice(0, 5), other, {"key": "k"})
    assert is_whole(other) is True
    assert list(pq.read_metadata(other).metadata).count(KEY) == 1
