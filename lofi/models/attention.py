"""One image's encoder attention, made again from recorded queries and keys, for the layers that a reducer asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from lofi.models.recording import Chunk

QUERIES_AT_ONCE = 1024  # rows of a map that are in memory at a time


@dataclass(frozen=True)
class TappedAttention:
    """Recorded queries and keys of a batch: by layer, chunks of tokens that see each other, in the encoder's order."""

    chunks: Mapping[int, Sequence[Chunk]]
    n_extra: int  # tokens before the patches of each chunk: 1 where there is a CLS token
    depth: int
    heads: int

    def changed(self, change: Callable[[Tensor], Tensor]) -> "TappedAttention":
        """The same with every recorded query and key changed."""
        chunks = {layer: [(change(q), change(k)) for q, k in pairs] for layer, pairs in self.chunks.items()}
        return replace(self, chunks=chunks)

    def of(self, layer: int) -> Sequence[Chunk]:
        """The chunks of a layer; a negative one counts from the end."""
        layer %= self.depth
        if layer not in self.chunks:
            raise KeyError(f"encoder layer {layer} was not tapped; tapped: {sorted(self.chunks)}")
        return self.chunks[layer]


@dataclass(frozen=True)
class ImageAttention:
    """The attention of one image, as `lofi.methods.context.EncoderAttention` promises it.

    A token of several patches has the mean of what they have.
    """

    tapped: TappedAttention
    patches: tuple[Tensor, ...]  # of each tile: (n, g) long, counted over all images

    @property
    def n_extra(self) -> int:
        """Tokens before the patches."""
        return self.tapped.n_extra

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.tapped.heads

    @property
    def depth(self) -> int:
        """Layers of the encoder."""
        return self.tapped.depth

    def cls(self, layer: int) -> Tensor:
        """(n,) attention of the CLS query, mean over heads, CLS column cut; of each tile its own CLS query."""
        if self.n_extra == 0:
            raise ValueError("this encoder has no CLS token; use received attention")
        return torch.cat([self._tokens(layer, patches, _of_cls) for patches in self.patches])

    def received(self, layer: int) -> Tensor:
        """(n,) attention that each token receives, mean over heads and over all queries of its tile."""
        return torch.cat([self._tokens(layer, patches, _received) for patches in self.patches])

    def keys(self, layer: int) -> Tensor:
        """(n_extra + n, dv) keys, heads side by side, as attention multiplies them."""
        return self._states(layer, 1)

    def queries(self, layer: int) -> Tensor:
        """(n_extra + n, dv) queries, heads side by side, as attention multiplies them."""
        return self._states(layer, 0)

    def tile(self, index: int) -> "ImageAttention":
        """The attention inside one tile."""
        return replace(self, patches=(self.patches[index],))

    def _tokens(self, layer: int, patches: Tensor, weigh: Callable[[Chunk], Tensor]) -> Tensor:
        """(n,) of each token the mean over its patches of what `weigh` (t,) gives for the chunk that they are in."""
        parts = self._parts(layer, patches)
        queries = sum(chunk[0].shape[1] for chunk, _, _ in parts)
        found = parts[0][0][0].new_zeros(patches.shape, dtype=torch.float32)
        for chunk, inside, at in parts:
            # of several windows: a query outside a token's window gives it nothing, and counts
            found[inside] = weigh(chunk)[at] * (chunk[0].shape[1] / queries)
        return found.mean(1)

    def _states(self, layer: int, side: int) -> Tensor:
        (patches,) = self.patches
        parts = self._parts(layer, patches)
        rows = [chunk[side].float().transpose(0, 1).flatten(1) for chunk, _, _ in parts]  # (t, dv) of each chunk
        found = rows[0].new_zeros(*patches.shape, rows[0].shape[1])
        for states, (_, inside, at) in zip(rows, parts, strict=True):
            found[inside] = states[at]
        return torch.cat([rows[0][: self.n_extra], found.mean(1)])

    def _parts(self, layer: int, patches: Tensor) -> list[tuple[Chunk, Tensor, Tensor]]:
        """The chunks that hold patches (n, g): which of these (n, g) are in it, and where in the chunk they stand."""
        chunks = self.tapped.of(layer)
        sizes = [chunk[0].shape[1] - self.n_extra for chunk in chunks]
        parts = []
        for chunk, size, stop in zip(chunks, sizes, accumulate(sizes), strict=True):
            inside = (patches >= stop - size) & (patches < stop)
            if bool(inside.any()):
                parts.append((chunk, inside, patches[inside] - (stop - size) + self.n_extra))
        return parts


def _of_cls(chunk: Chunk) -> Tensor:
    """(t,) attention of the first query."""
    return _weights(chunk, slice(0, 1)).mean(0)[0]


def _received(chunk: Chunk) -> Tensor:
    """(t,) attention that each token receives from all t queries, as a mean."""
    t = chunk[0].shape[1]
    parts = [_weights(chunk, slice(i, i + QUERIES_AT_ONCE)).sum(1) for i in range(0, t, QUERIES_AT_ONCE)]
    return torch.stack(parts).sum(0).mean(0) / t


def _weights(chunk: Chunk, rows: slice) -> Tensor:
    """(heads, r, t) float32 softmaxed attention of some queries."""
    queries, keys = chunk[0][:, rows].float(), chunk[1].float()
    weights: Tensor = (queries @ keys.mT * keys.shape[-1] ** -0.5).softmax(-1)
    return weights
