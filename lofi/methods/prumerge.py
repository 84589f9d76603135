"""PruMerge and PruMerge+ (arXiv 2403.15388): keep the CLS token's attention outliers, and merge the rest into them.

The attention a is that of one single head as wide as the encoder: softmax(q k^T / sqrt(dv)) on the queries and
keys of the encoder's last layer before they are split into heads, CLS row, CLS column cut without renormalising.
It is not the attention that the encoder itself computes. With encoder features x, before the projector:

    y_i    x_i + sum of a_j x_j over the 32 tokens j whose keys have the largest cosine to the key of i
    extra  sum of a_j x_j over all tokens that are not selected

The language model reads y of the selected tokens, highest attention first, and then the extra token, all through
the projector. The three methods differ in what they select:

    prumerge        the m tokens with a > Q3 + 1.5 (Q3 - Q1), quartiles with linear interpolation
    prumerge_fixed  the k - 1 tokens with the largest a
    prumerge_plus   those of prumerge, then every int(int(n / m) / 3)-th token from 0 to n - 2 that is not among them

A neighbour may itself be selected, and one token may feed many others. The trace holds the number of selected
tokens without the extra token (`count`) and the share of the ranked ones in all tokens (`ratio`). The extra token
has no place of its own and stands at n - 1.

Deviations: the paper speaks of clusters; the authors' code, which lofi follows, adds the 32 neighbours with
weights that do not sum to 1, and appends the extra token. In the code a fixed count means k selected tokens and
k + 1 rows; lofi counts what the language model reads, so `prumerge_fixed` selects k - 1, and k = 1 is the extra
token alone. The adaptive count is taken as counted, where the code multiplies its share by n again and rounds down,
which loses a token at some n, not at 576. The code finds one share for a whole batch; lofi looks at one image at a
time. The stride samples of the code end at the literal 575; lofi ends at n - 1, the same for 576 tokens. Without
outliers the code of PruMerge+ divides by zero; lofi samples nothing then, and gives the extra token alone. A step
of 0 would be taken as 1, but at most a quarter of the tokens can be outliers, so the step never is 0. Where all n
tokens are selected the extra token would be a row of zeros in front of the projector, and is left out. With 33 or
fewer tokens all others are neighbours. Where the encoder has no CLS token, a is the mean over all queries of the
same single head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lofi.methods.context import EncoderAttention, Selection, VisualContext, best_first, complement, finite
from lofi.methods.similarity import cosines

LAYER = -1  # whose queries and keys are read: the layer whose input are the features of LLaVA
NEIGHBOURS = 32  # tokens that each selected token absorbs
WHISKER = 1.5  # Tukey's outlier rule, in interquartile ranges


def single_head(attention: EncoderAttention) -> Tensor:
    """(n,) float32 attention of the CLS query, as if the layer had one head; mean over queries without CLS."""
    queries, keys = attention.queries(LAYER).float(), attention.keys(LAYER).float()
    asking = queries[:1] if attention.n_extra else queries
    logits = asking @ keys.T / keys.shape[1] ** 0.5
    return finite(logits.softmax(1).mean(0)[attention.n_extra :], LAYER)


def absorb(hidden: Tensor, keys: Tensor, attention: Tensor) -> Tensor:
    """(n, dv) float32 features, each plus the weighted features of its nearest neighbours by key.

    hidden: (n, dv), keys: (n, dv), attention: (n,) the weights. Row i does not depend on what is selected.
    """
    nearness = cosines(keys).fill_diagonal_(-torch.inf)
    weights = torch.where(largest(nearness, min(NEIGHBOURS, len(keys) - 1)), attention, 0.0).fill_diagonal_(1.0)
    return weights @ hidden.float()


def largest(scores: Tensor, count: int) -> Tensor:
    """(n, n) bool: the `count` largest of each row of scores (n, n), lower index first on ties."""
    last = scores.topk(max(count, 1), dim=1).values[:, -1:]
    above, tied = scores > last, scores == last
    return above | (tied & (tied.cumsum(1) <= count - above.sum(1, keepdim=True)))


def outliers(attention: Tensor) -> int:
    """How many of the scores (n,) lie above the upper whisker."""
    scores = attention.double()
    lower, upper = torch.quantile(scores, scores.new_tensor([0.25, 0.75]))
    return int((scores > upper + WHISKER * (upper - lower)).sum())


def with_stride(ranked: Tensor, n: int) -> Tensor:
    """The m ranked tokens, then those of every int(int(n / m) / 3)-th place that are not among them, ascending."""
    if len(ranked) == 0:
        return ranked
    step = int(1 / (len(ranked) / n))  # the authors' arithmetic, rounding included
    samples = torch.arange(0, n - 1, max(1, int(step / 3)), device=ranked.device)
    return torch.cat([ranked, samples[~torch.isin(samples, ranked)]])


@dataclass(frozen=True)
class Scored:
    """What all selections of one image share."""

    attention: Tensor  # (n,) float32
    ranking: Tensor  # (n,) long, largest attention first
    absorbed: Tensor  # (n, dv) float32, each token with its neighbours


def scored(context: VisualContext) -> Scored:
    """Attention, ranking and merged features of one image, whatever is selected later."""
    if context.attention is None:
        raise ValueError("this model's encoder gives no attention")
    if not bool(torch.isfinite(context.hidden).all()):
        raise ValueError("tokens hold NaN or infinity: they cannot be merged")
    attention = single_head(context.attention)
    keys = context.attention.keys(LAYER)[context.attention.n_extra :]
    return Scored(attention, best_first(attention), absorb(context.hidden, keys, attention))


def features(scores: Scored, hidden: Tensor, selected: Tensor) -> Tensor:
    """(r, dv) float32 rows before the projector: the selected tokens (m,), then one of all others (n - m), if any."""
    rest = complement(selected, len(hidden))
    extra = scores.attention[rest] @ hidden[rest].float()
    return torch.cat([scores.absorbed[selected], extra[None][: len(rest)]])


def merged(context: VisualContext, scores: Scored, selected: Tensor, ranked: int) -> Selection:
    """The selected tokens (m,), of which the first `ranked` were chosen by attention, as the LLM reads them."""
    n = len(context)
    rows = features(scores, context.hidden, selected)
    extra_place = selected.new_full((len(rows) - len(selected),), n - 1)
    return Selection(
        kept=selected.sort().values,
        embeds=context.project(rows.to(context.hidden.dtype)).to(context.projected.dtype),
        places=torch.cat([selected, extra_place]),
        trace={"ratio": ranked / n, "count": float(len(selected))},
    )


def prumerge(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The attention outliers and the extra token: the same selection for every entry of `ks`."""
    scores = scored(context)
    count = outliers(scores.attention)
    return [merged(context, scores, scores.ranking[:count], count)] * len(ks)


def prumerge_fixed(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The k - 1 tokens with the largest attention and the extra token."""
    scores = scored(context)
    return [merged(context, scores, scores.ranking[: k - 1], k - 1) for k in ks]


def prumerge_plus(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The attention outliers, stride samples and the extra token: the same selection for every entry of `ks`."""
    scores = scored(context)
    count = outliers(scores.attention)
    return [merged(context, scores, with_stride(scores.ranking[:count], len(context)), count)] * len(ks)
