"""Stage 2: projector and language model learn to read the frozen encoder's features.

A bare question loss stays at chance on everything that has to look something up. Further losses cut each look-up
into single hops; their heads are dropped after training:

- alignment: a projected digit patch must score its digit and colour words under the model's own embedding;
- words: after two layers a digit word in the prompt must know its colour in the picture (or that it is absent),
  and a colour word its digits;
- number: after two layers the word `image` in the prompt must know how many digits there are;
- known: after three layers every prompt token behind the question must know its answer in words, so that an option
  has something to compare itself with;
- options: after four layers the word of an option must know whether it is the right one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lofi.data.digits.questions import DIGITS
from lofi.data.digits.scenes import COLOUR_NAMES, MAX_DIGITS, Scene
from lofi.models.packing import Packed, pack
from lofi.training.packs import (
    IGNORE,
    LETTER_WIDTH,
    OPEN_WIDTH,
    Pack,
    build_pack,
    letter_question,
    open_question,
)
from lofi.training.student import Student
from lofi.training.words import Dialect, encode, token_ids

ALIGN_SCALE = 10.0
WORD_LAYER, KNOWN_LAYER, OPTION_LAYER = 2, 3, 4


@dataclass(frozen=True)
class Mix:
    """What is asked: shares of open and of lettered skills, and how often a step asks lettered questions."""

    open: dict[str, float]
    letters: dict[str, float]
    letter_share: float


@dataclass(frozen=True)
class Seen:
    """The visual tokens of b pictures, as many of each, with what is known of them."""

    features: Tensor  # (b, n, width): what the projector reads
    digits: Tensor  # (b, n) long, 0 for background or digit + 1
    colours: Tensor  # (b, n) long, 0 for background or colour + 1
    places: Tensor  # (b, n) long: where each token stands in the grid, in raster order

    def to(self, device: torch.device) -> "Seen":
        """The same on a device."""
        return Seen(**{name: value.to(device) for name, value in vars(self).items()})


class Reader(nn.Module):
    """Projector, language model and the heads that teach it; shares its modules with the whole model."""

    opening: Tensor
    closing: Tensor
    digit_ids: Tensor
    colour_ids: Tensor

    def __init__(self, student: Student, model: Any) -> None:
        super().__init__()
        self.student = student
        width = model.config.text_config.hidden_size
        dialect = student.dialect
        ids = token_ids(dialect)
        self.projector = student.projector_of(model)
        self.language = model.model.language_model
        self.head = model.lm_head
        self.word_norm, self.option_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.digit_word = nn.Linear(width, 1 + len(COLOUR_NAMES))
        self.colour_word = nn.Linear(width, len(DIGITS))
        self.option = nn.Linear(width, 1)
        self.number_norm, self.known_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.number = nn.Linear(width, 1 + MAX_DIGITS)
        self.known = nn.Linear(width, model.config.text_config.vocab_size)
        self.image_word = ids["image"]
        self.register_buffer("opening", torch.tensor(encode(dialect, dialect.opening)), persistent=False)
        self.register_buffer("closing", torch.tensor(encode(dialect, dialect.closing)), persistent=False)
        self.register_buffer("digit_ids", torch.tensor([ids[d] for d in DIGITS]), persistent=False)
        self.register_buffer("colour_ids", torch.tensor([ids[c] for c in COLOUR_NAMES]), persistent=False)

    def forward(self, seen: Seen, batch: Pack) -> tuple[tuple[Tensor, ...], Packed, Tensor]:
        """All hidden states (b, s, d) of pictures and questions, the layout and the projected tokens (b, n, d)."""
        rows, _, width = batch.ids.shape
        projected = self.projector(seen.features)
        embed = self.language.embed_tokens
        prefix = self.student.positions(seen.places, len(self.opening), len(self.closing))  # (axes, b, p)
        layout = pack(prefix[0], batch.lengths, width, start=prefix.amax(dim=(0, 2)) + 1)
        behind = embed(torch.cat([self.closing.expand(rows, -1), layout.row(batch.ids)], dim=1))
        embeds = torch.cat([embed(self.opening.expand(rows, -1)), projected.to(behind.dtype), behind], dim=1)
        asked = layout.positions[:, prefix.shape[2] :].expand(len(prefix), -1, -1)
        states = self.language(
            inputs_embeds=embeds,
            attention_mask=layout.mask,
            position_ids=torch.cat([prefix, asked], dim=2).squeeze(0),  # models with one axis name none
            use_cache=False,
            output_hidden_states=True,
        ).hidden_states
        return states, layout, projected


def reader_loss(reader: Reader, seen: Seen, batch: Pack) -> dict[str, Tensor]:
    """The losses of one batch by name."""
    states, layout, projected = reader(seen, batch)
    final, early, middle, late = (layout.grid(states[layer]) for layer in (-1, WORD_LAYER, KNOWN_LAYER, OPTION_LAYER))
    wanted = batch.weights[..., 1:] > 0
    logits = reader.head(final[..., :-1, :][wanted])
    weight = batch.weights[..., 1:][wanted]
    answers = F.cross_entropy(logits, batch.ids[..., 1:][wanted], reduction="none")
    losses = {
        "answer": (answers * weight).sum() / weight.sum(),
        "align": _alignment_loss(reader, projected, seen.digits, seen.colours),
        "words": _word_loss(reader, early, batch),
    }
    if (place := (batch.ids == reader.image_word) & batch.words).any():
        number = (batch.digit_colours > 0).sum(-1)[place.nonzero(as_tuple=True)[0]]
        losses["number"] = F.cross_entropy(reader.number(reader.number_norm(early[place])), number)
    if (place := batch.known != IGNORE).any():
        losses["known"] = F.cross_entropy(reader.known(reader.known_norm(middle[place])), batch.known[place])
    if (batch.options >= 0).any():
        chosen = batch.options != IGNORE
        score = reader.option(reader.option_norm(late[chosen])).squeeze(-1)
        losses["options"] = F.binary_cross_entropy_with_logits(score, batch.options[chosen].float())
    return losses


def _alignment_loss(reader: Reader, projected: Tensor, digits: Tensor, colours: Tensor) -> Tensor:
    """Digit patches against the words' own embeddings, by cosine; background against neither."""
    table = F.normalize(reader.language.embed_tokens.weight, dim=-1)
    tokens = ALIGN_SCALE * F.normalize(projected, dim=-1)
    filled = digits > 0
    digit_scores = tokens @ table[reader.digit_ids].T
    colour_scores = tokens @ table[reader.colour_ids].T
    background = torch.cat([digit_scores, colour_scores], dim=-1)[~filled]
    return (
        F.cross_entropy(digit_scores[filled], digits[filled] - 1)
        + F.cross_entropy(colour_scores[filled], colours[filled] - 1)
        + 0.02 * background.square().mean()
    )


