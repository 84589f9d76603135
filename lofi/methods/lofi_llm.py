"""LoFi inside the LLM: keep the visual tokens with the largest leverage in the matrix of their hidden states.

The scores of `lofi` (see there for the family, and for `score`, `rank` and `ridge`), taken on another matrix:
X (v, d) holds the states of the visual tokens as they would enter decoder layer `layer`, before that layer's norm
and not centred. The text is not part of X. The default layer is the third one, number 2, where FastV and DART prune
too, so that the three differ in the score alone.

The trace holds what the trace of `lofi` holds: the rank, the leverage of the kept tokens over the rank, and the
share of the energy of X outside the span of the kept rows.
"""

from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView
from lofi.methods.lofi import by_leverage
from lofi.methods.random import uniforms


def lofi_llm(
    view: DecoderView,
    k: int,
    /,
    *,
    seed: int,
    layer: int = 2,
    score: str = "leverage",
    rank: str = "energy:0.9",
    ridge: float = 0.0,
) -> Selection:
    """The k visual tokens with the largest score; `layer` is for the schedule alone."""
    tokens, draws = view.hidden[view.visual], None
    if score == "sampled":
        draws = uniforms(view.image_key, len(tokens), seed=seed, stream=2, device=tokens.device)
    [selection] = by_leverage(tokens, [k], score=score, rank=rank, ridge=ridge, draws=draws)
    return selection
