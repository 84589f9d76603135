"""ToMe (arXiv 2210.09461): merge the tokens that are most alike, pair by pair, until k rows remain.

This is the form after the encoder; `tome_vit` merges inside it. In each round the t rows are split into those at
even and those at odd places. Every even row finds the odd row of highest cosine; the r even rows whose cosine is
highest merge into theirs, at most half of all rows in one round. A merged row is the mean of the tokens behind it:
rows weigh as much as tokens stand behind them, and these sizes are carried from round to round. The rows of the
next round are the unmerged even rows, best cosine first, and then all odd rows.

Rounds take r = min(t - k, t // 2) until k rows remain. The cosines are those of the encoder's features, after the
first round of the merged features. The LLM reads the rows in the order of the first token behind each, which is
also the place where the row stands.

Deviations: the paper merges inside the encoder and compares attention keys. After the encoder there are no keys of
merged rows, so features are compared, and any k is met exactly. The authors leave the rows in the order of the
last round, which is no order of the image; lofi sorts them, since the LLM reads positions. A token of length zero has
cosine 0 with all others, where the authors' division gives NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lofi.methods.context import Selection, VisualContext, best_first
from lofi.methods.similarity import cosines


def head_mean(keys: Tensor, heads: int) -> Tensor:
    """(t, dv / heads) float32 mean over heads of the keys (t, dv), heads side by side."""
    return keys.float().reshape(len(keys), heads, -1).mean(1)


def group_sums(rows: Tensor, group: Tensor, count: int) -> Tensor:
    """(count, d) float32 sums of the rows (t, d) of each group, where `group` (t,) is in 0..count-1.

    A product, because a GPU scatters additions in an order, and so with a rounding, that differs from run to run.
    """
    return one_hot(group, count).float().T @ rows.float()


@dataclass(frozen=True)
class Round:
    """Which rows of one round merge. Even rows count by half their place, odd ones by half of it rounded down."""

    unmerged: Tensor  # (a - r,) even rows that stay, in the order in which they go on
    source: Tensor  # (r,) even rows that merge, best cosine first
    target: Tensor  # (r,) the odd row that each merges into
    size: int  # t, the rows before the round

    @property
    def owner(self) -> Tensor:
        """(t,) the row after the round that each row before it goes into: unmerged ones first, then all odd ones."""
        owner = self.source.new_empty(self.size)
        n_unmerged = len(self.unmerged)
        owner[2 * self.unmerged] = torch.arange(n_unmerged, device=owner.device)
        owner[1::2] = n_unmerged + torch.arange(self.size // 2, device=owner.device)
        owner[2 * self.source] = n_unmerged + self.target
        return owner


@dataclass(frozen=True)
class Matching:
    """The nearest odd row of every even row among t; it serves every r."""

    ranking: Tensor  # (a,) even rows, best cosine first; CLS, the first row where there is one, comes last
    nearest: Tensor  # (a,) the odd row nearest to each even row
    size: int  # t
    has_cls: bool

    def cut(self, r: int) -> Round:
        """The round that merges r rows away, or as many as half of what may merge."""
        r = min(r, (self.size - self.has_cls) // 2)
        source, unmerged = self.ranking[:r], self.ranking[r:]
        # CLS has to stay the first row, so the others return to their order as well.
        unmerged = unmerged.sort().values if self.has_cls else unmerged
        return Round(unmerged, source, self.nearest[source], self.size)


def match(metric: Tensor, *, has_cls: bool) -> Matching:
    """Pair even with odd rows of the metric (t, d), t >= 2, by cosine. CLS neither merges nor is merged into."""
    similarity = cosines(metric[0::2], metric[1::2])
    best, nearest = similarity.max(1)  # the first of equal ones, as torch documents
    ranking = best_first(best[has_cls:]) + int(has_cls)
    ranking = torch.cat([ranking, ranking.new_zeros(int(has_cls))])
    return Matching(ranking, nearest, len(metric), has_cls)


@dataclass(frozen=True)
class Merged:
    """n tokens merged into t rows."""

    rows: Tensor  # (t, d) float32 means
    sizes: Tensor  # (t,) float32: the tokens behind each row
    owner: Tensor  # (n,) the row of each token

    def after(self, step: Round) -> "Merged":
        """What one more round makes of it."""
        owner, count = step.owner, step.size - len(step.source)
        sizes = group_sums(self.sizes[:, None], owner, count)
        rows = group_sums(self.rows * self.sizes[:, None], owner, count) / sizes
        return Merged(rows, sizes[:, 0], owner[self.owner])


def first_tokens(owner: Tensor, count: int) -> Tensor:
    """(count,) the smallest index of a token behind each row, from the row of each token (n,)."""
    index = torch.arange(len(owner), device=owner.device)
    return torch.full_like(owner[:count], len(owner)).scatter_reduce(0, owner, index, "amin")


def tome(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The k rows that remain; every halving, and the pairs of every round, serve all of `ks`."""
    n, device = len(context), context.hidden.device
    merged = Merged(context.hidden.float(), torch.ones(n, device=device), torch.arange(n, device=device))
    matching = match(merged.rows, has_cls=False)
    found: dict[int, Selection] = {}
    for k in sorted(set(ks), reverse=True):
        while k < matching.size - matching.size // 2:
            merged = merged.after(matching.cut(matching.size // 2))
            matching = match(merged.rows, has_cls=False)
        found[k] = _in_order(context, merged.after(matching.cut(matching.size - k)))
    return [found[k] for k in ks]


def _in_order(context: VisualContext, merged: Merged) -> Selection:
    """The rows as the LLM reads them, each at the first token behind it."""
    kept, order = first_tokens(merged.owner, len(merged.rows)).sort()
    return Selection(kept, context.project(merged.rows[order].to(context.hidden.dtype)))