def _word_loss(reader: Reader, early: Tensor, batch: Pack) -> Tensor:
    """Digit words must know their colour, colour words their digits."""
    is_digit = (batch.ids[..., None] == reader.digit_ids) & batch.words[..., None]  # (b, q, w, 10)
    is_colour = (batch.ids[..., None] == reader.colour_ids) & batch.words[..., None]
    row, _, _, digit = is_digit.nonzero(as_tuple=True)
    found = reader.digit_word(reader.word_norm(early[is_digit.any(-1)]))
    loss = F.cross_entropy(found, batch.digit_colours[row, digit])
    row, _, _, colour = is_colour.nonzero(as_tuple=True)
    if len(row):
        held = (batch.digit_colours[row] == (colour + 1)[:, None]).float()  # (words, 10)
        read = reader.colour_word(reader.word_norm(early[is_colour.any(-1)]))
        loss = loss + 2.0 * F.binary_cross_entropy_with_logits(read, held)
    return loss


def mixed_pack(
    dialect: Dialect, scenes: list[Scene], mix: Mix, rng: np.random.Generator, *, open_count: int, letter_count: int
) -> Pack:
    """A random pack: all open or all lettered, so that no short question pays for the width of a long one."""
    lettered = rng.random() < mix.letter_share
    shares = mix.letters if lettered else mix.open
    ask = letter_question if lettered else open_question
    number = letter_count if lettered else open_count
    odds = np.array(list(shares.values())) / sum(shares.values())
    questions = [[ask(str(s), scene, rng) for s in rng.choice(list(shares), number, p=odds)] for scene in scenes]
    return build_pack(dialect, scenes, questions, LETTER_WIDTH if lettered else OPEN_WIDTH)


@torch.no_grad()
def right_answers(reader: Reader, seen: Seen, batch: Pack) -> Tensor:
    """Whether the first answer token is the most likely one: (b, q) bool."""
    states, layout, _ = reader(seen, batch)
    final = layout.grid(states[-1])
    at = batch.answer_at[..., None]
    before = final.gather(2, (at - 1)[..., None].expand(-1, -1, -1, final.shape[-1])).squeeze(2)
    answers: Tensor = reader.head(before).argmax(-1)
    return answers == batch.ids.gather(2, at).squeeze(2)
