"""ToMe inside the encoder (arXiv 2210.09461): every block of the vision encoder merges the tokens most alike.

Between the attention and the MLP of each block the tokens merge as in `tome`: even rows into odd ones, ranked by
the cosine of their keys, which are averaged over heads. The CLS token neither merges nor is merged into. Attention
adds the logarithm of a row's size to its logits, so that a row weighs as much as the tokens behind it
(proportional attention, which the authors use for encoders that were not trained with merging). Only blocks up to
the layer that the projector reads merge. What comes out of it, less the CLS row, is projected and read by the LLM
in the order of the first token behind each row, which is also the place where the row stands.

To leave k of n tokens with b blocks, every block merges r = ceil((n - k) / b) tokens away, and the last ones what
is left to do. No block can merge more than half of its tokens. Where therefore r falls short of k, the smallest r
that reaches it is taken; a k that no r reaches is an error that names the smallest count.

Deviations: the authors set r and let the count follow; lofi sets the count. Their schedules that rise or fall with
depth are not offered. They leave the rows in the order of the last merge, which is no order of the image; lofi
sorts them, since the LLM reads positions. A key of length zero has cosine 0 with all others, where the authors'
division gives NaN. An encoder that reports no attention counts as one without CLS token and with one head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lofi.methods.context import EncoderBlocks, Selection, VisualContext
from lofi.methods.merge_schedule import schedule
from lofi.methods.tome import Merged, first_tokens, head_mean, match


@dataclass(frozen=True)
class Layout:
    """What merging has to know of an encoder."""

    blocks: int  # up to the feature layer
    heads: int
    has_cls: bool


def layout(context: VisualContext, blocks: EncoderBlocks) -> Layout:
    """The encoder's layout; blocks that no attention tells of are counted by one run without merging."""
    attention = context.attention
    if attention is not None:
        return Layout(context.feature_layer % attention.depth + 1, attention.heads, attention.n_extra == 1)
    seen = []

    def count(index: int, _keys: Tensor, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(index)
        return x, sizes

    blocks.run(count)
    return Layout(len(seen), 1, has_cls=False)


class Merger:
    """Merges in each block, and knows which tokens stand behind each row."""

    def __init__(self, steps: Sequence[int], layout: Layout, owner: Tensor) -> None:
        self._steps, self._layout = steps, layout
        self.owner = owner  # (n_extra + n,) the row of each token

    def __call__(self, block: int, keys: Tensor, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """The states (t - r, dv) and sizes (t - r,) that go on from the states (t, dv) with those keys (t, dv)."""
        if not self._steps[block]:
            return x, sizes
        matching = match(head_mean(keys, self._layout.heads), has_cls=self._layout.has_cls)
        merged = Merged(x.float(), sizes, self.owner).after(matching.cut(self._steps[block]))
        self.owner = merged.owner
        return merged.rows.to(x.dtype), merged.sizes


def tome_vit(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The k rows that come out of an encoder that merges; it runs once for each k."""
    if context.blocks is None:
        raise ValueError("this model's encoder cannot be run block by block")
    shape = layout(context, context.blocks)
    found = {k: _encode(context, context.blocks, shape, k) for k in sorted(set(ks))}
    return [found[k] for k in ks]


def _encode(context: VisualContext, blocks: EncoderBlocks, shape: Layout, k: int) -> Selection:
    """The encoder's k rows as the LLM reads them, each at the first token behind it."""
    n, extra = len(context), int(shape.has_cls)
    merger = Merger(schedule(n, k, shape.blocks), shape, torch.arange(extra + n, device=context.hidden.device))
    states = blocks.run(merger)
    first = first_tokens(merger.owner, len(states))
    kept, order = (first[extra:] - extra).sort()
    return Selection(kept, context.project(states[extra:][order].to(context.hidden.dtype)))
