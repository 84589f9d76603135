"""Keep every visual token: the reference of every comparison.

The identity at k = n is applied in `lofi.methods.select` for every reducer alike, so what is left here is to
refuse.
"""

from collections.abc import Sequence

from lofi.errors import UserError
from lofi.methods.context import Selection, VisualContext


def full(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """All tokens, once per entry of `ks`; a smaller count is refused."""
    n = len(context.projected)
    for k in ks:
        if k != n:
            raise UserError(f"method 'full' keeps all {n} tokens, not {k}; use keep 1.0, or another method")
    return [Selection(context.projected.new_ones(n).nonzero().squeeze(1)) for _ in ks]
