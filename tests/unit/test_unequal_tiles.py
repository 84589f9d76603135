"""Any-resolution images whose tiles differ in size, because the model has cut their borders off."""

from dataclasses import replace
from itertools import pairwise
from math import prod

import pytest
import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.allotment import allot
from lofi.methods.context import Tiles, VisualContext, best_first, portions, saliency, split_tiles
from lofi.methods.hired import strips, vote_shares
from lofi.methods.registry import METHODS
from lofi.methods.select import OWN

from .reducing import Encoder, image, run

GRIDS = ((4, 4), (3, 4), (3, 1), (2, 4), (2, 1))  # the whole image, then 2 x 2 tiles without their borders
SIZES = [prod(grid) for grid in GRIDS]
STARTS = [sum(SIZES[:i]) for i in range(len(SIZES))]
N = sum(SIZES)
COUNTS = [5, 11, 20, 33, N - 1]
BEFORE = [name for name in METHODS if METHODS[name].acts == "tokens" and name != "full" and not METHODS[name].rectangle]
ASKED = [name for name in BEFORE if METHODS[name].count == "asked"]


def parts(*, cls: bool = True) -> list[VisualContext]:
    """The tiles as images of their own."""
    return [image(grid, seed=seed, cls=cls) for seed, grid in enumerate(GRIDS)]


def whole(*, cls: bool = True) -> VisualContext:
    """All of them as one image."""
    own = parts(cls=cls)
    encoders = tuple(part.attention for part in own)
    assert all(isinstance(encoder, Encoder) for encoder in encoders)
    return replace(
        own[0],
        hidden=torch.cat([part.hidden for part in own]),
        projected=torch.cat([part.projected for part in own]),
        extra=torch.cat([part.extra for part in own if part.extra is not None]) if cls else None,
        attention=replace(encoders[0], parts=encoders),
        blocks=None,  # no method inside the encoder runs on such tiles
        tiles=Tiles(len(GRIDS), (2, 2), GRIDS),
    )


def per_tile(places: Tensor) -> list[int]:
    """How many of the places lie in each tile."""
    bounds = torch.tensor([*STARTS, N])
    return [int(((places >= low) & (places < high)).sum()) for low, high in pairwise(bounds)]


on_both_encoders = pytest.mark.parametrize("cls", [True, False], ids=["CLS", "no CLS"])


@on_both_encoders
@pytest.mark.parametrize("name", BEFORE)
def test_counts_order_and_range(name: str, cls: bool) -> None:
    context, ks = whole(cls=cls), [OWN] if METHODS[name].count == "own" else COUNTS
    for selection, k in zip(run(name, context, ks), ks, strict=True):
        kept, rows = selection.kept.tolist(), selection.rows.tolist()
        assert k in (OWN, selection.count) or METHODS[name].count == "calibrated"
        assert kept == sorted(set(kept))
        assert set(kept) | set(rows) <= set(range(N))


@pytest.mark.parametrize(
    "name", [name for name in ASKED if METHODS[name].tiles == "each" or name in ("visionzip", "cdpruner")]
)
def test_parts_are_equal_but_for_what_a_tile_cannot_hold(name: str) -> None:
    for k, selection in zip(COUNTS, run(name, whole(), COUNTS), strict=True):
        counts = per_tile(selection.rows)
        assert counts == [share for _, share in portions(parts(), k)]
        room = [count for count, size in zip(counts, SIZES, strict=True) if count < size]
        assert max(room) - min(room) <= 1


def test_portions_of_tiles_that_differ() -> None:
    assert [share for _, share in portions(parts(), 5)] == [1, 1, 1, 1, 1]
    assert [share for _, share in portions(parts(), 20)] == [5, 5, 3, 5, 2]
    assert [share for _, share in portions(parts(), 33)] == [10, 10, 3, 8, 2]
    assert [share for _, share in portions(parts(), N)] == SIZES


@on_both_encoders
def test_visionzip_reads_tile_after_tile_what_each_gives_alone(cls: bool) -> None:
    context, own = whole(cls=cls), parts(cls=cls)
    for k, selection in zip(COUNTS, run("visionzip", context, COUNTS), strict=True):
        assert selection.embeds is not None
        alone = [run("visionzip", part, [share])[0] for part, share in portions(own, k)]
        assert selection.kept.tolist() == [
            token + start for one, start in zip(alone, STARTS, strict=True) for token in one.kept.tolist()
        ]
        assert selection.rows.tolist() == [
            place + start for one, start in zip(alone, STARTS, strict=True) for place in one.rows.tolist()
        ]
        rows = [
            part.projected[one.kept] if one.embeds is None else one.embeds for part, one in zip(own, alone, strict=True)
        ]
        torch.testing.assert_close(selection.embeds, torch.cat(rows))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9])
def test_hired_votes_as_ever_and_gives_no_tile_more_than_it_holds(alpha: float) -> None:
    context = whole()
    tiles = split_tiles(context)
    shares = vote_shares(saliency(tiles[0], 0), alpha, strips(SIZES[0], 4), 4)
    for k, selection in zip(COUNTS, run("hired", context, COUNTS, alpha=alpha), strict=True):
        rest = min(k - min(int(k * alpha), SIZES[0]), sum(SIZES[1:]))
        counts = [k - rest, *allot(shares, rest, SIZES[1:])]
        assert per_tile(selection.kept) == counts
        best = [sorted(best_first(saliency(tile))[:count].tolist()) for tile, count in zip(tiles, counts, strict=True)]
        assert selection.kept.tolist() == [
            token + start for found, start in zip(best, STARTS, strict=True) for token in found
        ]


def test_hired_gives_what_a_small_tile_cannot_hold_to_the_others() -> None:
    context = whole()
    base, *counts = per_tile(run("hired", context, [33])[0].kept)
    assert (base, counts[1], counts[3]) == (16, 3, 2)
    assert counts[0] + counts[2] == 33 - 16 - 3 - 2


def test_the_trace_is_the_mean_over_the_tiles_that_were_reduced() -> None:
    shares = portions(parts(), 33)
    alone = [run("prumerge_fixed", part, [share])[0] for part, share in shares if share < len(part)]
    [selection] = run("prumerge_fixed", whole(), [33])
    assert len(alone) == 2
    assert selection.trace == {
        "tiles": len(GRIDS),
        **{key: pytest.approx(sum(one.trace[key] for one in alone) / 2) for key in alone[0].trace},
    }


def test_trim_auto_leaves_every_tile_its_mean() -> None:
    [selection] = run("trim_auto", whole(), [OWN])
    counts = per_tile(selection.rows)
    assert min(counts) >= 1
    assert all(count <= size for count, size in zip(counts, SIZES, strict=True))
    assert selection.count == sum(counts)


def test_grids_that_do_not_hold_the_tokens_are_refused() -> None:
    wrong = replace(whole(), tiles=None)
    with pytest.raises(UserError, match=r"'grid_1d' needs a grid, and 4 x 4 does not hold the 41 tokens"):
        run("grid_1d", wrong, [5])
