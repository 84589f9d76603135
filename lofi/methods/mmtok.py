"""MMTok (arXiv 2508.18264): the tokens that best cover both the question's words and the whole image.

Coverage of the words: the softmax over the visual tokens of cosine / 0.02, between the input embeddings of the
question's tokens and the projected visual tokens, over the number of words. Coverage of the image: the softmax of
cosine / 0.2 between the encoder's tokens, over their number, with a weight of 0.5. A chosen set covers every word
and every token as well as its best member does. Greedy choice: again and again the token that adds most to the sum.
No text tower is needed: the words are the language model's own.

Deviations: the authors embed the question's keywords; lofi embeds the whole question as the model reads it. A
chosen token is masked: once nothing is left to cover, all gains are zero, and the unmasked rule would choose one
token again and again. Then the lower index comes first. Tokens of length zero have cosine 0 with all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Selection, VisualContext, prefixes
from lofi.methods.cover import cover_order
from lofi.methods.similarity import cosines

WORD_TEMPERATURE = 0.02
IMAGE_TEMPERATURE = 0.2
IMAGE_WEIGHT = 0.5


def coverage(text: Tensor, projected: Tensor, hidden: Tensor) -> Tensor:
    """(t + n, n) float32: how well each visual token covers each of t words (t, d), then each of n tokens."""
    words = torch.softmax(cosines(text, projected) / WORD_TEMPERATURE, 1) / max(len(text), 1)
    image = torch.softmax(cosines(hidden) / IMAGE_TEMPERATURE, 1) / len(hidden)
    return torch.cat([words, IMAGE_WEIGHT * image])


def mmtok(context: VisualContext, ks: Sequence[int], /, *, seed: int) -> list[Selection]:
    """The first k tokens of the greedy order."""
    if context.question is None:
        raise UserError("mmtok covers the words of the question, and this image has none")
    cover = coverage(context.question.embeds, context.projected, context.hidden)
    return prefixes(cover_order(cover.T, cover.new_ones(len(context)), max(ks, default=0)), ks)
