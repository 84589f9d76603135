"""Stored images are read by row groups, each once where they are asked for in their order."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lofi.data import images as images_module
from lofi.data.images import image_writer, inspect
from lofi.data.stored import StoredImages
from lofi.errors import UserError


def test_a_pass_in_order_reads_every_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "ROW_GROUP_IMAGES", 3)
    contents = {each.image_hash: each.bytes for each in (inspect(bytes([number]) * 9) for number in range(10))}
    path = tmp_path / "images.parquet"
    with image_writer(path, {}) as writer:
        for content in contents.values():
            writer.add(inspect(content))
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def spy(self: pq.ParquetFile, group: int, columns: list[str]) -> Any:
        read.extend([group] * ("bytes" in columns))
        return original(self, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    stored = StoredImages(path)
    assert stored.hashes == tuple(contents)
    assert len(stored) == 10
    for at in range(0, 10, 2):
        part = stored.hashes[at : at + 2]
        assert stored.read(part) == {key: contents[key] for key in part}
    assert read == [0, 1, 2, 3]
    backwards = stored.hashes[::-1]
    assert list(stored.read(backwards).items()) == [(key, contents[key]) for key in backwards]
    with pytest.raises(UserError, match="lacks 1 of 2 images, zz first; prepare it again"):
        stored.read([backwards[0], "zz"])
