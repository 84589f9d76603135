"""Spectra against a float64 SVD, the definitions they must obey, and the matrices that break naive code."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lofi import spectra
from lofi.store import STATISTICS

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SHAPES = st.tuples(st.integers(2, 14), st.integers(1, 14), st.integers(0, 10_000))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def low_rank(n: int, d: int, r: int, seed: int = 0) -> Tensor:
    return noise(n, r, seed=seed) @ noise(r, d, seed=seed + 1)


def uneven(n: int, d: int, seed: int = 0) -> Tensor:
    """Tokens with uneven norms in a decaying spectrum, as encoders give them."""
    lengths = noise(n, 1, seed=seed + 1).exp()
    return noise(n, d, seed=seed) / torch.arange(1, d + 1, dtype=torch.float64).sqrt() * lengths


def by_svd(x: Tensor) -> dict[str, float]:
    """The statistics as their definitions have them, from singular values, in plain Python."""
    s = [value for value in torch.linalg.svdvals(x).tolist() if value > 1e-6 * float(torch.linalg.matrix_norm(x, 2))]
    p = [value**2 / sum(v**2 for v in s) for value in s]
    q = [value / sum(s) for value in s]
    entropy = -sum(v * math.log(v) for v in p)
    g = (x @ x.T).tolist()
    pairs = [(i, j) for i in range(len(g)) for j in range(len(g)) if i != j]
    norms = [g[i][i] for i in range(len(g))]
    return {
        "ipr": sum(v**2 for v in p),
        "ipr_u": sum(g[i][j] ** 2 for i, j in pairs) / sum(norms[i] * norms[j] for i, j in pairs),
        "ipr_l1": sum(v**2 for v in q),
        "entropy": entropy,
        "entropy_norm": entropy / math.log(len(p)) if len(p) > 1 else math.nan,
        "erank_energy": math.exp(entropy),
        "erank_rv": math.exp(-sum(v * math.log(v) for v in q)),
        "stable_rank": 1 / p[0],
        "top1_energy": p[0],
        **{f"k{c}": next(k for k in range(1, len(p) + 1) if sum(p[:k]) >= c / 100 - 1e-12) for c in (90, 95, 99)},
        "max_row_share": max(norms) / sum(norms),
    }


def test_the_keys_are_those_of_the_store() -> None:
    assert tuple(spectra.spectrum_statistics(noise(4, 3))) == STATISTICS


@QUICK
@given(SHAPES)
def test_statistics_equal_an_svd(shape: tuple[int, int, int]) -> None:
    n, d, seed = shape
    x = noise(n, d, seed=seed)
    found = spectra.spectrum_statistics(x)
    for name, expected in by_svd(x).items():
        assert float(found[name]) == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True), name
    assert float(spectra.ipr(x)) == pytest.approx(float(found["ipr"]), rel=1e-12)
    assert float(spectra.ipr_u(x)) == pytest.approx(float(found["ipr_u"]), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(144, 512), (512, 64), (30, 30)])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_both_iprs_are_exact_in_float32(n: int, d: int, offset: float) -> None:
    """Their products run in the type of the tokens: float32 tokens give the values of the same tokens in float64."""
    x = (uneven(n, d) + offset).float()
    for statistic in (spectra.ipr, spectra.ipr_u):
        assert float(statistic(x)) == pytest.approx(float(statistic(x.double())), rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(9, 30), (30, 9)])
def test_a_rank_deficient_matrix_counts_only_its_rank(n: int, d: int) -> None:
    x = low_rank(n, d, 3)
    found = spectra.spectrum_statistics(x.float())
    expected = by_svd(x)
    assert float(found["erank_rv"]) == pytest.approx(expected["erank_rv"], rel=1e-5)
    assert float(found["entropy_norm"]) == pytest.approx(expected["entropy"] / math.log(3), rel=1e-5)


def test_a_batch_equals_its_members_and_padding_changes_nothing() -> None:
    sizes = [2, 5, 9, 16]
    members = [uneven(n, 9, seed=n) for n in sizes]
    batch = torch.stack([torch.cat([x, x.new_zeros(16 - len(x), 9)]) for x in members])
    together = spectra.spectrum_statistics(batch.view(2, 2, 16, 9))
    for name in STATISTICS:
        assert together[name].shape == (2, 2)
        alone = torch.stack([spectra.spectrum_statistics(x)[name] for x in members])
        torch.testing.assert_close(together[name].flatten(), alone, rtol=1e-10, atol=1e-12, msg=name)
    torch.testing.assert_close(spectra.ipr_u(batch), torch.stack([spectra.ipr_u(x) for x in members]))


def test_what_is_undefined_is_nan_and_does_not_touch_its_neighbours() -> None:
    batch = torch.stack([uneven(4, 6), torch.zeros(4, 6), torch.full((4, 6), math.nan), torch.full((4, 6), math.inf)])
    for name, values in spectra.spectrum_statistics(batch).items():
        assert bool(values[0].isfinite()), name
        assert bool(values[1:].isnan().all()), name
    assert spectra.ipr(batch).isnan().tolist() == [False, True, True, True]
    assert spectra.ipr_u(batch).isnan().tolist() == [False, True, True, True]


def test_one_token_has_an_ipr_and_no_pair() -> None:
    for x in (torch.ones(1, 5), torch.cat([torch.ones(1, 5), torch.zeros(3, 5)])):
        found = spectra.spectrum_statistics(x)
        assert float(found["ipr"]) == pytest.approx(1.0)
        assert float(found["k99"]) == 1.0
        assert math.isnan(float(found["ipr_u"]))
        assert math.isnan(float(found["entropy_norm"]))
    assert math.isnan(float(spectra.ipr(torch.zeros(0, 5))))
    assert math.isnan(float(spectra.ipr_u(torch.zeros(0, 5))))


def test_ipr_u_survives_one_huge_row() -> None:
    x = uneven(12, 20)
    x[3] *= 1e8
    g = x @ x.T
    off = ~torch.eye(12, dtype=torch.bool)
    norms = g.diagonal()
    expected = g[off].square().sum() / (norms[:, None] * norms)[off].sum()
    assert float(spectra.ipr_u(x)) == pytest.approx(float(expected), rel=1e-9)


def test_equal_energies_are_counted_exactly() -> None:
    found = spectra.spectrum_statistics(torch.eye(10))
    assert float(found["k90"]) == 9.0
    assert float(found["ipr"]) == pytest.approx(0.1)
    assert float(found["entropy_norm"]) == pytest.approx(1.0)


def test_only_ipr_u_is_flat_under_random_subsets() -> None:
    """576 to 16 tokens of one matrix: raw IPR grows sevenfold, IPR_U stays, if the full mean centres it."""
    x = noise(576, 64) * (0.5 * noise(576, 1, seed=1)).exp()
    x = spectra.centre(x, x.mean(0))
    generator = torch.Generator().manual_seed(0)
    raw, count_free = float(spectra.ipr(x)), float(spectra.ipr_u(x))
    for n, growth in ((192, 1.3), (64, 2.0), (16, 5.0)):
        subsets = torch.stack([x[torch.randperm(576, generator=generator)[:n]] for _ in range(500)])
        assert float(spectra.ipr_u(subsets).mean()) == pytest.approx(count_free, rel=0.03)
        assert float(spectra.ipr(subsets).mean()) > growth * raw
    by_own_mean = spectra.centre(subsets, subsets.mean(1))
    assert float(spectra.ipr_u(by_own_mean).mean()) > 1.5 * count_free


def test_a_common_mean_moves_raw_ipr_and_centring_restores_it() -> None:
    x = noise(100, 50)
    x = x - x.mean(0)
    shifted = x + 5.0
    assert float(spectra.ipr(shifted)) > 10 * float(spectra.ipr(x))
    restored = spectra.centre(shifted, shifted.mean(0))
    assert float(spectra.ipr(restored)) == pytest.approx(float(spectra.ipr(x)), rel=1e-9)


def test_centring_leaves_padding_zero() -> None:
    x, mask = noise(2, 4, 3), torch.tensor([[True, True, False, True], [True, False, False, False]])
    x[~mask] = math.nan
    centred = spectra.centre(x, torch.ones(2, 3), mask)
    assert bool((centred[~mask] == 0).all())
    torch.testing.assert_close(centred[mask], x[mask] - 1.0)


def test_rank_rules() -> None:
    energy = torch.tensor([8.0, 1.0, 0.5, 0.5])
    rank = {rule: spectra.choose_rank(energy, rule, n=20, k=3) for rule in ("fixed:2", "energy:0.9", "budget", "erank")}
    assert rank == {"fixed:2": 2, "energy:0.9": 2, "budget": 3, "erank": 2}  # PR = 100 / 65.5 = 1.53
    assert spectra.choose_rank(energy, "energy:1.0", n=20, k=3) == 4
    assert spectra.choose_rank(energy, "fixed:99", n=20, k=3) == 4  # the numerical rank
    assert spectra.choose_rank(energy, "fixed:99", n=3, k=2) == 2  # n - 1
    assert spectra.choose_rank(torch.tensor([1.0, 1e-15]), "budget", n=9, k=5) == 1
    assert spectra.choose_rank(torch.empty(0), "budget", n=9, k=5) == 0
    with pytest.raises(ValueError, match="best"):
        spectra.choose_rank(energy, "best", n=9, k=5)


@QUICK
@given(SHAPES, st.integers(1, 14), st.booleans())
def test_row_space_error_equals_the_pseudo_inverse(shape: tuple[int, int, int], k: int, deficient: bool) -> None:
    n, d, seed = shape
    x = low_rank(n, d, 2, seed=seed) if deficient else uneven(n, d, seed=seed)
    kept = torch.arange(n)[: min(k, n)]
    inside = x @ torch.linalg.pinv(x[kept], rtol=1e-9) @ x[kept]
    expected = float((x - inside).square().sum() / x.square().sum())
    assert spectra.row_space_error(x, kept) == pytest.approx(expected, abs=1e-9)
    assert spectra.row_space_error(x, kept, spectra.row_gram(x)) == spectra.row_space_error(x, kept)


def test_row_space_error_of_odd_matrices() -> None:
    x = torch.tensor([[1e-9, 0.0], [3.0, 0.0], [0.0, 4.0], [0.0, 0.0], [1e-9, 0.0]])
    short_zero_and_twin = torch.tensor([0, 3, 4])
    assert spectra.row_space_error(x, short_zero_and_twin) == pytest.approx(16 / 25)
    short_beside_long = torch.tensor([0, 2])
    assert spectra.row_space_error(x, short_beside_long) == pytest.approx(0.0, abs=1e-12)
    assert spectra.row_space_error(x, torch.tensor([3])) == 1.0
    assert spectra.row_space_error(x, torch.arange(5)) == 0.0
    assert math.isnan(spectra.row_space_error(torch.zeros(3, 2), torch.tensor([0])))


def test_rows_that_differ_by_float32_rounding_span_one_direction() -> None:
    twins = torch.tensor([[1.0, 0.0], [1.0, 1e-7], [0.0, 1.0]])
    assert spectra.row_space_error(twins, torch.tensor([0, 1])) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("n", "d"), [(6, 16), (16, 6), (1, 4)])
@pytest.mark.parametrize("padding", [0, 3])
def test_raw_and_centred_from_one_product_equal_two_separate_ones(n: int, d: int, padding: int) -> None:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(4, n, d, generator=generator) + 3
    mean = x.mean(-2) + 0.1
    padded = torch.cat([x, torch.randn(4, padding, d, generator=generator)], -2)
    mask = torch.arange(n + padding).expand(4, -1) < n
    raw, centred = spectra.spectra_of(padded, mean, mask if padding else None)
    for name, value in spectra.spectrum_statistics(x).items():
        assert raw[name] == pytest.approx(value.numpy(), rel=1e-9, abs=1e-12, nan_ok=True), name
    for name, value in spectra.spectrum_statistics(spectra.centre(x, mean)).items():
        assert centred[name] == pytest.approx(value.numpy(), rel=1e-7, abs=1e-9, nan_ok=True), name


def test_a_matrix_without_energy_or_with_nan_is_undefined_alone() -> None:
    x = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    x[0], x[1, 2, 3] = 0, torch.nan
    raw, _ = spectra.spectra_of(x, torch.zeros(3, 8))
    assert raw["ipr"].isnan().tolist() == [True, True, False]
    assert raw["erank_rv"].isnan().tolist() == [True, True, False]
