"""The encoder driven block by block against the library's own run of it."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from lofi.errors import UserError
from lofi.models.blocks import ClipBlocks
from lofi.models.load import load_model

from .engine_setup import opened


def unchanged(_block: int, _keys: Tensor, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    return x, sizes


def siglip() -> tuple[list[nn.Module], Tensor, Tensor]:
    """The layers of a small tower without CLS token, what enters the first, and what leaves the last."""
    config = SiglipVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=4, num_attention_heads=3, image_size=16, patch_size=4
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        states = SiglipVisionModel(config).eval()
        model = getattr(states, "vision_model", states)
        output = states(torch.randn(1, 3, 16, 16), output_hidden_states=True)
    return list(model.encoder.layers), output.hidden_states[0], output.hidden_states[-1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_merging_it_is_the_encoder(tiny_model: Path, dtype: str) -> None:
    adapter = load_model(str(tiny_model), dtype=dtype, device="cpu")
    noise = torch.randint(0, 256, (2, 96, 96, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    seen = opened(adapter, [Image.fromarray(each.numpy()) for each in noise])
    encoded = adapter.encode(seen, range(len(adapter.encoder_layers)))
    for image in range(2):
        context = encoded.context(image, 0)
        blocks = context.blocks
        assert blocks is not None
        assert context.attention is not None
        assert context.extra is not None
        keys: list[Tensor] = []

        def look(block: int, key: Tensor, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
            assert block == len(keys)  # noqa: B023
            keys.append(key)  # noqa: B023
            return x, sizes

        states = blocks.run(look)
        near = {"rtol": 0, "atol": 1e-5} if dtype == "float32" else {"rtol": 0.02, "atol": 0.02}
        torch.testing.assert_close(states[1:], context.hidden, **near)
        torch.testing.assert_close(states[:1], context.extra, **near)
        assert len(keys) == len(adapter.encoder_layers) + 1 + adapter.feature_layer
        for layer, key in enumerate(keys):
            torch.testing.assert_close(key.float(), context.attention.keys(layer), **near)


def test_a_tower_without_cls_runs_as_well() -> None:
    layers, entry, hidden = siglip()
    torch.testing.assert_close(ClipBlocks((entry[0],), layers, -1).run(unchanged), hidden[0], rtol=0, atol=1e-5)


def test_a_row_of_size_three_weighs_as_much_as_three_tokens() -> None:
    """Copies of one token stay copies, so one row with their number as its size stands for all of them."""
    layers, entry, _ = siglip()
    tokens = entry[0].clone()
    tokens[[5, 11]] = tokens[2]
    rest = [i for i in range(len(tokens)) if i not in (5, 11)]

    def drop_copies(block: int, _keys: Tensor, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        if block:
            return x, sizes
        sizes[2] = 3.0
        return x[rest], sizes[rest]

    full = ClipBlocks((tokens,), layers, -1).run(unchanged)
    torch.testing.assert_close(ClipBlocks((tokens,), layers, -1).run(drop_copies), full[rest], rtol=0, atol=1e-5)


def test_another_kind_of_layer_is_one_clear_error() -> None:
    blocks = ClipBlocks((torch.zeros(3, 4),), [nn.Linear(4, 4)], -1)  # no error: other reducers never run it
    with pytest.raises(UserError, match="Linear is not built like an encoder layer of CLIP or SigLIP"):
        blocks.run(unchanged)
