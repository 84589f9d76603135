"""The leverage family: its scores by definition, its trace, and the experiment it is there for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lofi import spectra
from lofi.leverage import Leverages
from lofi.methods.lofi import gumbel, scored, settle
from lofi.methods.registry import check_params
from lofi.methods.select import Selection, VisualContext, select


def tokens_of(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) * torch.randn(n, 1, generator=generator).exp()


def run(tokens: Tensor, k: int, seed: int = 0, image_key: int = 7, **params: object) -> Selection:
    context = VisualContext(tokens, tokens, (1, len(tokens)), image_key=image_key)
    [selection] = select("lofi", context, [k], seed=seed, params=check_params("lofi", params))
    return selection


def top(scores: Tensor, k: int) -> list[int]:
    return sorted(scores.argsort(descending=True)[:k].tolist())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(n=st.integers(4, 20), d=st.integers(3, 20), rank=st.integers(1, 8), seed=st.integers(0, 999))
def test_every_score_equals_its_definition(n: int, d: int, rank: int, seed: int) -> None:
    tokens = tokens_of(n, d, seed)
    x = tokens.double()
    u, _, _ = torch.linalg.svd(x, full_matrices=False)
    r = min(rank, n - 1, d)
    inside = u[:, :r] @ (u[:, :r].T @ x)
    expected = {
        "leverage": u[:, :r].square().sum(1),
        "ridge": (x @ torch.linalg.inv(x.T @ x + 0.3 * torch.eye(d, dtype=torch.float64)) @ x.T).diagonal(),
        "energy": inside.square().sum(1),
        "residual": x.square().sum(1) - inside.square().sum(1),
    }
    leverages = Leverages(tokens, spectra.row_gram(tokens))
    for name, scores in expected.items():
        found = scored(leverages, leverages.at(f"fixed:{rank}", 1), name, 0.3)
        torch.testing.assert_close(found, scores, rtol=1e-6, atol=1e-6)
        if (scores.sort().values.diff() > 1e-4).all():
            kept = run(tokens, max(1, n // 2), score=name, rank=f"fixed:{rank}", ridge=0.3).kept
            assert kept.tolist() == top(scores, max(1, n // 2))


def test_ridge_zero_takes_the_mean_eigenvalue() -> None:
    tokens = tokens_of(12, 30)
    leverages = Leverages(tokens, spectra.row_gram(tokens))
    top = leverages.at("fixed:1", 1)
    mean = float(tokens.double().square().sum()) / 12
    found = scored(leverages, top, "ridge", 0.0)
    torch.testing.assert_close(found, scored(leverages, top, "ridge", mean))
    assert 0.1 < float(found.amax()) < 1.0


def test_a_name_that_no_score_has_is_an_error() -> None:
    tokens = tokens_of(3, 4)
    leverages = Leverages(tokens, spectra.row_gram(tokens))
    with pytest.raises(ValueError, match="best"):
        scored(leverages, leverages.at("budget", 1), "best", 0.0)


def test_leverage_and_residual_pick_nearly_opposite_tokens() -> None:
    """A strong subspace of rank 3 that 30 tokens span, and 10 weak tokens outside of it."""
    generator = torch.Generator().manual_seed(0)
    span = 10 * torch.randn(30, 3, generator=generator) @ torch.eye(3, 40)
    outliers = 2 * torch.randn(10, 37, generator=generator) @ torch.eye(40)[3:]
    tokens = torch.cat([span, outliers])
    leverage, residual, energy = (
        run(tokens, 10, score=name, rank="fixed:3").kept for name in ("leverage", "residual", "energy")
    )
    assert residual.tolist() == list(range(30, 40))
    assert not set(leverage.tolist()) & set(residual.tolist())
    assert len(set(leverage.tolist()) & set(energy.tolist())) >= 8


def test_the_tokens_are_not_centred() -> None:
    tokens = torch.randn(20, 30, generator=torch.Generator().manual_seed(0)) + 3.0
    assert float(run(tokens, 5, rank="energy:0.5").trace["rank"]) == 1.0
    assert float(run(tokens - tokens.mean(0), 5, rank="energy:0.5").trace["rank"]) > 1.0


def test_the_trace_holds_rank_mass_and_error() -> None:
    tokens = tokens_of(16, 40)
    left = torch.linalg.svd(tokens.double(), full_matrices=False).U
    selection = run(tokens, 6, rank="budget")
    assert selection.trace["rank"] == 6.0
    mass = float(left[:, :6].square().sum(1)[selection.kept].sum()) / 6
    assert selection.trace["kept_mass"] == pytest.approx(mass, rel=1e-9)
    assert selection.trace["reconstruction_error"] == pytest.approx(spectra.row_space_error(tokens, selection.kept))
    assert run(tokens, 15, rank="budget").trace["rank"] == 15.0
    # Rank 3 and 16 tokens of which 8 are kept: nothing lies outside their span.
    flat = tokens[:, :3] @ torch.ones(3, 5).triu()
    assert run(flat, 8).trace["reconstruction_error"] == pytest.approx(0.0, abs=1e-12)


def test_a_rotation_of_the_features_changes_nothing() -> None:
    tokens = tokens_of(24, 10).double()
    rotation = torch.linalg.qr(tokens_of(10, 10, seed=4).double()).Q
    for score in ("leverage", "ridge", "energy", "residual", "sampled"):
        before, after = run(tokens, 8, score=score), run(tokens @ rotation, 8, score=score)
        assert torch.equal(before.kept, after.kept)
        assert after.trace["kept_mass"] == pytest.approx(before.trace["kept_mass"])


def test_zero_rows_come_last_and_copies_in_order() -> None:
    tokens = torch.zeros(12, 6)
    tokens[[3, 5, 8]] = tokens_of(3, 6)
    assert set(run(tokens, 4).kept.tolist()) == {0, 3, 5, 8}
    assert set(run(tokens, 5, score="sampled", rank="fixed:3").kept.tolist()) > {3, 5, 8}
    twins = tokens_of(8, 20).repeat(2, 1)
    for k in range(1, 16):
        kept = set(run(twins, k).kept.tolist())
        assert all(index - 8 in kept for index in kept if index >= 8)


def test_a_matrix_of_zeros_keeps_the_first_tokens_and_says_so() -> None:
    for score in ("leverage", "ridge", "energy", "residual"):
        selection = run(torch.zeros(9, 4), 3, score=score)
        assert selection.kept.tolist() == [0, 1, 2]
        assert selection.trace["rank"] == 0.0
        assert math.isnan(selection.trace["kept_mass"])
        assert math.isnan(selection.trace["reconstruction_error"])


def test_sampling_is_keyed_by_image_and_seed() -> None:
    tokens = tokens_of(40, 20)
    kept = {
        (image, seed): tuple(run(tokens, 10, seed=seed, image_key=image, score="sampled").kept.tolist())
        for image in (1, 2)
        for seed in (0, 1)
    }
    assert len(set(kept.values())) == 4
    assert tuple(run(tokens, 10, seed=1, image_key=2, score="sampled").kept.tolist()) == kept[2, 1]


def test_sampling_draws_in_proportion_to_the_odds() -> None:
    odds = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    draws = torch.rand(20_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = torch.stack([gumbel(odds, row) for row in draws]).argsort(dim=1, descending=True)
    first = torch.bincount(order[:, 0], minlength=4) / len(draws)
    torch.testing.assert_close(first.double(), odds, rtol=0, atol=0.015)
    assert bool((order[:, 3] == 3).all())
    # Second after 0: 0.3 / 0.5 of the time token 1.
    second = (order[order[:, 0] == 0][:, 1] == 1).double().mean()
    assert float(second) == pytest.approx(0.6, abs=0.02)


def test_settling_joins_rounding_and_nothing_else() -> None:
    scores = torch.tensor([1.0, 1.0 - 1e-15, 0.5, 0.5 + 1e-8, 0.0], dtype=torch.float64)
    settled = settle(scores)
    assert settled[0] == settled[1]
    assert settled[3] > settled[2]
    assert settle(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]
