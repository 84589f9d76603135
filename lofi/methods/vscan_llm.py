"""VScan, second stage (arXiv 2505.22654): drop visual tokens once, by the attention that a middle layer would pay them.

Before one decoder layer, the middle one by default, that layer's queries and keys are computed ahead for all
tokens. The score of a visual token is its entry in the last prompt token's row: softmax over all tokens, mean over
heads. The k largest go on. The authors publish two forms of the score, which choose different tokens:

    rotary=kept     with rotary position embedding, as for LLaVA; positions are counted anew afterwards
    rotary=dropped  without it, as for Qwen2.5-VL; there the positions are kept (set `positions=kept` with it)

`layer` names the decoder layer; 0 stands for the middle one. The first stage, before the LLM, is the method `vscan`.

Deviations: in half precision the published code sets infinite logits to 0 and ranks on; lofi computes the row in
float32, where finite queries and keys do not overflow, and refuses scores that are not finite. Ties go to the lower
index.
"""

from lofi.methods.context import Selection, top
from lofi.methods.decoder import DecoderView, last_row


def vscan_llm(view: DecoderView, k: int, /, *, seed: int, rotary: str = "kept", layer: int = 0) -> Selection:
    """The k visual tokens with the largest attention of the last row; `layer` is for the schedule alone."""
    return Selection(top(last_row(view, layer=view.layer, rotary=rotary == "kept"), k))
