"""The columns that a schema has in a Parquet file, inside of lists and structs as well, and how each is packed."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa


def encodings(schema: pa.Schema) -> dict[str, Any]:
    """Options of a Parquet writer: a dictionary where values come again, floats split into their bytes.

    Floats hardly come again: a dictionary of them is as long as they are. Their first bytes are alike, and side by side
    these compress.
    """
    found = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    return {
        "use_dictionary": [path for path, kind in found if not pa.types.is_floating(kind)],
        "use_byte_stream_split": [path for path, kind in found if pa.types.is_floating(kind)],
    }


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Every column below a field, as Parquet calls it, with the type of its values."""
    if pa.types.is_struct(kind):
        below = [(field.name, field.type) for field in kind]
    elif pa.types.is_map(kind):
        below = [("key_value.key", kind.key_type), ("key_value.value", kind.item_type)]
    elif pa.types.is_list(kind):
        below = [("list.element", kind.value_type)]
    else:
        yield path, kind
        return
    for name, inner in below:
        yield from _leaves(f"{path}.{name}", inner)
