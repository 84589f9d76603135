"""Golden vectors, and a record of which of them a test file has read.

A test file ends with `test_every_array_is_read_or_listed`, so an array can be left out only with a reason. All tests
of one file have to run in one process, in the order of the file: with xdist, under `--dist loadfile`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(os.environ.get("LOFI_GOLDEN", Path(__file__).parent / "data"))


class Vectors:
    """The arrays of one file."""

    def __init__(self, kind: str, name: str) -> None:
        self._arrays = np.load(DATA / kind / f"{name}.npz")
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        self._read.add(name)
        array: np.ndarray = self._arrays[name]
        return array

    def tensor(self, name: str) -> Tensor:
        """An array as a tensor."""
        return torch.from_numpy(self[name])

    @property
    def names(self) -> list[str]:
        """Every array of the file, read or not."""
        return sorted(self._arrays.files)

    def unread(self) -> set[str]:
        """The arrays that no test has read so far."""
        return set(self._arrays.files) - self._read


LEFT_OUT = {"seed": "the seed of the inputs, for information"}


def check_every_array(vectors: Vectors, left_out: Mapping[str, str] | None = None) -> None:
    """Every array was read, or is listed with the reason why not; what is listed was not read."""
    listed = {*LEFT_OUT, *(left_out or {})}
    assert vectors.unread() <= listed, "neither read nor listed (run the whole file: this test looks at the others)"
    assert not (listed & set(vectors.names)) - vectors.unread(), "listed, but read"


@dataclass
class StoredAttention:
    """Encoder attention as a reducer sees it, from stored arrays by layer. What is not stored must not be asked for."""

    n_extra: int = 1
    heads: int = 1
    depth: int = 24
    cls_rows: dict[int, Tensor] = field(default_factory=dict)  # layer -> (n,) mean over heads
    received_rows: dict[int, Tensor] = field(default_factory=dict)
    all_keys: dict[int, Tensor] = field(default_factory=dict)  # layer -> (n_extra + n, dv)
    all_queries: dict[int, Tensor] = field(default_factory=dict)
    tiles: "tuple[StoredAttention, ...]" = ()

    def cls(self, layer: int) -> Tensor:
        return torch.cat([tile.cls(layer) for tile in self.tiles]) if self.tiles else self.cls_rows[layer]

    def received(self, layer: int) -> Tensor:
        return self.received_rows[layer]

    def keys(self, layer: int) -> Tensor:
        return self.all_keys[layer]

    def queries(self, layer: int) -> Tensor:
        return self.all_queries[layer]

    def tile(self, index: int) -> "StoredAttention":
        return self.tiles[index]
