"""SparseVLM's counts for every budget, its raters when all are alike, its noise, and the guards of both versions."""

import pytest
import torch
from torch import Tensor

from lofi.methods.decoder import DecoderView
from lofi.methods.registry import check_params
from lofi.methods.select import Selection, select_stage
from lofi.methods.sparsevlm import portions, raters, recycled, rotary_fall
from tests.golden.decoding import attention_of_weights, rotary_of, view


def prompt(v: int, t: int = 4, *, width: int = 8, same: bool = False, **fields: object) -> DecoderView:
    """Two tokens, v visual ones, t of text, with random states and attention (or all alike) at 4 heads."""
    generator = torch.Generator().manual_seed(v)
    s = 2 + v + t
    weights = torch.rand(4, s, s, generator=generator).tril()
    states = torch.randn(s, width, generator=generator)
    if same:
        weights, states = torch.ones(4, s, s).tril(), torch.zeros(s, width)
    given: dict[str, object] = {
        "hidden": states,
        "entry_visual": states[2 : 2 + v],
        "entry_text": states[2 + v :],
        "attention": attention_of_weights(1, weights / weights.sum(-1, keepdim=True)),
        "rotary": rotary_of(torch.arange(s), 64),
    }
    return view(s, 2, v, **{**given, **fields})


def run(name: str, seen: DecoderView, k: int, seed: int = 0) -> Selection:
    return select_stage(name, seen, k, seed=seed, params=check_params(name, {}))


def merged_by_rule(deleted: int) -> int:
    return int((int(0.3 * deleted) + 1) / 10) + 1


@pytest.mark.parametrize("v", [2, 3, 30, 31, 32, 64, 65, 100, 576])
def test_every_count_above_the_least_follows_the_rule(v: int) -> None:
    least = merged_by_rule(v)
    for k in range(1, v):
        kept, merged = portions(v, k)
        assert kept + merged == k
        assert merged <= recycled(v - kept) <= v - kept
        if k >= least:
            assert merged == merged_by_rule(v - kept)
            assert all(n + merged_by_rule(v - n) != k for n in range(kept + 1, v)), "the largest"
        else:
            assert kept == 0


@pytest.mark.parametrize(
    ("v", "kept", "left"),
    [
        *((576, 300, 309), (309, 200, 204), (204, 110, 113), (576, 303, 312), (312, 110, 117), (117, 36, 39)),
        *((576, 238, 249), (249, 48, 55), (55, 26, 27), (576, 66, 82), (82, 30, 32), (32, 17, 18)),
    ],
)
def test_the_authors_settings_come_out(v: int, kept: int, left: int) -> None:
    assert portions(v, left) == (kept, left - kept)


@pytest.mark.parametrize("name", ["sparsevlm", "sparsevlm_plus"])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_count_is_exact_for_alike_tokens_and_half_precision(name: str, same: bool, dtype: torch.dtype) -> None:
    for v in (2, 7, 25, 64):
        seen = prompt(v, same=same)
        states = {field: getattr(seen, field).to(dtype) for field in ("hidden", "entry_visual", "entry_text")}
        seen = prompt(v, same=same, **states)
        for k in range(1, v):
            selection = run(name, seen, k)
            assert selection.count == k
            assert selection.embeds is None or selection.embeds.dtype == dtype


def test_raters_are_all_the_text_where_none_fits_better() -> None:
    # Equal scores of 1/4 whose mean is exact: none is above it.
    seen = prompt(8, same=True)
    assert raters(seen).tolist() == seen.text.tolist()


def test_a_prompt_that_ends_with_the_image_has_no_raters() -> None:
    with pytest.raises(ValueError, match="after the image"):
        run("sparsevlm", prompt(8, 0), 3)


def test_merged_rows_stand_at_their_centres_and_kept_rows_are_the_states() -> None:
    seen = prompt(64)
    selection = run("sparsevlm", seen, 20)
    kept, merged = portions(64, 20)
    assert selection.embeds is not None
    assert merged > 1
    states = seen.hidden[seen.visual]
    assert torch.equal(selection.embeds[:kept], states[selection.rows[:kept]])
    assert sorted(selection.rows.tolist()) == selection.kept.tolist()


def test_the_noise_follows_from_image_seed_and_layer() -> None:
    def centre(seed: int, image_key: int) -> Tensor:
        # One cluster of one nearest token each: all densities are 1, and only the noise chooses the centre.
        return run("sparsevlm", prompt(25, image_key=image_key), 10, seed).rows[-1]

    assert centre(0, 1) == centre(0, 1)
    assert len({int(centre(seed, key)) for seed in range(4) for key in range(4)}) > 1


def test_the_rotary_fall_is_a_sum_of_cosines_of_the_distance() -> None:
    seen = prompt(9)
    rows = seen.text[:2]
    rates = 10000.0 ** (-torch.arange(0, 64, 2) / 64)
    distance = (rows[:, None] - seen.visual[None, :]).float()
    expected = 2 * (distance[..., None] * rates).cos().sum(-1) / 8
    torch.testing.assert_close(rotary_fall(seen, rows), expected, atol=1e-4, rtol=1e-4)


def test_a_divisor_of_zero_is_an_error() -> None:
    seen = prompt(6)
    nothing = torch.zeros(len(seen.hidden), 64)
    with pytest.raises(ValueError, match="decoder layer 1"):
        run("sparsevlm_plus", prompt(6, rotary=(nothing, nothing)), 3)
