"""Any-resolution images: every method before the LLM on an image of three tiles, from the registry."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.context import Selection, VisualContext, portions, saliency, split_tiles
from lofi.methods.registry import METHODS
from lofi.methods.select import OWN

from .reducing import image, run, tiled

GRID, LAYOUT, TILES = (4, 4), (1, 2), 3
SIZE = GRID[0] * GRID[1]
N = TILES * SIZE
COUNTS = [3, 10, N // 2]
RECTANGLES = [3, 12, N // 2]  # a rectangle of the grid in every tile

BEFORE = [name for name in METHODS if METHODS[name].acts != "llm" and name != "full"]
ASKED = [name for name in BEFORE if METHODS[name].count == "asked"]
OWN_COUNT = [name for name in BEFORE if METHODS[name].count == "own"]
EACH = [name for name in BEFORE if METHODS[name].tiles == "each"]
# What the other methods make of tiles.
BY_ITSELF = {
    "visionzip": "equal parts, read in an order of its own",
    "cdpruner": "equal parts, relevance over all tiles",
    "trim_auto": "equal parts, outliers over all tiles",
    "hired": "a budget for each tile",
}
AS_ONE = ["random", "holov", "divprune", "mmtok", "lofi", "lofi_adaptive"]
PER_TILE = [*EACH, "visionzip"]  # every tile as if it were an image of its own


def alone(*, cls: bool = True) -> list[VisualContext]:
    """The tiles as images of their own."""
    return [image(GRID, seed=i, cls=cls) for i in range(TILES)]


def whole(*, cls: bool = True) -> VisualContext:
    return tiled(LAYOUT, GRID, cls=cls)


def counts(name: str) -> list[int]:
    if METHODS[name].count == "own":
        return [OWN]
    return RECTANGLES if METHODS[name].rectangle else COUNTS


def per_tile(places: Tensor) -> list[int]:
    """How many of the places lie in each tile."""
    return torch.bincount(places // SIZE, minlength=TILES).tolist()


def equal_parts(k: int) -> list[int]:
    return [k // TILES + (i < k % TILES) for i in range(TILES)]


def rows_of(selection: Selection, projected: Tensor) -> Tensor:
    """(r, d) what the LLM reads."""
    return projected[selection.kept] if selection.embeds is None else selection.embeds


on_both_encoders = pytest.mark.parametrize("cls", [True, False], ids=["CLS", "no CLS"])


def test_every_method_does_something_with_tiles() -> None:
    assert sorted([*EACH, *BY_ITSELF, *AS_ONE]) == sorted(BEFORE)


@on_both_encoders
@pytest.mark.parametrize("name", BEFORE)
def test_counts_order_and_range(name: str, cls: bool) -> None:
    context, ks = whole(cls=cls), counts(name)
    for selection, k in zip(run(name, context, ks), ks, strict=True):
        kept, places = selection.kept.tolist(), selection.rows.tolist()
        assert k in (OWN, selection.count)
        assert kept == sorted(set(kept))
        assert len(places) == selection.count
        assert set(kept) | set(places) <= set(range(N))
        assert rows_of(selection, context.projected).shape == (selection.count, context.projected.shape[1])
        if name in EACH or name == "visionzip":
            assert selection.trace["tiles"] == TILES


@on_both_encoders
@pytest.mark.parametrize("name", [name for name in ASKED if name in (*EACH, "visionzip", "cdpruner")])
def test_tiles_have_equal_parts(name: str, cls: bool) -> None:
    for selection, k in zip(run(name, whole(cls=cls), counts(name)), counts(name), strict=True):
        assert per_tile(selection.rows) == equal_parts(k)


@on_both_encoders
@pytest.mark.parametrize("name", PER_TILE)
def test_every_tile_gives_what_it_gives_alone(name: str, cls: bool) -> None:
    context, parts = whole(cls=cls), alone(cls=cls)
    for selection, k in zip(run(name, context, counts(name)), counts(name), strict=True):
        shares = [OWN] * TILES if k == OWN else equal_parts(k)
        rows, at = rows_of(selection, context.projected), selection.rows // SIZE
        for i, (part, share) in enumerate(zip(parts, shares, strict=True)):
            [own] = run(name, part, [share])
            assert (selection.kept[selection.kept // SIZE == i] - i * SIZE).tolist() == own.kept.tolist()
            assert sorted((selection.rows[at == i] - i * SIZE).tolist()) == sorted(own.rows.tolist())
            found, expected = rows[at == i].tolist(), rows_of(own, part.projected).tolist()
            torch.testing.assert_close(torch.tensor(sorted(found)), torch.tensor(sorted(expected)))
            assert name == "visionzip" or torch.equal(at, at.sort().values)


@pytest.mark.parametrize("name", AS_ONE)
def test_all_tiles_are_one_sequence(name: str) -> None:
    context, ks = whole(), [1, 2, *COUNTS, N - 1]
    joined, plain = run(name, context, ks), run(name, replace(context, tiles=None), ks)
    for one, other, k in zip(joined, plain, ks, strict=True):
        assert one.count == k
        assert one.rows.tolist() == other.rows.tolist()
    # Tiles are not equal to such a method: some get more than their part.
    assert any(per_tile(selection.kept) != equal_parts(k) for selection, k in zip(joined, ks, strict=True))


@pytest.mark.parametrize("name", ASKED)
def test_keeping_all_of_the_image_is_the_identity(name: str) -> None:
    [selection] = run(name, whole(), [N])
    assert selection.kept.tolist() == list(range(N))
    assert selection.embeds is None


@on_both_encoders
@pytest.mark.parametrize("name", [name for name in PER_TILE if name in ASKED and not METHODS[name].rectangle])
def test_keeping_all_of_a_tile_leaves_it_as_it_is(name: str, cls: bool) -> None:
    context = whole(cls=cls)
    [selection] = run(name, context, [N - 1])
    full = selection.rows < 2 * SIZE
    assert sorted(selection.rows[full].tolist()) == list(range(2 * SIZE))
    assert torch.equal(rows_of(selection, context.projected)[full], context.projected[selection.rows[full]])


@pytest.mark.parametrize("name", [name for name in ASKED if name in PER_TILE])
def test_fewer_tokens_than_tiles_are_refused(name: str) -> None:
    for k in (1, TILES - 1):
        with pytest.raises(UserError, match=f"{k} tokens are fewer than the 3 tiles of an image; keep at least 3"):
            run(name, whole(), [k])


@pytest.mark.parametrize("name", [name for name in ASKED if METHODS[name].rectangle])
def test_parts_that_are_no_rectangle_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="5 tokens fill no rectangle of a 4 x 4 grid"):
        run(name, whole(), [15])


@pytest.mark.parametrize("name", ["prumerge", "prumerge_plus"])
def test_tiles_choose_counts_of_their_own(name: str) -> None:
    own = [run(name, part, [OWN])[0] for part in alone()]
    [selection] = run(name, whole(), [OWN])
    assert per_tile(selection.rows) == [part.count for part in own]
    for key in ("ratio", "count"):
        assert selection.trace[key] == pytest.approx(sum(part.trace[key] for part in own) / TILES)


def test_trim_auto_gives_every_tile_the_same_part_and_a_mean() -> None:
    [selection] = run("trim_auto", whole(), [OWN])
    kept = per_tile(selection.kept)
    assert kept == [kept[0]] * TILES
    assert per_tile(selection.rows) == [kept[0] + 1] * TILES


@on_both_encoders
def test_hired_gives_each_tile_its_share_of_the_votes(cls: bool) -> None:
    context, base = whole(cls=cls), alone(cls=cls)[0]
    voters = saliency(base, 0).topk(SIZE // 2).indices
    for regions, tile_of in [("strips", lambda token: token // 8), ("spatial", lambda token: token % 4 // 2)]:
        votes = [sum(tile_of(int(token)) == i for token in voters) for i in range(TILES - 1)]
        for k in (2, 8, 16, 24):
            rest = k - k // 2
            floors = [min(rest * vote // len(voters), SIZE) for vote in votes]
            first = int(votes[1] > votes[0])  # takes what cutting to whole numbers leaves
            floors[first] += rest - sum(floors)
            [selection] = run("hired", context, [k], regions=regions)
            assert per_tile(selection.kept) == [k // 2, *floors]
            scores = saliency(context).reshape(TILES, SIZE)
            for i, own in enumerate(per_tile(selection.kept)):
                best = scores[i].topk(own).indices + i * SIZE
                assert set(best.tolist()) == set(selection.kept[selection.kept // SIZE == i].tolist())


def test_tiles_are_images_of_their_own() -> None:
    context, expected = whole(), alone()
    found = split_tiles(context)
    assert len({part.image_key for part in found}) == TILES
    for part, own in zip(found, expected, strict=True):
        assert part.tiles is None
        assert part.extra is not None
        assert part.attention is not None
        assert own.attention is not None
        assert torch.equal(part.hidden, own.hidden)
        assert torch.equal(part.extra, own.extra)
        assert torch.equal(part.attention.keys(-2), own.attention.keys(-2))
        assert torch.equal(part.blocks.states, own.blocks.states)  # type: ignore[union-attr]


def test_portions_are_equal_and_the_first_take_what_is_over() -> None:
    a, b, c = "a" * 9, "b" * 9, "c" * 9
    assert portions([a, b, c], 11) == [(a, 4), (b, 4), (c, 3)]
    assert portions([a], 1) == [(a, 1)]
    with pytest.raises(UserError, match="2 tokens are fewer than the 3 tiles"):
        portions([a, b, c], 2)


def test_a_tile_smaller_than_its_part_keeps_all_and_the_others_share_the_rest() -> None:
    a, b, c = "a" * 9, "b" * 2, "c" * 5
    assert portions([a, b, c], 9) == [(a, 4), (b, 2), (c, 3)]
    assert portions([a, b, c], 15) == [(a, 8), (b, 2), (c, 5)]
