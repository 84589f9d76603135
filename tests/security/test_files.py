"""Files from somebody else: YAML that grows, files without an end, links in the place of results."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from lofi.config import load
from lofi.data.registry import get_card
from lofi.engine.cache import CellCache, Span
from lofi.errors import UserError
from lofi.store import concat, read_if_valid, write_table
from lofi.strict_yaml import MOST_BYTES, read_mapping, read_overrides

LETTERS = "abcdefghij"


def laughs() -> str:
    """Ten lines that stand for 9^9 values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]" for m, n in itertools.pairwise(LETTERS)]
    return "\n".join(lines)


def merges() -> str:
    """The same by merge keys, which a loader writes out while it reads."""
    lines = ["a: &a {x: 1}"]
    lines += [f"{n}: &{n} {{<<: [{', '.join([f'*{m}'] * 9)}]}}" for m, n in itertools.pairwise(LETTERS)]
    return "\n".join(lines)


BOMBS = {
    "laughs.yaml": (laughs(), "aliases stand for more than 100,000 values"),
    "merges.yaml": (merges(), "aliases stand for more than 100,000 values"),
    "snake.yaml": ("models: &m {a: *m}", "an alias stands inside its own anchor"),
    "list.yaml": ("models: &m [*m]", "an alias stands inside its own anchor"),
    "deep.yaml": ("[" * 1200 + "]" * 1200, "nested too deeply"),
    "deep.json": ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "keys.yaml": ("{" * 1200 + "}" * 1200, "nested too deeply"),
    "long.yaml": ("models: {}\n#" + "x" * MOST_BYTES, "larger than 1,000,000 bytes"),
    "date.yaml": ("models: 2026-99-99", "line 1: not valid YAML: .* is read as timestamp, and is none"),
    "digits.yaml": ("keeps: [" + "9" * 5000 + "]", "line 1: not valid YAML: .* is read as int, and is none"),
    "digits.json": ('{"keeps": [' + "9" * 5000 + "]}", "not valid JSON: Exceeds the limit"),
    "zero.yaml": ("models: {\x00}", "not valid YAML"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_grows_is_refused(name: str, tmp_path: Path) -> None:
    text, said = BOMBS[name]
    (tmp_path / name).write_text(text)
    readers = (load, lambda path: get_card(str(path))) if name.endswith(".yaml") else (load,)
    for read in readers:
        with pytest.raises(UserError, match=said) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_overrides_are_held_to_the_same(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--config models: line 1: an alias stands inside its own anchor"):
        read_overrides(["models=&m [*m]"])


def test_anchors_that_people_write_are_read(tmp_path: Path) -> None:
    text = "base: &base {limit: 8}\na: {<<: *base, exif: applied}\nb: *base\n"
    (tmp_path / "sweep.yaml").write_text(text)
    limit = {"limit": 8}
    assert read_mapping(tmp_path / "sweep.yaml") == {"base": limit, "a": {**limit, "exif": "applied"}, "b": limit}


def test_a_file_without_an_end_is_refused() -> None:
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31));"
    code += "from lofi.cli import main; sys.exit(main(['check', '--config', '/dev/zero']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "lofi check: /dev/zero is larger than 1,000,000 bytes; give the path of a config or a card\n"


def test_a_link_in_the_place_of_a_result_is_replaced_and_not_followed(tmp_path: Path) -> None:
    theirs, results = tmp_path / "theirs", tmp_path / "results"
    theirs.write_text("theirs")
    table = pa.table({"sample_id": ["a"]})
    cache, span = CellCache(results, "key"), Span(0, 1, 1)
    published = results / "samples" / "shard-0000.parquet"
    for path in (cache.part(span), cache.whole, published, results / "tables" / "cells.parquet"):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(theirs, path)
    cache.write_part(span, table)
    cache.finish([span], [1], {}, join=concat)
    cache.publish(published)
    write_table(table, results / "tables" / "cells.parquet", {"key": "key"})
    assert theirs.read_text() == "theirs"
    for path in (cache.whole, published, results / "tables" / "cells.parquet"):
        assert not path.is_symlink()
        assert read_if_valid(path, "key", 1) is not None
