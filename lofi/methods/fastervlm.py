"""FasterVLM (arXiv 2412.01818): keep the tokens that the encoder's CLS token attends to most.

The score is the CLS row of the attention inside the layer that produced the features, softmax over all
tokens, mean over heads, CLS column cut without renormalising. LLaVA reads hidden_states[-2], the output of
layer L - 2; its attention is the one of encoder layer -2, so one number names both.

Deviations: where the encoder has no CLS token, the attention that a token receives stands in for it, as the
same authors do in VisPruner.
"""

from collections.abc import Sequence

from lofi.methods.context import Selection, VisualContext, best_first, prefixes, saliency


def fastervlm(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The k tokens with the largest CLS attention."""
    return prefixes(best_first(saliency(context)), ks)
