"""FastV (arXiv 2403.06764): keep the visual tokens that the last prompt token attended to most one layer earlier.

Before decoder layer K, the score of a visual token is its entry in the last query row of the attention inside layer
K - 1: softmax over all tokens of the prompt, mean over heads. The k largest go on. `layer` is K; the paper uses 2.
One row per head is computed again from the layer's queries and keys, never a map.

Deviations: the paper's text speaks of the attention a token receives on average over the prompt; the authors' code
reads the last row alone, and so does lofi. The published versions round the count in three ways, one token apart;
here the count is whatever the schedule asks for. In the published version without a key-value cache, each new token
chooses anew; here the choice is made once, when the prompt is read, as in their version with a cache. Ties go to
the lower index.
"""

from lofi.methods.context import Selection, top
from lofi.methods.decoder import DecoderView, last_row


def fastv(view: DecoderView, k: int, /, *, seed: int, layer: int = 2) -> Selection:
    """The k visual tokens with the largest attention of the last row; `layer` is for the schedule alone."""
    return Selection(top(last_row(view, layer=view.layer - 1), k))
