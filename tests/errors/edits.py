"""Random edits of what was valid: of mappings, of texts and of Parquet files."""

import copy
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
from hypothesis import strategies as st

from lofi import store

Path_ = tuple[Any, ...]

NAMES = st.sampled_from(["models", "limit", "card", "source", "reducer", "keeps", "prompts", "x", "", "a/b", "\n", "0"])
TEXTS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            "",
            ".",
            "..",
            "/",
            "~",
            "~nobody",
            "a/b",
            "a b/c",
            "-/-",
            "x" * 300,
            "nul\x00",
            "line\nline",
            "é�",
            "{x",
            "{0}",
            "{id!r:>{id}}",
            "{options}",
            "a.yaml",
            "a.jinja",
            "a.csv",
            "red.png",
            "embedded:",
            "generated:",
            "FILL",
            "auto",
            "fixed:0",
            "fixed:x",
            "energy:2",
            "energy:",
            "cuda:99",
            "1.0000",
            "full",
            "floor",
            "lofi",
            "digits-pope",
        ]
    ),
)
NUMBERS = st.one_of(
    st.integers(-3, 200),
    st.sampled_from([2**31, 2**63, 10**30, -(10**30), 0.5, 1.0, 1e-9, 1e300, float("inf"), float("nan"), -0.0]),
)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | NUMBERS | st.none(), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, at: Path_ = ()) -> list[Path_]:
    """The paths to all entries of nested mappings and lists."""
    steps = (
        list(value.items()) if isinstance(value, Mapping) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [path for key, inner in steps for path in [(*at, key), *places(inner, (*at, key))]]


@st.composite
def edited_mappings(draw: Callable[..., Any], valid: Mapping[str, Any]) -> dict[str, Any]:
    """A valid mapping after one to three edits."""
    found: Any = copy.deepcopy(dict(valid))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(found) or [("x",)]))
        holder = found
        for step in above:
            holder = holder[step]
        edit = draw(st.sampled_from(["delete", "replace", "rename", "retype", "add"]))
        if edit == "delete" and last in _keys(holder):
            del holder[last]
        elif edit == "rename" and isinstance(holder, dict) and last in holder:
            holder[draw(NAMES | st.sampled_from(places(valid)).map(lambda path: path[-1]))] = holder.pop(last)
        elif edit == "retype" and last in _keys(holder):
            holder[last] = draw(st.sampled_from([str, lambda value: [value], lambda value: {"x": value}, repr]))(
                holder[last]
            )
        elif edit == "add" and isinstance(holder, dict):
            holder[draw(NAMES | st.sampled_from(places(valid)).map(lambda path: path[-1]))] = draw(VALUES)
        else:
            holder[last] = draw(VALUES)
    return found


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


@dataclass(frozen=True)
class BytesEdit:
    """A part of a file cut out, a bit flipped, or a part written over. `start` is a share of the file."""

    kind: str
    start: float
    length: int
    new: bytes

    def of(self, valid: bytes) -> bytes:
        """The file after it."""
        start = int(self.start * (len(valid) - 1))
        stop = start + self.length
        return {
            "end": valid[:start],
            "cut": valid[:start] + valid[stop:],
            "flip": valid[:start] + bytes([valid[start] ^ (1 << self.length % 8)]) + valid[start + 1 :],
            "over": valid[:start] + self.new + valid[start + len(self.new) :],
            "insert": valid[:start] + self.new + valid[start:],
        }[self.kind]


# the footer of a Parquet file, which all else hangs on, is about the last third of these small ones
SHARES = st.floats(0, 1) | st.floats(0.6, 1)
BYTES_EDITS = st.builds(
    BytesEdit,
    st.sampled_from(["end", "cut", "flip", "over", "insert"]),
    SHARES,
    st.integers(1, 64),
    st.binary(max_size=32),
)


@dataclass(frozen=True)
class TableEdit:
    """A Parquet file with a column left out, renamed, emptied or turned into text, or with all rows left out."""

    kind: str
    column: int
    name: str

    def of(self, valid: bytes) -> bytes:
        """The file after it."""
        table = pq.read_table(io.BytesIO(valid))
        at = self.column % table.num_columns
        name = table.column_names[at]
        edited = {
            "drop": lambda: table.drop_columns([name]),
            "rename": lambda: table.rename_columns(
                [*table.column_names[:at], self.name, *table.column_names[at + 1 :]]
            ),
            "null": lambda: table.set_column(at, name, [[None] * table.num_rows]),
            "text": lambda: table.set_column(at, name, [[str(value) for value in table.column(at).to_pylist()]]),
            "no rows": lambda: table.slice(0, 0),
            "twice": lambda: table.append_column(name, table.column(at)),
            "only": lambda: table.select([name]),
            "no stamp": lambda: table.replace_schema_metadata({}),
            "odd stamp": lambda: table.replace_schema_metadata({store.METADATA_KEY: self.name.encode()}),
        }[self.kind]()
        sink = io.BytesIO()
        pq.write_table(edited, sink)
        return sink.getvalue()


KINDS = ["drop", "rename", "null", "text", "no rows", "twice", "only", "no stamp", "odd stamp"]
PRINTABLE = st.text(max_size=6).filter(str.isprintable) | st.sampled_from(["{}", "[]", "null", '"key"', '{"key": [1]}'])
TABLE_EDITS = st.builds(TableEdit, st.sampled_from(KINDS), st.integers(0, 99), PRINTABLE)
