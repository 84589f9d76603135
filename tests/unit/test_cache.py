"""The cell cache and the store: nothing is used that is short, broken or of another key; nothing is half written."""

import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi import store
from lofi.engine.cache import CellCache, Span
from lofi.engine.columns import table
from lofi.store import SAMPLES, concat, read_if_valid, read_metadata, write_table
from tests.unit.synthetic import samples_table


def rows(*ids: str) -> pa.Table:
    return samples_table([{"sample_id": key, "model": "m", "score": 1.0} for key in ids])


def test_a_table_comes_back_with_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.parquet"
    write_table(rows("b", "a"), path, {"key": "k", "versions": {"torch": "1"}})
    assert read_metadata(path) == {"key": "k", "versions": {"torch": "1"}}
    assert pq.read_table(path).column("sample_id").to_pylist() == ["a", "b"]
    assert os.listdir(path.parent) == ["table.parquet"]


def test_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_table(rows("a", "b"), tmp_path / name, {"key": "k"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    write_table(rows("a"), path, {"key": "old"})

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_table(rows("a", "b"), path, {"key": "new"})
    assert read_metadata(path)["key"] == "old"
    assert os.listdir(tmp_path) == ["table.parquet"]


def test_columns_outside_the_schema_are_refused() -> None:
    with pytest.raises(ValueError, match="columns outside the schema: colour"):
        table({"sample_id": ["a"], "colour": ["red"]}, 1)
    assert table({"sample_id": ["a"]}, 1).schema.equals(SAMPLES)


def test_only_a_whole_file_of_the_right_key_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    assert read_if_valid(path, "k", 2) is None
    write_table(rows("a", "b"), path, {"key": "k"})
    assert read_if_valid(path, "k", 2) is not None
    assert read_if_valid(path, "other", 2) is None
    assert read_if_valid(path, "k", 3) is None
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert read_if_valid(path, "k", 2) is None
    path.write_bytes(b"")
    assert read_if_valid(path, "k", 2) is None


def test_parts_become_a_whole_and_are_dropped(tmp_path: Path) -> None:
    cache = CellCache(tmp_path, "key")
    spans = [Span(0, 2, 2), Span(2, 3, 1)]
    cache.write_part(spans[1], rows("a"))
    assert [cache.has_part(span, span.n_samples) for span in spans] == [False, True]
    with pytest.raises(RuntimeError, match="vanished or broke"):
        cache.finish(spans, [2, 1], {}, join=concat)
    cache.write_part(spans[0], rows("b", "c"))
    cache.finish(spans, [2, 1], {"commit": "c"}, join=concat)
    assert cache.is_finished(3)
    assert not cache.is_finished(2)
    assert pq.read_table(cache.whole).column("sample_id").to_pylist() == ["a", "b", "c"]
    assert read_metadata(cache.whole) == {"key": "key", "commit": "c", "rows": 3}
    assert os.listdir(cache.folder) == ["samples.parquet"]


def test_a_truncated_part_counts_as_absent(tmp_path: Path) -> None:
    cache, span = CellCache(tmp_path, "key"), Span(0, 2, 2)
    cache.write_part(span, rows("a", "b"))
    part = cache.part(span)
    part.write_bytes(part.read_bytes()[:-100])
    assert not cache.has_part(span, 2)


@pytest.mark.parametrize("linked", [True, False])
def test_publishing_twice_leaves_one_whole_file(tmp_path: Path, linked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError("hard links are not supported here")

    if not linked:
        monkeypatch.setattr(os, "link", no_links)
    cache, target = CellCache(tmp_path, "key"), tmp_path / "samples" / "shard-0000.parquet"
    cache.write_part(Span(0, 1, 1), rows("a"))
    cache.finish([Span(0, 1, 1)], [1], {}, join=concat)
    os.utime(cache.whole, (1, 1))
    for _ in range(2):
        cache.publish(target)
        assert os.listdir(target.parent) == [target.name]
        assert target.read_bytes() == cache.whole.read_bytes()
        assert target.stat().st_mtime > 1, "an output must not look older than its inputs"
    assert (target.stat().st_nlink == 2) == linked


def test_what_another_sweep_has_published_is_copied_and_keeps_its_date(tmp_path: Path) -> None:
    cache, span = CellCache(tmp_path / "shared", "key"), Span(0, 1, 1)
    cache.write_part(span, rows("a"))
    cache.finish([span], [1], {}, join=concat)
    theirs, ours = (tmp_path / name / "shard-0000.parquet" for name in ("theirs", "ours"))
    cache.publish(theirs)
    os.utime(theirs, (1, 1))
    for _ in range(2):
        cache.publish(ours)
        assert ours.read_bytes() == theirs.read_bytes()
        assert ours.stat().st_mtime > 1 == theirs.stat().st_mtime
        assert (ours.stat().st_nlink, theirs.stat().st_nlink) == (1, 2)


def test_a_cache_on_another_file_system_is_copied_from(tmp_path: Path) -> None:
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        cache, target = CellCache(Path(elsewhere), "key"), tmp_path / "shard-0000.parquet"
        cache.write_part(Span(0, 1, 1), rows("a"))
        cache.finish([Span(0, 1, 1)], [1], {}, join=concat)
        cache.publish(target)
        assert target.read_bytes() == cache.whole.read_bytes()
        assert target.stat().st_nlink == cache.whole.stat().st_nlink == 1
