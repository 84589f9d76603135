"""Columns of a matrix that lack the same rows: what is done to their rows is done once for all of them."""

from collections.abc import Iterator

import numpy as np

from lofi.stats.resample import Booleans, Integers


def alike(present: Booleans) -> Iterator[tuple[Booleans, Integers]]:
    """The rows (n,) that are there, and which columns have just these; present: (n, columns)."""
    packed = np.packbits(present.T, axis=1)
    together: dict[bytes, list[int]] = {}
    for column, rows in enumerate(packed):
        together.setdefault(rows.tobytes(), []).append(column)
    for columns in together.values():
        yield present[:, columns[0]], np.array(columns, dtype=np.int64)
