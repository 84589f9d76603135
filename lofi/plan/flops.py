"""Floating-point operations of the parts of a model: a product of (n, a) and (a, b) counts 2nab. Pure functions.

Only products count, and attention over every pair of a query and a key that is computed, as the engine computes them
on a GPU: its masks are explicit, so that a kernel saves nothing on the causal half. (On a CPU it leaves out the pairs
of different questions, a few per cent of all.) Norms, activations, rotary embeddings and softmax are left out; they are
a few operations to each number that a product takes thousands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Encoder:
    """The vision encoder: a transformer over patches."""

    depth: int
    width: int
    mlp: int
    patch_values: int  # numbers in one patch
    gated: bool = False  # three matrices in the MLP, else two
    extra: int = 0  # tokens beside the patches: CLS
    window: int = 0  # patches that attend to each other; 0: all
    whole_layers: int = 0  # where there are windows, the layers that have none


@dataclass(frozen=True)
class Projector:
    """What stands between encoder and decoder: linear layers, and as many copies of them as levels are read."""

    widths: tuple[int, ...]  # from the input of the first layer to the output of the last
    copies: int = 1


@dataclass(frozen=True)
class Decoder:
    """The language model: grouped keys and values, and an MLP of three matrices."""

    depth: int
    width: int
    mlp: int
    queries: int  # width of all query heads
    keys: int  # width of all key heads
    vocabulary: int
    tied: bool = False  # one matrix embeds tokens and reads logits


@dataclass(frozen=True)
class Views:
    """What one picture becomes: tiles for the encoder, rows out of it, tokens for the decoder."""

    tiles: int
    patches: int  # of one tile
    rows: int  # that the projector makes of all tiles
    tokens: int  # that the decoder reads


def dense(rows: float, *widths: int) -> float:
    """Linear layers one after the other: rows of widths[0] to rows of widths[1], and so on."""
    return sum(2.0 * rows * a * b for a, b in pairwise(widths))


def attention(queries: float, keys: float, width: int) -> float:
    """Scores and sums of `queries` tokens over `keys` tokens, all heads together `width` wide."""
    return 2 * 2.0 * queries * keys * width


def encode(encoder: Encoder, projector: Projector, views: Views) -> float:
    """One picture through encoder and projector."""
    n, w = views.patches + encoder.extra, encoder.width
    whole = encoder.whole_layers if encoder.window else encoder.depth
    pairs = whole * attention(n, n, w) + (encoder.depth - whole) * attention(n, min(encoder.window, n), w)
    block = 4 * dense(n, w, w) + (3 if encoder.gated else 2) * dense(n, w, encoder.mlp)
    tile = dense(views.patches, encoder.patch_values, w) + encoder.depth * block + pairs
    return views.tiles * tile + projector.copies * dense(views.rows, *projector.widths)


def prefill(decoder: Decoder, visual: Sequence[float], text: float, read: float = 0.0) -> float:
    """One row of `text` tokens, and of visual[l] visual tokens at the input of layer l, through all layers.

    `read` tokens more stand before them that the decoder has read already.
    """
    return sum(layer(decoder, k + text, k + text + read) for k in visual)


def step(decoder: Decoder, visual: Sequence[float], text: float) -> float:
    """One new token behind such a row, through all layers."""
    return sum(layer(decoder, 1, k + text + 1) for k in visual)


def layer(decoder: Decoder, tokens: float, keys: float) -> float:
    """One decoder layer: `tokens` rows that attend to `keys` rows."""
    d, q, kv = decoder.width, decoder.queries, decoder.keys
    projections = 2 * dense(tokens, d, q) + 2 * dense(tokens, d, kv)
    return projections + mlp(decoder, tokens) + attention(tokens, keys, q)


def mlp(decoder: Decoder, tokens: float) -> float:
    """The MLP of one decoder layer."""
    return 3 * dense(tokens, decoder.width, decoder.mlp)


def row_costs(decoder: Decoder) -> tuple[float, float]:
    """What one token costs a layer, and what a pair does: n tokens cost n of the first and n * n of the second."""
    return layer(decoder, 1, 0), attention(1, 1, decoder.queries)


def logits(decoder: Decoder, rows: float) -> float:
    """Rows of states to rows of logits."""
    return dense(rows, decoder.width, decoder.vocabulary)


def parameters(encoder: Encoder, projector: Projector, decoder: Decoder) -> int:
    """How many numbers the matrices of a model hold; biases and norms are left out."""
    w, d = encoder.width, decoder.width
    blocks = encoder.depth * (4 * w * w + (3 if encoder.gated else 2) * w * encoder.mlp)
    bridge = projector.copies * sum(a * b for a, b in pairwise(projector.widths))
    layers = decoder.depth * (2 * d * decoder.queries + 2 * d * decoder.keys + 3 * d * decoder.mlp)
    return blocks + encoder.patch_values * w + bridge + layers + (1 if decoder.tied else 2) * d * decoder.vocabulary
