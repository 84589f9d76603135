"""Images and prompts as a model's processor hands them over, sorted by what can run together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from lofi.errors import UserError
from lofi.models.conversation import chat_inputs
from lofi.models.pictures import Picture

if TYPE_CHECKING:
    from lofi.models.adapter import Adapter

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
SIZES = ("image_sizes", "image_grid_thw")
BLANK = (64, 64)  # of a picture that stands in where only the text of a prompt is wanted


@dataclass(frozen=True)
class Opened:
    """Images of one geometry as the processor hands them over, and their prompt up to the last image token."""

    pixels: Mapping[str, Tensor]  # what `get_image_features` takes
    before: Tensor  # (p,) long token ids: the same for all images
    positions: Tensor  # (p,) long, or (3, p) where they are times, rows and columns

    count: int = 1

    def __len__(self) -> int:
        return self.count


def ids_after(adapter: "Adapter", text: str) -> tuple[int, ...]:
    """The token ids of a question's prompt behind its image."""
    ids = chat_inputs(adapter.processor, [([Image.new("RGB", BLANK)], text)])["input_ids"][0].tolist()
    return tuple(ids[_last_image_token(ids, adapter.config.image_token_id) + 1 :])


def open_picture(adapter: "Adapter", image: Image.Image, text: str) -> Opened:
    """One RGB image on the model's device, in front of a question."""
    return placed(adapter, adapter.opening.open(image, text))


def placed(adapter: "Adapter", picture: Picture) -> Opened:
    """What a processor made of one image, on the model's device."""
    inputs = adapter.opening.finished(picture, adapter.device)
    pixels = {
        name: tensor.to(adapter.device, adapter.dtype if tensor.is_floating_point() else None)
        for name, tensor in inputs.items()
        if name not in TEXT_INPUTS
    }
    p = _last_image_token(inputs["input_ids"][0].tolist(), adapter.config.image_token_id) + 1
    return Opened(pixels, inputs["input_ids"][0, :p], _positions(adapter, inputs)[..., :p])


def _positions(adapter: "Adapter", inputs: Mapping[str, Tensor]) -> Tensor:
    """(s,) or (3, s) the positions of one prompt, by the model's own rule."""
    ids = inputs["input_ids"]
    if adapter.family.positions == "1d":
        return torch.arange(ids.shape[1])
    given = {name: inputs[name] for name in ("mm_token_type_ids", "image_grid_thw") if name in inputs}
    positions, _ = adapter.core.get_rope_index(ids, **given)  # type: ignore[operator]
    return positions[:, 0]  # type: ignore[no-any-return]


def _last_image_token(ids: Sequence[int], image_token: int) -> int:
    """The column of a prompt's last image token."""
    columns = [column for column, token in enumerate(ids) if token == image_token]
    if not columns:
        raise UserError("the chat template puts no image into a prompt; it must put one")
    return columns[-1]


def together(opened: Sequence[Opened]) -> Opened:
    """Images of one geometry as one batch."""
    first = opened[0]
    pixels = {name: torch.cat([each.pixels[name] for each in opened]) for name in first.pixels}
    return Opened(pixels, first.before, first.positions, sum(len(each) for each in opened))


def of_one_geometry(opened: Sequence[Opened]) -> list[list[int]]:
    """The indices of images whose prompts are the same up to the last image token, group by group."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, each in enumerate(opened):
        shapes = tuple((name, tuple(tensor.shape[1:])) for name, tensor in each.pixels.items())
        sizes = tuple(tuple(each.pixels[name].flatten().tolist()) for name in SIZES if name in each.pixels)
        groups.setdefault((each.before.numpy().tobytes(), shapes, sizes), []).append(index)
    return list(groups.values())
