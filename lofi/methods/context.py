"""What a reducer before the LLM may look at, and what every reducer gives back."""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from lofi.errors import UserError

# The papers name layers of CLIP-L, which has 24; another depth takes the same share of the way.
PAPER_ENCODER_DEPTH = 24

Part = TypeVar("Part", bound=Sized)


class EncoderAttention(Protocol):
    """Lazy view of one image's encoder attention; nothing is computed before it is asked for.

    Layers count as in Python: -1 is the encoder's last layer, 0 its first. Rows and columns before the n patches
    (`n_extra` of them: 1 where there is a CLS token, else 0) come first.
    """

    @property
    def n_extra(self) -> int:
        """Tokens before the patches."""

    @property
    def heads(self) -> int:
        """Attention heads, for reducers that average keys over them."""

    @property
    def depth(self) -> int:
        """Layers of the encoder."""

    def cls(self, layer: int) -> Tensor:
        """(n,) attention of the CLS query: softmax over all tokens, mean over heads, CLS column cut."""

    def received(self, layer: int) -> Tensor:
        """(n,) attention that each patch receives: mean over heads and over all queries, CLS included."""

    def keys(self, layer: int) -> Tensor:
        """(n_extra + n, dv) raw keys, heads side by side, bias included, not scaled."""

    def queries(self, layer: int) -> Tensor:
        """(n_extra + n, dv) raw queries, heads side by side, bias included, not scaled."""

    def tile(self, index: int) -> "EncoderAttention":
        """The attention inside one tile of an any-resolution image.

        Of all tiles together only `cls` and `received` make sense: one tile after the other, n values in all.
        """


class TextTower(Protocol):
    """The CLIP model that the vision encoder was cut from: patches and text in one space of width e."""

    def patches(self, hidden: Tensor) -> Tensor:
        """(n, e) visual_projection(post_layernorm(hidden)) of the patches (n, dv)."""

    def segments(self, text: str) -> Tensor:
        """(s, e) one embedding for each 77 tokens of the text, nothing cut off."""

    def sentence(self, text: str) -> Tensor:
        """(e,) one embedding of the text, cut at 77 tokens."""


