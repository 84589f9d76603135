"""The tiny models read by hand: what enters the decoder, who sees whom, and a loop over its layers.

Nothing here is lofi's. Inputs are built by the model's own embedding, `get_image_features` and position functions, and
tokens are dropped by hiding their columns from everybody in an explicit mask, never by cutting the sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tests.families.tiny import inputs, pictures, tiny

SQUARE, WIDE, TALL = pictures()
PROMPTS = (
    ((SQUARE,), "Is there a red 7 in the image?"),
    ((WIDE, TALL), "What color is the number below the 4? Answer with a single word."),
    ((TALL,), "How many?"),
)
PIXELS = ("pixel_values", "image_sizes", "batch_num_images", "image_grid_thw", "pixel_attention_mask")
BOTH_WAYS = ("gemma3",)  # visual tokens of one image see each other both ways
BY_LAYER = ("gemma3",)  # rotary embedding and mask by the kind of a layer


@cache
def family(name: str) -> tuple[Any, Any]:
    """Model and processor, built once in a process: no test may leave a change behind."""
    return tiny(name)


def batch_of(name: str, prompts: Sequence[Any] = PROMPTS) -> Any:
    """Prompts as the model wants them, padded on the left."""
    return inputs(name, family(name)[1], prompts)


def policies(name: str) -> tuple[str, ...]:
    """How kept tokens can be placed: where positions are rows and columns, each keeps its own."""
    return ("kept",) if name.startswith("qwen") else ("kept", "reindexed")


@dataclass(frozen=True)
class Read:
    """One unpadded prompt in front of the decoder."""

    embeds: Tensor  # (1, s, d)
    positions: Tensor  # (1, s), or (3, 1, s)
    visual: Tensor  # (s,) bool: placeholders of images
    block: Tensor  # (s,) long: the image of a column whose tokens see each other both ways, else -1
    deep: tuple[Tensor, ...]  # (1, s, d) what the decoder adds after each of its first layers

    def __len__(self) -> int:
        return self.embeds.shape[1]

    def take(self, columns: Tensor) -> "Read":
        """These columns alone, at positions counted anew."""
        return Read(
            self.embeds[:, columns],
            torch.arange(len(columns))[None],
            self.visual[columns],
            self.block[columns],
            tuple(level[:, columns] for level in self.deep),
        )


def decoder(model: Any) -> Any:
    """The language model below the head."""
    return getattr(model.model, "text_model", None) or model.model.language_model


def read(name: str, single: Any) -> Read:
    """What the model itself would hand to its decoder."""
    model = family(name)[0]
    core, ids = model.model, single["input_ids"]
    assert bool(single["attention_mask"].all()), "one prompt, unpadded"
    visual = ids == model.config.image_token_id
    embeds = model.get_input_embeddings()(ids.masked_fill(visual, 0))
    seen = core.get_image_features(**{key: single[key] for key in PIXELS if key in single}, return_dict=True)
    embeds[visual] = torch.cat([each.reshape(-1, each.shape[-1]) for each in seen.pooler_output])
    positions = torch.arange(ids.shape[1])[None]
    if hasattr(core, "get_rope_index"):
        kinds, grids = single["mm_token_type_ids"], single["image_grid_thw"]
        positions, _ = core.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grids)
    starts = visual[0] & ~pad(visual[0], (1, 0))[:-1]
    block = torch.where(visual[0], starts.cumsum(0) - 1, -1)
    return Read(
        embeds,
        positions,
        visual[0],
        block if name in BOTH_WAYS else torch.full_like(block, -1),
        tuple(
            torch.zeros_like(embeds).masked_scatter(visual[..., None], torch.cat(level))
            for level in getattr(seen, "deepstack_features", None) or ()
        ),
    )


def answered(name: str, before: Read, token: Tensor) -> Read:
    """The prompt with one more token behind it."""
    model = family(name)[0]
    return Read(
        torch.cat([before.embeds, model.get_input_embeddings()(token.view(1, 1))], 1),
        torch.cat([before.positions, before.positions.max() + 1 + torch.zeros_like(before.positions[..., :1])], -1),
        pad(before.visual, (0, 1)),
        pad(before.block, (0, 1), value=-1),
        tuple(pad(level, (0, 0, 0, 1)) for level in before.deep),
    )


def mask_of(prompt: Read, alive: Tensor) -> Tensor:
    """(1, 1, s, s) bool: causal or in one block, dropped columns hidden from everybody but themselves."""
    order = torch.arange(len(prompt))
    together = (prompt.block[:, None] == prompt.block) & (prompt.block >= 0)
    seen = ((order[:, None] >= order) | together) & alive
    return (seen | torch.eye(len(prompt), dtype=torch.bool))[None, None]


def masked_logits(name: str, prompt: Read, alive: Tensor | None = None) -> Tensor:
    """(v,) logits behind the last column, by one forward of the decoder without cache, dropped columns hidden."""
    model = family(name)[0]
    mask = mask_of(prompt, torch.ones(len(prompt), dtype=torch.bool) if alive is None else alive)
    kinds = getattr(decoder(model).config, "layer_types", None)
    deep = {}
    if prompt.deep:
        levels = [level[0, prompt.visual] for level in prompt.deep]
        deep = {"visual_pos_masks": prompt.visual[None], "deepstack_visual_embeds": levels}
    states = decoder(model)(
        inputs_embeds=prompt.embeds,
        position_ids=prompt.positions,
        attention_mask=dict.fromkeys(kinds, mask) if name in BY_LAYER else mask,
        use_cache=False,
        **deep,
    ).last_hidden_state
    logits: Tensor = model.get_output_embeddings()(states[0, -1])
    return logits


def layered_logits(name: str, prompt: Read, made: Mapping[int, Any], positions: str) -> Tensor:
    """(v,) logits behind the last column, layer by layer; `made` has before some layers what was selected there.

    made: layer -> (selection, the columns of the visual tokens among those that were left). Nothing is cut: merged
    rows are written over the first of the tokens' columns, dropped columns are hidden from then on.
    """
    model = family(name)[0]
    language, hidden, place = decoder(model), prompt.embeds, prompt.positions
    alive, origin = torch.ones(len(prompt), dtype=torch.bool), torch.arange(len(prompt))
    for index, layer in enumerate(language.layers):
        if index in made:
            selection, visual = made[index]
            columns = alive.nonzero()[:, 0][visual]
            rows = columns[selection.rows]
            slots = rows.sort().values
            hidden, origin, alive = hidden.clone(), origin.clone(), alive.clone()
            hidden[0, slots] = hidden[0, rows] if selection.embeds is None else selection.embeds
            origin[slots] = origin[rows]
            alive[columns] = False
            alive[slots] = True
            place = prompt.positions[..., origin]
            if positions == "reindexed":
                place = (alive.cumsum(0) - 1)[None]
        kind = {"layer_type": language.config.layer_types[index]} if name in BY_LAYER else {}
        rotary = language.rotary_emb(hidden, place, **kind)
        hidden = layer(hidden, attention_mask=mask_of(prompt, alive), position_embeddings=rotary)
        if index < len(prompt.deep):
            hidden = hidden + prompt.deep[index][:, origin]
    logits: Tensor = model.get_output_embeddings()(language.norm(hidden[:, -1]))[0]
    return logits


class Entering:
    """While it lasts, what the decoder is called with in each prefill, behind all hooks that were there before."""

    def __init__(self, model: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self._handle = decoder(model).register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, _module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["inputs_embeds"].shape[1] > 1:
            self.calls.append(kwargs)

    def __enter__(self) -> "Entering":
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def row(self, row: int, columns: int) -> Tensor:
        """(columns, d) the last columns of a row that entered last: its prompt without padding."""
        embeds: Tensor = self.calls[-1]["inputs_embeds"][row, -columns:]
        return embeds


def columns_of(prompt: Read, entered: Tensor) -> Tensor:
    """(k,) the columns of a prompt that entered the decoder (k, d), found by what stands in them."""
    near = among(prompt.embeds[0], entered)
    columns = (near | ~prompt.visual).nonzero()[:, 0]
    assert len(columns) == len(entered), "each row that entered is one of the prompt's"
    assert torch.allclose(prompt.embeds[0, columns], entered, atol=1e-4), "and in the prompt's order"
    return columns


def among(rows: Tensor, others: Tensor) -> Tensor:
    """(k,) bool: rows (k, d) that are also among the others."""
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist").min(1).values < 1e-3


def alive(prompt: Read, columns: Tensor) -> Tensor:
    """(s,) bool: these columns, and all behind the prompt."""
    left = torch.zeros(len(prompt), dtype=torch.bool)
    left[columns] = True
    return left


def greedy(logits: Tensor, stops: Sequence[int]) -> Tensor:
    """The likeliest token that does not end the answer."""
    rest = logits.clone()
    rest[list(stops)] = -torch.inf
    return rest.argmax()


def answers(model: Any, batch: Any, steps: int) -> Tensor:
    """(b, steps) greedy tokens, none of which ends the answer."""
    ids = model.generate(**batch, do_sample=False, max_new_tokens=steps, min_new_tokens=steps)
    return ids[:, batch["input_ids"].shape[1] :]  # type: ignore[no-any-return]


def stops(model: Any) -> list[int]:
    """Tokens that end an answer."""
    found = model.generation_config.eos_token_id
    return found if isinstance(found, list) else [found]
