"""Grids, pooling and the rectangles they need."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi.errors import UserError
from lofi.methods.rectangle import reachable, rectangle
from lofi.methods.select import VisualContext, select

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
GRIDS = st.tuples(st.integers(1, 13), st.integers(1, 13))


def image(grid: tuple[int, int], d: int = 3) -> VisualContext:
    n = grid[0] * grid[1]
    tokens = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    return VisualContext(tokens, tokens, grid, image_key=1)


def kept(name: str, grid: tuple[int, int], k: int) -> list[int]:
    [selection] = select(name, image(grid), [k], seed=0, params={})
    return list(selection.kept.tolist())


@QUICK
@given(grid=GRIDS, k=st.integers(1, 170))
def test_a_rectangle_fits_and_no_other_is_nearer_in_aspect(grid: tuple[int, int], k: int) -> None:
    if k not in reachable(grid):
        with pytest.raises(UserError, match=f"^{k} tokens fill no rectangle"):
            rectangle(k, grid)
        return
    kh, kw = rectangle(k, grid)
    assert kh * kw == k
    assert kh <= grid[0]
    assert kw <= grid[1]
    aspect = math.log(grid[0] / grid[1])
    for other in range(1, grid[0] + 1):
        if k % other == 0 and k // other <= grid[1]:
            assert abs(math.log(kh / kw) - aspect) <= abs(math.log(other * other / k) - aspect) + 1e-12


@pytest.mark.parametrize(
    ("k", "grid", "expected"),
    [
        (192, (24, 24), (16, 12)),
        (128, (24, 24), (16, 8)),
        (64, (24, 24), (8, 8)),
        (36, (12, 12), (6, 6)),
        (8, (4, 16), (2, 4)),  # 2 x 4 and 1 x 8 are both twice off; more rows win
        (6, (2, 12), (1, 6)),
        (4, (24, 24), (2, 2)),
        (4, (4, 64), (1, 4)),  # 4 times off, in a grid as long as that
    ],
)
def test_known_rectangles(k: int, grid: tuple[int, int], expected: tuple[int, int]) -> None:
    assert rectangle(k, grid) == expected


@pytest.mark.parametrize(
    ("k", "grid"), [(23, (24, 24)), (22, (24, 24)), (5, (12, 12)), (1, (1, 5)), (1, (3, 30)), (2, (26, 3))]
)
def test_a_strip_is_no_coarser_image(k: int, grid: tuple[int, int]) -> None:
    assert k not in reachable(grid)
    with pytest.raises(UserError, match="at most 4 times off its aspect"):
        rectangle(k, grid)


def test_the_shares_of_the_default_sweep_are_rectangles() -> None:
    assert [rectangle(k, (12, 12)) for k in (72, 36, 18, 9)] == [(9, 8), (6, 6), (6, 3), (3, 3)]
    assert set(range(1, 5)) < set(reachable((12, 12)))
    assert all(max(reachable(grid)) == grid[0] * grid[1] for grid in ((1, 1), (1, 35), (5, 7), (24, 24)))


@pytest.mark.parametrize("name", ["grid_2d", "pool"])
def test_a_count_that_is_no_rectangle_is_refused_with_its_neighbours(name: str) -> None:
    with pytest.raises(UserError, match=r"13 tokens fill no rectangle of a 4 x 6 grid; .*: 10, 12, 15, 16"):
        kept(name, (4, 6), 13)


@QUICK
@given(n=st.integers(2, 200), data=st.data())
def test_grid_1d_is_even_and_has_no_bias_to_one_end(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n - 1))
    indices = kept("grid_1d", (1, n), k)
    gaps = [b - a for a, b in pairwise(indices)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert abs(indices[0] - (n - 1 - indices[-1])) <= 1


def test_grid_2d_takes_the_middle_of_each_cell() -> None:
    assert kept("grid_2d", (4, 6), 6) == [7, 9, 11, 19, 21, 23]
    assert kept("grid_2d", (5, 3), 1) == [7]


@QUICK
@given(grid=GRIDS, data=st.data())
def test_pooling_is_the_mean_of_each_cell(grid: tuple[int, int], data: st.DataObject) -> None:
    (height, width), n = grid, grid[0] * grid[1]
    ks = [k for k in reachable(grid) if k < n]
    if not ks:
        return
    k = data.draw(st.sampled_from(ks))
    context = image(grid)
    [selection] = select("pool", context, [k], seed=0, params={})
    assert selection.embeds is not None
    kh, kw = rectangle(k, grid)
    picture = context.projected.view(height, width, -1)
    for cell in range(k):
        i, j = divmod(cell, kw)
        rows = range(i * height // kh, math.ceil((i + 1) * height / kh))
        columns = range(j * width // kw, math.ceil((j + 1) * width / kw))
        block = picture[rows.start : rows.stop, columns.start : columns.stop]
        torch.testing.assert_close(selection.embeds[cell], block.mean((0, 1)))
        row, column = divmod(int(selection.kept[cell]), width)
        assert abs(2 * row - (rows.start + rows.stop - 1)) <= 1
        assert abs(2 * column - (columns.start + columns.stop - 1)) <= 1