class EncoderBlocks(Protocol):
    """The encoder run again, block by block, with fewer tokens after each."""

    def run(self, merge: Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """(t, dv) states at the feature layer, CLS first where there is one.

        Between attention and MLP of block i, `merge(i, keys, x, sizes)` gets the keys (t, dv), the states (t, dv)
        and how many tokens stand behind each (t,), and returns the states and sizes that go on. Attention adds
        log(sizes) to the logits of every key.
        """

    def tile(self, index: int) -> "EncoderBlocks":
        """The encoder in front of one tile of an any-resolution image; all tiles together cannot be run."""


@dataclass(frozen=True)
class Question:
    """The question, for reducers that see it."""

    text: str
    embeds: Tensor  # (t, d) the LLM's input embeddings of its tokens


@dataclass(frozen=True)
class Tiles:
    """An any-resolution image: `count` tiles one after the other, the whole image first."""

    count: int
    layout: tuple[int, int]  # rows and columns of the tiles that follow the first; their product is count - 1
    grids: tuple[tuple[int, int], ...] | None = None  # (h, w) of each tile, where the model has cut borders off

    def sizes(self, n: int) -> list[int]:
        """How many of n tokens each tile has."""
        return [n // self.count] * self.count if self.grids is None else [h * w for h, w in self.grids]


@dataclass(frozen=True)
class VisualContext:
    """One image as a reducer sees it: n visual tokens, encoder width dv, LLM width d."""

    hidden: Tensor  # (n, dv) what the projector reads; `project` maps it row by row to `projected`
    projected: Tensor  # (n, d) what the LLM would read
    grid: tuple[int, int]  # (h, w) of the image, or of each tile; raster order
    image_key: int  # 63 bits of the image's hash: one image draws the same random numbers everywhere
    attention: EncoderAttention | None = None  # None where the model has no such encoder
    feature_layer: int = -2  # the encoder layer whose output is `hidden`
    extra: Tensor | None = None  # (tiles * n_extra, dv) what the encoder gives for the tokens before the patches
    project: Callable[[Tensor], Tensor] = lambda rows: rows  # (r, dv) to (r, d)
    question: Question | None = None
    tower: TextTower | None = None
    blocks: EncoderBlocks | None = None
    tiles: Tiles | None = None  # None for one image of one grid

    def __len__(self) -> int:
        return len(self.projected)

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """(h, w) of each tile, of one for an image of one grid."""
        if self.tiles is None:
            return (self.grid,)
        return self.tiles.grids or (self.grid,) * self.tiles.count


@dataclass(frozen=True)
class Selection:
    """The surviving tokens of one image, or of one stage inside the LLM.

    Where `embeds` is None the LLM reads the kept tokens as they are. Where a method merges, it reads the r rows of
    `embeds` in their order instead; there may be more of them than kept tokens, and `places` then says at which of
    the n places each row stands.
    """

    kept: Tensor  # (k,) long, ascending raster order
    embeds: Tensor | None = None  # (r, d)
    places: Tensor | None = None  # (r,) long; None: the rows stand at `kept`
    trace: Mapping[str, float] = field(default_factory=dict)  # rank, mass: what the audit should store

    @property
    def count(self) -> int:
        """r, the number of visual tokens that the LLM reads."""
        return len(self.kept) if self.embeds is None else len(self.embeds)

    @property
    def rows(self) -> Tensor:
        """(r,) the place of every row that the LLM reads."""
        return self.kept if self.places is None else self.places

    def at(self, offset: int) -> "Selection":
        """The same selection among tokens that begin at `offset`."""
        places = None if self.places is None else self.places + offset
        return replace(self, kept=self.kept + offset, places=places)


class Reduce(Protocol):
    """A reducer: for one image, one selection per entry of `ks`, so that shared work is done once."""

    def __call__(self, context: VisualContext, ks: Sequence[int], /, *, seed: int, **params: Any) -> list[Selection]:
        """Select `ks` of the image's tokens."""


def best_first(scores: Tensor) -> Tensor:
    """All indices, highest score first, lower index first on ties. NaN is an error, never a rank."""
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("scores hold NaN or infinity: no token can be ranked by them")
    return torch.sort(scores, descending=True, stable=True).indices


def top(scores: Tensor, k: int) -> Tensor:
    """(k,) the indices of the k highest scores, ascending; lower index first on ties."""
    return best_first(scores)[:k].sort().values


def prefixes(ranking: Tensor, ks: Sequence[int]) -> list[Selection]:
    """One nested selection per k: the first k of the ranking, back in raster order."""
    return [Selection(ranking[:k].sort().values) for k in ks]


def complement(kept: Tensor, n: int) -> Tensor:
    """(n - k,) the indices in 0..n-1 that are not among `kept` (k,), ascending."""
    left = torch.ones(n, dtype=torch.bool, device=kept.device)
    left[kept] = False
    return left.nonzero().squeeze(1)


def split_tiles(context: VisualContext) -> list[VisualContext]:
    """Each tile of an any-resolution image as an image of its own, with random numbers of its own."""
    if context.tiles is None:
        return [context]
    count, sizes = context.tiles.count, context.tiles.sizes(len(context))
    hidden, projected = torch.split(context.hidden, sizes), torch.split(context.projected, sizes)
    extra = [None] * count if context.extra is None else context.extra.chunk(count)
    return [
        replace(
            context,
            hidden=hidden[i],
            projected=projected[i],
            grid=context.grids[i],
            extra=extra[i],
            attention=context.attention.tile(i) if context.attention else None,
            blocks=context.blocks.tile(i) if context.blocks else None,
            image_key=context.image_key ^ i,
            tiles=None,
        )
        for i in range(count)
    ]


def portions(parts: Sequence[Part], k: int) -> list[tuple[Part, int]]:
    """Each tile of an image with its part of k tokens: equal parts, the first tiles taking what is over.

    A tile that holds fewer than its part keeps all it has, and the others share the rest.
    """
    if k < len(parts):
        raise UserError(f"{k} tokens are fewer than the {len(parts)} tiles of an image; keep at least {len(parts)}")
    share, over = divmod(k, len(parts))
    if small := [i for i, part in enumerate(parts) if len(part) < share + (i < over)]:
        left = [part for i, part in enumerate(parts) if i not in small]
        rest = iter(portions(left, k - sum(len(parts[i]) for i in small)))
        return [(part, len(part)) if i in small else next(rest) for i, part in enumerate(parts)]
    return [(part, share + (i < over)) for i, part in enumerate(parts)]


def encoder_layer(layer: int, depth: int) -> int:
    """A layer of the paper's 24, counted from 0, in an encoder of `depth` layers; negative ones stay."""
    return layer if layer < 0 else min(depth - 1, round(layer * depth / PAPER_ENCODER_DEPTH))


def finite(attention: Tensor, layer: int) -> Tensor:
    """The same attention in float32; NaN or infinity is an error that names the encoder layer."""
    if not bool(torch.isfinite(attention).all()):
        raise ValueError(f"the attention of encoder layer {layer} holds NaN or infinity")
    return attention.float()


def saliency(context: VisualContext, layer: int | None = None) -> Tensor:
    """(n,) float32 CLS attention of a layer, or received attention where the encoder has no CLS token.

    The default is the layer whose output the projector reads.
    """
    attention = context.attention
    if attention is None:
        raise ValueError("this model's encoder gives no attention")
    at = context.feature_layer if layer is None else layer
    return finite(attention.cls(at) if attention.n_extra else attention.received(at), at)
