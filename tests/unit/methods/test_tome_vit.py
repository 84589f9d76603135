"""ToMe inside the encoder: the schedule, and a real encoder that merges."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from lofi.errors import UserError
from lofi.methods.context import VisualContext
from lofi.methods.merge_schedule import schedule
from lofi.methods.select import select
from lofi.methods.tome_vit import layout
from lofi.models.blocks import ClipBlocks
from lofi.models.load import load_model
from tests.unit.engine_setup import opened
from tests.unit.test_blocks import siglip


@pytest.mark.parametrize(
    ("n", "k", "blocks", "steps"),
    [
        (576, 192, 23, [17] * 22 + [10]),  # the last one is trimmed
        (576, 575, 23, [1] + [0] * 22),
        (25, 7, 2, [11, 7]),  # 9 leaves 16 and then 8, 10 leaves 15 and then 8: 11 is the smallest that reaches 7
        (25, 16, 2, [5, 4]),
        (9, 1, 4, [3, 3, 1, 1]),
    ],
)
def test_the_schedule_leaves_exactly_k(n: int, k: int, blocks: int, steps: list[int]) -> None:
    assert schedule(n, k, blocks) == steps


def test_every_count_is_met_or_refused_with_the_smallest_that_can_be() -> None:
    for n in (2, 7, 24, 25, 64):
        for blocks in (1, 2, 5, 8):
            fewest = n
            for _ in range(blocks):
                fewest -= fewest // 2
            for k in range(1, n):
                if k < fewest:
                    with pytest.raises(
                        UserError,
                        match=f"^{blocks} encoder blocks, .* to {k} of {n}; use a count from {fewest} to {n}$",
                    ):
                        schedule(n, k, blocks)
                    continue
                steps = schedule(n, k, blocks)
                assert (len(steps), sum(steps)) == (blocks, n - k)
                left = n
                for step in steps:
                    assert 0 <= step <= left // 2
                    left -= step


def test_a_real_encoder_with_cls_merges_to_exactly_k(tiny_model: Path) -> None:
    adapter = load_model(str(tiny_model), dtype="float32", device="cpu")
    noise = torch.randint(0, 256, (96, 96, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    encoded = adapter.encode(opened(adapter, [Image.fromarray(noise.numpy())]), {-2})
    with torch.inference_mode():
        context = encoded.context(0, 1)
        assert context.blocks is not None
        assert layout(context, context.blocks).has_cls
        ks = [100, 143, 36, 100]
        selections = select("tome_vit", context, ks, seed=0, params={})
        for selection, k in zip(selections, ks, strict=True):
            assert selection.embeds.shape == (k, encoded.projected.shape[-1])
        # One merge in the first block moves other tokens a little, and only a little.
        one = selections[1]
        assert (one.embeds - encoded.projected[0][one.kept]).norm(dim=1).median() < 0.05 * encoded.projected.norm(
            dim=-1
        ).mean()
        with pytest.raises(UserError, match=r"^2 encoder blocks, .* to 35 of 144; use a count from 36 to"):
            select("tome_vit", context, [35], seed=0, params={})


def test_an_encoder_without_attention_is_counted_and_has_no_cls() -> None:
    layers, entry, hidden = siglip()
    blocks = ClipBlocks((entry[0],), layers, -1)
    context = VisualContext(hidden[0], hidden[0], (4, 4), image_key=1, blocks=blocks)
    shape = layout(context, blocks)
    assert (shape.blocks, shape.heads, shape.has_cls) == (len(layers), 1, False)
    [selection] = select("tome_vit", context, [9], seed=0, params={})
    assert selection.embeds.shape == (9, hidden.shape[-1])


def test_a_model_without_blocks_is_an_error() -> None:
    tokens = torch.randn(8, 4)
    with pytest.raises(ValueError, match="block by block"):
        select("tome_vit", VisualContext(tokens, tokens, (2, 4), image_key=1), [3], seed=0, params={})
