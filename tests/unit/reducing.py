"""Made-up images and prompts that hold all that any reducer may ask for, and one way to run any of them.

Everything of an image follows from its tokens by fixed random maps, so that permuted tokens permute it, and zeros,
copies or NaN among them reach all of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from lofi.methods.context import Question, Selection, Tiles, VisualContext
from lofi.methods.decoder import DecoderView
from lofi.methods.rectangle import reachable
from lofi.methods.registry import METHODS, check_params
from lofi.methods.select import OWN, select, select_stage

from ..golden.decoding import StoredDecoderAttention, StoredLayer, rotary_of

ENCODER_WIDTH, WIDTH, SHARED_WIDTH = 16, 32, 10  # of the encoder, the LLM, and the space of patches and text
ENCODER_HEADS, HEADS, DEPTH = 4, 4, 12
FEATURE_LAYER = -2
EPSILON = 1e-6  # of the decoder's norms
BEFORE, AFTER, LAYER = 3, 5, 3  # tokens of a prompt before and after the image; the decoder layer it is about to enter

Scene = VisualContext | DecoderView


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(rows: Tensor, width: int, seed: int) -> Tensor:
    """The rows (r, w) through a random map, in their own dtype."""
    weights = noise(rows.shape[1], width, seed=seed) / rows.shape[1] ** 0.5
    return (rows.float() @ weights).to(rows.dtype)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "random": lambda tokens: tokens,
    "zero": torch.zeros_like,
    "constant": torch.ones_like,
    "copies": lambda tokens: tokens[torch.arange(len(tokens)) % 3],
    "half zero": lambda tokens: tokens * (torch.arange(len(tokens)) % 2)[:, None],
    "rank one": lambda tokens: torch.arange(1.0, len(tokens) + 1)[:, None] * tokens[:1],
}
"""What becomes of random tokens (n, w)."""


@dataclass
class Encoder:
    """Attention of an encoder whose layers all read the same states (n_extra + n, w)."""

    states: Tensor
    n_extra: int
    heads: int = ENCODER_HEADS
    depth: int = DEPTH
    asked: set[int] = field(default_factory=set)  # the layers that somebody asked for, from 0
    parts: "tuple[Encoder, ...]" = ()  # one for each tile

    def _projected(self, layer: int, seed: int) -> Tensor:
        self.asked.add(layer % self.depth)
        return linear(self.states, ENCODER_WIDTH, seed + layer % self.depth)

    def keys(self, layer: int) -> Tensor:
        return self._projected(layer, 100)

    def queries(self, layer: int) -> Tensor:
        return self._projected(layer, 200)

    def _map(self, layer: int) -> Tensor:
        """(n_extra + n, n) attention of every query to the patches, mean over heads."""
        queries, keys = (
            rows.float().unflatten(1, (self.heads, -1)).transpose(0, 1)
            for rows in (self.queries(layer), self.keys(layer))
        )
        weights: Tensor = (queries @ keys.mT * keys.shape[-1] ** -0.5).softmax(-1).mean(0)
        return weights[:, self.n_extra :]

    def cls(self, layer: int) -> Tensor:
        assert self.n_extra == 1, "this encoder has no CLS token"
        return torch.cat([part.cls(layer) for part in self.parts]) if self.parts else self._map(layer)[0]

    def received(self, layer: int) -> Tensor:
        return torch.cat([part.received(layer) for part in self.parts]) if self.parts else self._map(layer).mean(0)

    def tile(self, index: int) -> "Encoder":
        return self.parts[index]


class Tower:
    """Patches and text in one space. Texts of 20 characters are a segment each."""

    def patches(self, hidden: Tensor) -> Tensor:
        return linear(hidden, SHARED_WIDTH, 300)

    def segments(self, text: str) -> Tensor:
        return torch.stack([self.sentence(text[i : i + 20]) for i in range(0, len(text), 20)])

    def sentence(self, text: str) -> Tensor:
        return noise(SHARED_WIDTH, seed=sum(i * ord(letter) for i, letter in enumerate(text[:20], 1)))


@dataclass
class Blocks:
    """A small transformer up to the feature layer, from states (n_extra + n, w)."""

    states: Tensor

    def run(self, merge: Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        x, sizes = self.states, torch.ones(len(self.states))
        for block in range(FEATURE_LAYER % DEPTH + 1):
            queries, keys, values = (linear(x, ENCODER_WIDTH, seed + block) for seed in (400, 500, 600))
            logits = queries.float() @ keys.float().T / ENCODER_WIDTH**0.5 + sizes.log()
            x = x + (logits.softmax(1) @ values.float()).to(x.dtype)
            x, sizes = merge(block, keys, x, sizes)
            x = x + linear(x, ENCODER_WIDTH, 700 + block).tanh()
        return x


def project(rows: Tensor) -> Tensor:
    return linear(rows, WIDTH, 800)


def question(text: str = "how many dogs are there?") -> Question:
    return Question(text, noise(6, WIDTH, seed=len(text)))


def image(
    grid: tuple[int, int] = (6, 6),
    *,
    kind: str = "random",
    seed: int = 0,
    cls: bool = True,
    dtype: torch.dtype = torch.float32,
    order: Tensor | None = None,
    change: Callable[[Tensor], Tensor] = lambda tokens: tokens,
) -> VisualContext:
    """An image of a grid with everything there is; `order` permutes its tokens, `change` has the last word on them."""
    n = grid[0] * grid[1]
    tokens = KINDS[kind](noise(n, ENCODER_WIDTH, seed=seed))
    hidden = change(tokens if order is None else tokens[order]).to(dtype)
    extra = noise(1, ENCODER_WIDTH, seed=seed + 1000).to(dtype) if cls else None
    states = hidden if extra is None else torch.cat([extra, hidden])
    return VisualContext(
        hidden,
        project(hidden),
        grid,
        image_key=12345,
        attention=Encoder(states, int(cls)),
        feature_layer=FEATURE_LAYER,
        extra=extra,
        project=project,
        question=question(),
        tower=Tower(),
        blocks=Blocks(states),
    )


@dataclass
class TiledBlocks:
    """One encoder for each tile; all tiles together cannot be run."""

    parts: list[Any]

    def run(self, merge: Callable[..., Any]) -> Tensor:
        raise AssertionError("the encoder was run on all tiles together")

    def tile(self, index: int) -> Any:
        return self.parts[index]


def tiled(layout: tuple[int, int], grid: tuple[int, int] = (4, 4), *, cls: bool = True) -> VisualContext:
    """An any-resolution image: the whole image, then its tiles."""
    parts = [image(grid, seed=seed, cls=cls) for seed in range(1 + layout[0] * layout[1])]
    encoders = tuple(part.attention for part in parts if isinstance(part.attention, Encoder))
    extras = [part.extra for part in parts if part.extra is not None]
    hidden = torch.cat([part.hidden for part in parts])
    return replace(
        parts[0],
        hidden=hidden,
        projected=project(hidden),
        extra=torch.cat(extras) if extras else None,
        attention=Encoder(hidden, int(cls), parts=encoders),
        blocks=TiledBlocks([part.blocks for part in parts]),
        tiles=Tiles(len(parts), layout),
    )


def attention_of(hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> StoredDecoderAttention:
    """Queries and keys of the layer ahead and of the one before it, for the states (s, d)."""
    stored = StoredDecoderAttention()
    for layer in (LAYER - 1, LAYER):
        wq = noise(WIDTH, WIDTH, seed=900 + layer) / WIDTH**0.5
        wk = noise(WIDTH // 2, WIDTH, seed=950 + layer) / WIDTH**0.5  # two heads of queries share one of keys
        block = StoredLayer(layer, wq, wk, torch.ones(WIDTH), width=WIDTH // HEADS, eps=EPSILON)
        row = block.attention(hidden, rotary)
        stored.rotated[layer] = row.queries(layer), row.keys(layer)
        stored.plain[layer] = row.queries(layer, rotary=False), row.keys(layer, rotary=False)
        stored.scales[layer] = row.scale(layer)
    return stored


def prompt(
    grid: tuple[int, int] = (6, 6),
    *,
    kind: str = "random",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    order: Tensor | None = None,
    change: Callable[[Tensor], Tensor] = lambda tokens: tokens,
    left: Sequence[int] | None = None,
) -> DecoderView:
    """A prompt whose image has that grid, of which the tokens at the places `left` still stand; default all."""
    n = grid[0] * grid[1]
    places = torch.arange(n) if left is None else torch.tensor(left)
    tokens = KINDS[kind](noise(n, WIDTH, seed=seed))
    tokens = change(tokens if order is None else tokens[order]).to(dtype)
    text = noise(AFTER, WIDTH, seed=seed + 2000).to(dtype)
    hidden = torch.cat([noise(BEFORE, WIDTH, seed=seed + 3000).to(dtype), tokens[places], text])
    normed = rms_norm(hidden.float(), (WIDTH,), eps=EPSILON).to(dtype)
    rotary = rotary_of(torch.arange(len(hidden)), WIDTH // HEADS)
    return DecoderView(
        layer=LAYER,
        depth=32,
        hidden=hidden,
        previous=hidden + linear(hidden, WIDTH, 990),
        normed=normed,
        visual=torch.arange(BEFORE, BEFORE + len(places)),
        text=torch.arange(BEFORE + len(places), len(hidden)),
        places=places,
        n=n,
        grid=grid,
        entry_visual=tokens,
        entry_text=text,
        attention=attention_of(hidden.float(), rotary),
        rotary=rotary,
        image_key=12345,
    )


def scene(name: str, grid: tuple[int, int] = (6, 6), **options: Any) -> Scene:
    """What a method reduces: an image, or a prompt for those inside the LLM."""
    return prompt(grid, **options) if METHODS[name].acts == "llm" else image(grid, **options)


def size(seen: Scene) -> int:
    """The number of visual tokens of a scene."""
    return len(seen) if isinstance(seen, VisualContext) else len(seen.visual)


def tokens_of(seen: Scene) -> Tensor:
    """(n, d) the visual tokens as the LLM holds them."""
    return seen.projected if isinstance(seen, VisualContext) else seen.hidden[seen.visual]


def counts(name: str, grid: tuple[int, int]) -> list[int]:
    """Counts below n that a method can be asked for: the ends, and some between."""
    n, reducer = grid[0] * grid[1], METHODS[name]
    if reducer.count == "own":
        return [OWN]
    if reducer.rectangle:
        fewer = reachable(grid)[:-1]
        return sorted({fewer[0], fewer[1], fewer[len(fewer) // 2], fewer[-1]})
    return [1, 2, n // 3, n - 1]


def run(name: str, seen: Scene, ks: Sequence[int], *, seed: int = 0, **params: Any) -> list[Selection]:
    """The checked selections of a method with its default parameters, and calibrated on this image if it has to be."""
    full: Mapping[str, object] = check_params(name, params)
    if isinstance(seen, DecoderView):
        return [select_stage(name, seen, k, seed=seed, params=full) for k in ks]
    if METHODS[name].count == "calibrated":
        calibrate = import_module(METHODS[name].function.partition(":")[0]).calibrate
        own = {key: full[key] for key in METHODS[name].params}
        full = {**full, "targets": calibrate([seen], sorted(set(ks)), **own)}
    return select(name, seen, ks, seed=seed, params=full)
