"""FasterVLM (arXiv 2412.01818): keep the tokens that the encoder's CLS token attends to most.

The score is the CLS row of the attention inside the layer that produced the features, softmax over all
tokens, mean over heads, CLS column cut without renormalising. LLaVA reads hidden_states[-2], the output of
layer L - 2; its attention is the one of encoder layer -2, so one number names both.
"""

from collections.abc import Sequence

from lofi.errors import UserError
from lofi.methods.context import Selection, VisualContext, best_first, prefixes


def fastervlm(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The k tokens with the largest CLS attention."""
    if context.attention is None:
        raise UserError("method 'fastervlm' needs CLS attention, which this model's encoder does not have")
    return prefixes(best_first(context.attention.cls(context.feature_layer).float()), ks)
