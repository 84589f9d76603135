"""TRIM (arXiv 2409.10994): the tokens that CLIP matches least with the question's text, and the mean of the others.

The question is one CLIP text embedding, cut at 77 tokens. Each patch is embedded by the vision half of the same CLIP
model (post-layernorm, then visual projection). The score is the softmax over the patches of the *negated* dot
product, neither side normalised: in CLIP, the patches that a text names are the ones least similar to it. The
tokens with the largest scores stay, in raster order; one more row follows them, the mean of all dropped tokens,
formed before the projector.

`trim` keeps k - 1 tokens and the mean, k rows in all; for k = 1 it is the mean of all tokens alone.

`trim_auto` sets its own count, as the authors' released models do: it keeps as many tokens as there are outliers
among the scores, above the third quartile by more than 1.5 times the distance between the quartiles. In an
any-resolution image the outliers are counted over all tiles together and each tile keeps an equal part, with a mean
of its own; a tile without so many tokens keeps all but one.

Deviations: the published count does not include the mean row; lofi's does, so that a budget is what the language
model reads. The published automatic ratio is taken over all images of a batch; lofi takes one image. The code gets
the count from a ratio in floating point, which for some sizes falls one short of the number of outliers; lofi
divides whole numbers. Where positions are kept, the mean row stands at the last place of the image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Selection, VisualContext, complement, split_tiles, top


def opposition(patches: Tensor, sentence: Tensor) -> Tensor:
    """(n,) float32 softmax of the negated dot products of the patches (n, e) with the text (e,)."""
    return torch.softmax(-(patches.float() @ sentence.float()), 0)


def outliers(scores: Tensor) -> int:
    """How many of the scores (…) lie above the upper fence of their quartiles."""
    flat = scores.float().flatten()
    lower, upper = flat.quantile(0.25), flat.quantile(0.75)
    return int((flat > upper + 1.5 * (upper - lower)).sum())


def question_scores(context: VisualContext) -> Tensor:
    """(n,) scores of the context's patches for its question."""
    if context.tower is None:
        raise UserError("trim compares patches with the question in CLIP's space: give the model a `text_tower`")
    if context.question is None:
        raise UserError("trim reads the question, and this image has none")
    return opposition(context.tower.patches(context.hidden), context.tower.sentence(context.question.text))


def with_mean(context: VisualContext, scores: Tensor, count: int) -> Selection:
    """The `count` < n tokens with the highest scores (n,), and a last row for the mean of the others."""
    n = len(context)
    kept = top(scores, count)
    mean = context.hidden[complement(kept, n)].float().mean(0, keepdim=True)
    extra = context.project(mean.to(context.hidden.dtype)).to(context.projected.dtype)
    return Selection(kept, torch.cat([context.projected[kept], extra]), torch.cat([kept, kept.new_tensor([n - 1])]))


def trim(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The k - 1 tokens with the highest scores, and the mean of the others."""
    scores = question_scores(context)
    return [with_mean(context, scores, k - 1) for k in ks]


def trim_auto(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """As many tokens as there are outliers, in equal parts for each tile, and each tile's mean of the others."""
    parts = split_tiles(context)
    scores = [question_scores(part) for part in parts]
    count = outliers(torch.cat(scores)) // len(parts)
    found, start = [], 0
    for part, row in zip(parts, scores, strict=True):
        found.append(with_mean(part, row, min(count, len(part) - 1)).at(start))
        start += len(part)
    rows = torch.cat([selection.embeds for selection in found if selection.embeds is not None])
    places = torch.cat([selection.rows for selection in found])
    return [Selection(torch.cat([selection.kept for selection in found]), rows, places) for _ in ks]
