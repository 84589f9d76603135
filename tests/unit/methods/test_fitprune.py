"""FitPrune's counts: between the tables, without torch, and fitted; and what its fit may delete."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch

from lofi.errors import UserError
from lofi.methods.decoder import attention_rows
from lofi.methods.fitprune import cross_and_self, delete_at, fit, peaks, spare
from lofi.methods.fitprune_table import DELETED, TABLE_DEPTH, TABLE_TOKENS, blend, counts_of, table_counts
from lofi.methods.select import select_stage
from tests.golden.decoding import StoredDecoderAttention, view


def falls(counts: Sequence[int]) -> bool:
    return all(a >= b for a, b in pairwise(counts))


def test_every_mean_between_the_tables_is_met_by_counts_that_never_rise() -> None:
    least = sum(counts_of(DELETED[90], TABLE_TOKENS))
    for total in range(least, TABLE_TOKENS * TABLE_DEPTH + 1, 7):
        counts = table_counts(TABLE_TOKENS, TABLE_DEPTH, total / TABLE_DEPTH)
        assert sum(counts) == total
        assert counts[0] == TABLE_TOKENS
        assert falls(counts)


def test_a_mean_beyond_the_tables_gives_the_nearest() -> None:
    assert table_counts(TABLE_TOKENS, TABLE_DEPTH, 0.0) == counts_of(DELETED[90], TABLE_TOKENS)
    assert table_counts(TABLE_TOKENS, TABLE_DEPTH, 600.0) == [TABLE_TOKENS] * TABLE_DEPTH


def test_another_shape_has_no_table() -> None:
    with pytest.raises(UserError, match="only for 576 and 32"):
        table_counts(256, TABLE_DEPTH, 100.0)


def test_the_table_needs_no_torch() -> None:
    code = "import sys, lofi.methods.fitprune_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_remainders_go_to_the_earlier_of_equal_layers() -> None:
    assert blend([4, 4, 4, 4], [4, 3, 3, 3], 3.5) == [4, 4, 3, 3]
    assert blend([4, 4], [4, 4], 4.0) == [4, 4]


def test_the_fit_bisects_to_the_target_and_blends() -> None:
    tried = []

    def counts_at(alpha: float) -> list[float]:
        tried.append(alpha)
        return [100.0, 100.0 * (1 - alpha), 100.0 * (1 - alpha) ** 2]

    for target in (40.0, 50.5, 70.0):
        counts = fit(counts_at, target)
        assert sum(counts) == round(3 * target)
        assert falls(counts)
        assert counts[0] == 100
    assert len(tried) == 3 * (2 + 7)
    for target in (33.0, 101.0):
        with pytest.raises(UserError, match=r"33\.3 to 100\.0"):
            fit(counts_at, target)


def test_a_rate_of_zero_deletes_nothing_and_a_rate_of_one_spares_the_largest() -> None:
    scores = torch.tensor([0.5, 0.1, 0.4, 0.2])
    assert spare(0.0, scores, 1.2) == 0
    assert spare(1.0, scores, 1.2) == 3
    # Without 0.1 and 0.2 are left 0.9 of 1.2, without 0.4 too only 0.5.
    assert spare(0.3, scores, 1.2) == 2
    assert spare(0.2, scores, 1.2) == 1
    assert delete_at(1.0, scores, scores.flip(0), 1.2, 1.2).tolist() == [1, 2]
    assert delete_at(1.0, torch.zeros(3), torch.zeros(3), 0.0, 0.0).tolist() == [1, 2]


def test_the_maximum_over_heads_is_that_of_the_whole_map() -> None:
    generator = torch.Generator().manual_seed(0)
    pair = tuple(torch.randn(5, 20, 6, generator=generator) for _ in range(2))
    seen = view(20, 3, 12, attention=StoredDecoderAttention({1: (pair[0], pair[1])}, scales={1: 0.4}))
    for rows in (seen.text, seen.visual):
        expected = attention_rows(seen, rows, layer=1).amax(0)
        torch.testing.assert_close(peaks(seen, rows, layer=1), expected)
    cross, own = cross_and_self(seen)
    kept = select_stage("fitprune", seen, 5, seed=0, params={}).kept
    assert kept.tolist() == sorted((cross * own).argsort(descending=True)[:5].tolist())


@pytest.mark.parametrize("t", [0, 4])
def test_equal_scores_keep_the_first(t: int) -> None:
    alike = torch.zeros(2, 16 + t, 3)
    # No visual token attends to a later one, so the first is the most attended; without text all products are 0.
    seen = view(16 + t, 2, 14, attention=StoredDecoderAttention({1: (alike, alike)}, scales={1: 1.0}))
    assert select_stage("fitprune", seen, 5, seed=0, params={}).kept.tolist() == [0, 1, 2, 3, 4]


def test_nan_is_an_error() -> None:
    broken = torch.full((2, 10, 3), torch.nan)
    seen = view(10, 1, 6, attention=StoredDecoderAttention({1: (broken, broken)}, scales={1: 1.0}))
    with pytest.raises(ValueError, match="decoder layer 1"):
        select_stage("fitprune", seen, 3, seed=0, params={})
