"""SparseVLM (arXiv 2410.04417): keep the tokens that the text's raters attend to, and merge the best of the rest.

The raters are the tokens after the image whose embedding fits the image best. On the embeddings that enter
layer 0, the products of every visual token with every text token are softmaxed over the text and averaged over the
visual tokens; the text tokens above the mean rate at every stage. The score of a visual token is the attention that
it gets from the raters in the layer that just ran, mean over heads and raters.

`sparsevlm` is the authors' default version (1 and 1.5). Of the d tokens it deletes at a stage, the t = int(0.3 d) + 1
with the highest scores are recycled: density peaks on their states give c = int(t / 10) + 1 clusters, and the mean of
each stands after the kept tokens, in the order of the centres, as a visual token like the others. The
density carries a little noise, which decides between equal densities. Positions are counted anew without gaps.

`sparsevlm_plus` is version 2. The attention of a rater to a visual token is first divided by what rotary embedding
alone would make of their distance: the product of two vectors of ones rotated to the two positions, over the
square root of the head's width. The score is then the mean over the raters and over the `heads` heads whose
corrected attention to the visual tokens sums to most. Nothing is recycled, and positions are kept.

Deviations: a count of k is kept and merged tokens together, where the authors' count is the kept ones alone.
lofi keeps the largest number n' for which n' plus the c that follows from it is k; at the authors' own settings this
is their number. Below the c of deleting everything (18 of 576 tokens) no n' does: then nothing is kept as it is, and
k clusters are made of the recycled tokens. The noise of the authors is unseeded; lofi's follows from the image, the
seed and the layer. The first release chose its counts by the rank of the attention matrix; the default branch, and
lofi, take fixed counts per stage. Where no text token is above the mean (all score alike), all of them rate. The
divisor of version 2 nears zero far from the image, and is negative beyond; the authors do not guard it, nor does
lofi, except that scores that are not finite are an error. A model with fewer heads than `heads` uses all.
"""

import torch
from torch import Tensor

from lofi.methods.clusters import cluster_means, density_peaks
from lofi.methods.context import Selection, best_first, top
from lofi.methods.decoder import DecoderView, attention_rows, finite
from lofi.methods.random import uniforms

STREAM = 64  # plus the layer: random numbers that no other reducer and no other stage draws


def sparsevlm(view: DecoderView, k: int, /, *, seed: int) -> Selection:
    """The visual tokens that the raters attend to most, then the means of the recycled ones: k rows in all."""
    scores = rated(view, raters(view))
    kept, merged = portions(len(view.visual), k)
    size = recycled(len(view.visual) - kept)
    noise = uniforms(view.image_key, size, seed=seed, stream=STREAM + view.layer, device=scores.device)
    return recycle(view.hidden[view.visual], scores, kept, merged, noise)


def sparsevlm_plus(view: DecoderView, k: int, /, *, seed: int, heads: int = 14) -> Selection:
    """The k visual tokens with the largest corrected attention of the raters."""
    return Selection(top(rated_by_best_heads(view, raters(view), heads), k))


def fit_to_image(visual: Tensor, text: Tensor) -> Tensor:
    """(t,) how well each text embedding (t, d) fits the visual ones (n, d): float32, sums to 1."""
    products = visual.float() @ text.float().T
    return finite(products.softmax(1).mean(0), layer=0)


def raters(view: DecoderView) -> Tensor:
    """(r,) ascending columns of the text tokens that fit the image better than the mean."""
    if not len(view.text):
        raise ValueError("no token stands after the image: nothing can rate the visual tokens")
    fit = fit_to_image(view.entry_visual, view.entry_text)
    above = fit > fit.mean()
    return view.text[above] if bool(above.any()) else view.text


def rated(view: DecoderView, rows: Tensor) -> Tensor:
    """(v,) attention that the visual tokens got from the columns `rows` (r,) in the layer before, mean over heads."""
    weights = attention_rows(view, rows, layer=view.layer - 1)
    return weights[:, :, view.visual].mean(0).mean(0)


def rated_by_best_heads(view: DecoderView, rows: Tensor, heads: int) -> Tensor:
    """(v,) the same with each weight divided by `rotary_fall`, mean over the `heads` heads with the largest sums."""
    layer = view.layer - 1
    weights = attention_rows(view, rows, layer=layer)[:, :, view.visual]
    corrected = finite(weights / rotary_fall(view, rows), layer)
    best = best_first(corrected.sum((1, 2)))[:heads]
    return corrected[best].mean(0).mean(0)


def rotary_fall(view: DecoderView, rows: Tensor) -> Tensor:
    """(r, v) products of vectors of ones, rotated to the columns `rows` (r,) and to the visual ones, over sqrt(w)."""
    cos, sin = (part.float() for part in view.rotary)
    sign = torch.ones_like(sin)
    sign[:, : sin.shape[1] // 2] = -1.0  # the first half turns against the second
    ones = cos + sin * sign
    product: Tensor = ones[rows] @ ones[view.visual].T / ones.shape[1] ** 0.5
    return product


def recycled(deleted: int) -> int:
    """How many of the deleted tokens are recycled."""
    return int(0.3 * deleted) + 1


def portions(v: int, k: int) -> tuple[int, int]:
    """How many of v tokens are kept and how many rows are merged for k rows in all, 1 <= k < v.

    The rule gives c(d) merged rows for d deleted tokens. c never falls with d, and d + 1 adds at most one row to c(d),
    so n' + c(v - n') climbs in steps of 0 or 1 from c(v) at n' = 0 to v at n' = v - 1: every k from c(v) on is met.
    """
    for kept in range(k - 1, -1, -1):
        if kept + recycled(v - kept) // 10 + 1 == k:
            return kept, k - kept
    return 0, k


def recycle(states: Tensor, scores: Tensor, kept: int, merged: int, noise: Tensor) -> Selection:
    """The `kept` best of v states (v, d) as they are, then `merged` means of the next best, one per noise (t,)."""
    order = best_first(scores)
    as_they_are, again = order[:kept].sort().values, order[kept : kept + len(noise)]
    centres, labels = density_peaks(states[again], merged, noise)
    means = cluster_means(states[again], labels, merged).to(states.dtype)
    places = torch.cat([as_they_are, again[centres]])
    return Selection(places.sort().values, torch.cat([states[as_they_are], means]), places)
