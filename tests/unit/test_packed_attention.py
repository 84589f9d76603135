"""Attention split into blocks equals attention under the whole mask."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from lofi.models.packed_attention import PACKED, attend
from lofi.models.packing import Packed, pack
from lofi.models.swapped import attending_by

LENGTHS = torch.tensor([[3, 1, 4], [2, 0, 4]])
WIDTH, HEAD = 4, 8


def layout(prefix: int, real: Tensor | None = None, lengths: Tensor = LENGTHS) -> Packed:
    return pack(torch.arange(prefix).expand(2, -1), lengths, WIDTH, prefix_real=real)


def drawn(packed: Packed, heads: int, keys: int, read: int) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(heads, packed.size), (keys, packed.size + read), (keys, packed.size + read)]
    return [torch.randn(2, *shape, HEAD) for shape in shapes]


@pytest.mark.parametrize(("heads", "keys"), [(4, 4), (6, 2)])
@pytest.mark.parametrize("read", [0, 3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("lengths", [LENGTHS, torch.full((2, 3), WIDTH)], ids=["ragged", "even"])
def test_blocks_equal_one_mask_for_every_real_token(
    heads: int, keys: int, read: int, padded: bool, lengths: Tensor
) -> None:
    real = torch.ones(2, 5, dtype=torch.bool)
    real[1, :2] = not padded
    packed = layout(5, real, lengths)
    query, key, value = drawn(packed, heads, keys, read)
    mask = pad(packed.mask, (read, 0), value=True)
    whole = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)
    front = pad(packed.prefix_mask, (read, 0), value=True)
    split, _ = attend(torch.nn.Identity(), query, key, value, front, scaling=0.3, packed=packed)
    assert split.shape == (2, packed.size, heads, HEAD)
    assert torch.allclose(split[packed.real], whole.transpose(1, 2)[packed.real], atol=1e-6)
    assert bool(split.isfinite().all())
    asked = (torch.arange(2)[:, None], packed.last)  # a question that is absent has 0 there
    ends = attend(torch.nn.Identity(), query, key, value, front, scaling=0.3, packed=packed, ends=True)[0]
    there = lengths > 0
    assert torch.allclose(ends[asked][there], whole.transpose(1, 2)[asked][there], atol=1e-6)
    ends[asked] = 0
    assert not bool(ends.any())


def test_no_pair_of_two_questions_is_multiplied() -> None:
    packed = pack(torch.arange(5)[None], torch.full((1, 10), 3), 3)
    query, key, value = (torch.randn(1, 2, packed.size, HEAD) for _ in range(3))
    with FlopCounterMode(display=False) as counter:
        attend(torch.nn.Identity(), query, key, value, packed.prefix_mask, scaling=1.0, packed=packed)
    # scores and sums of 10 x 3 tokens over the prefix of 5 and over their own 3; the prefix itself is fused, uncounted
    assert counter.get_total_flops() == 2 * 2 * 2 * 30 * (5 + 3) * HEAD


def test_the_own_columns_are_those_that_the_last_token_sees() -> None:
    packed = layout(5)
    seen = packed.mask[:, 0].gather(1, packed.last[..., None].expand(-1, -1, packed.size))
    asked = LENGTHS > 0
    assert torch.equal(packed.own[asked], seen[asked])


def test_the_attention_is_swapped_for_a_block_only() -> None:
    config = SimpleNamespace(_attn_implementation="sdpa")
    with attending_by(config, PACKED):
        assert config._attn_implementation == PACKED
    assert config._attn_implementation == "sdpa"


def test_the_attention_comes_back_after_an_error() -> None:
    config = SimpleNamespace(_attn_implementation="sdpa")
    with pytest.raises(ZeroDivisionError), attending_by(config, PACKED):
        raise ZeroDivisionError
    assert config._attn_implementation == "sdpa"
