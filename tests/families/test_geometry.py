"""Which patch of the picture stands behind each visual token, found by changing patches and looking what follows.

The encoder's attention is switched off, so that a patch can only reach its own token.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lofi.models.adapter import Adapter
from lofi.models.families import FAMILIES
from lofi.models.geometry import Geometry
from lofi.models.taps import EncoderTap
from tests.families.configs import PATCH
from tests.families.reference import PIXELS, PROMPTS, SQUARE, TALL, WIDE, batch_of
from tests.families.tiny import FAMILY_NAMES, tiny

SHOWN = [((SQUARE,), "How many?"), PROMPTS[1], ((WIDE,), "How many?"), ((TALL,), "How many?")]
OUT = ("out_proj", "proj", "projection_layer")  # what leads out of an encoder's attention


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def unmixed(request: pytest.FixtureRequest) -> tuple[str, Adapter]:
    """A model whose patches do not see each other."""
    model, processor = tiny(request.param)
    adapter = Adapter(model, processor, FAMILIES[request.param])
    for layer in adapter.encoder_layers:
        attention = layer.get_submodule(adapter.encoder.attention)
        (out,) = (module for path, module in attention.named_children() if path in OUT)
        assert isinstance(out, nn.Linear)
        out.weight.zero_()
    return request.param, adapter


def features(adapter: Adapter, pixels: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(placeholders, d) what stands in the prompts, and (patches, dv) what the encoder's first layer reads."""
    entered: list[Tensor] = []

    def note(_module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        entered.append(args[0] if args else kwargs["hidden_states"])

    handle = adapter.encoder_layers[0].register_forward_pre_hook(note, with_kwargs=True)
    seen = adapter.core.get_image_features(**pixels, return_dict=True)  # type: ignore[operator]
    handle.remove()
    entry = entered[0][..., adapter.encoder.cls :, :]
    return torch.cat([each.reshape(-1, each.shape[-1]) for each in seen.pooler_output]), entry.flatten(0, -2)


def patches_behind(adapter: Adapter, pixels: dict[str, Tensor]) -> Tensor:
    """(placeholders, patches) bool: which patch reaches which placeholder, patches as the encoder reads them."""
    before, entry = features(adapter, pixels)
    reached, met = torch.zeros(len(before), len(entry), dtype=torch.bool), []
    for number in range(patch_count(pixels["pixel_values"])):
        changed = pixels["pixel_values"].clone()
        patch = patch_of(changed, number)
        patch += torch.linspace(1, 3, patch.numel()).view_as(patch)
        after, other = features(adapter, {**pixels, "pixel_values": changed})
        if other.shape == entry.shape:  # else it was a tile of nothing, which encoders leave out
            places = (other - entry).abs().max(1).values.nonzero()[:, 0].tolist()
            assert len(places) <= 1, "a patch is read at one place"
            met += places
            reached[:, places] = ((after - before).abs().max(1).values > 1e-4)[:, None].expand(-1, len(places))
    assert sorted(met) == list(range(len(entry))), "and each place reads one"
    return reached


def patch_count(values: Tensor) -> int:
    if values.ndim == 2:
        return len(values)
    return values.shape[:-3].numel() * (values.shape[-1] // PATCH) * (values.shape[-2] // PATCH)


def patch_of(values: Tensor, number: int) -> Tensor:
    """A view of one patch: of its tile, row by row."""
    if values.ndim == 2:
        return values[number]
    tiles = values.flatten(0, values.ndim - 4)
    rows, columns = values.shape[-2] // PATCH, values.shape[-1] // PATCH
    tile, y, x = number // (rows * columns), number // columns % rows, number % columns
    return tiles[tile, :, y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH]


@pytest.mark.parametrize("number", range(len(SHOWN)))
@torch.inference_mode()
def test_every_token_is_made_of_the_patches_that_lofi_says(unmixed: tuple[str, Adapter], number: int) -> None:
    name, adapter = unmixed
    batch = batch_of(name, [SHOWN[number]])
    pixels = {key: batch[key] for key in PIXELS if key in batch}
    with EncoderTap(adapter) as tap:
        rows, _ = features(adapter, pixels)
        visual = adapter.placeholders(batch["input_ids"])
        geometries = tap.read(batch["input_ids"], visual).geometries
    assert len(geometries) == len(SHOWN[number][0])
    behind = patches_behind(adapter, pixels)
    start = 0
    for geometry in geometries:
        own = behind[start : start + geometry.size]
        start += geometry.size
        assert sorted(geometry.order.tolist()) == own.any(1).nonzero()[:, 0].tolist(), "all but line ends are tokens"
        check_patches(name, geometry, own)
        check_grids(name, geometry)
    assert start == len(rows)


def check_patches(name: str, geometry: Geometry, behind: Tensor) -> None:
    for token, patches in zip(geometry.order.tolist(), geometry.patches.tolist(), strict=True):
        found = behind[token].nonzero()[:, 0].tolist()
        # a mosaic that is shrunk mixes neighbours, of which lofi names the nearest
        shrunk = name == "llava_onevision" and len(found) > 1
        assert set(patches) <= set(found) if shrunk else sorted(patches) == sorted(found)


def check_grids(name: str, geometry: Geometry) -> None:
    """Tiles of tokens row by row, the whole image first."""
    assert sum(height * width for height, width in geometry.grids) == len(geometry.order)
    if geometry.layout is None:
        assert len(geometry.grids) == 1
    else:
        assert geometry.layout[0] * geometry.layout[1] >= len(geometry.grids) - 1
        if name in ("internvl", "smolvlm", "idefics3"):
            assert geometry.tiles[0] == max(geometry.tiles), "which these models read last"
        else:
            assert geometry.tiles[0] == min(geometry.tiles)
