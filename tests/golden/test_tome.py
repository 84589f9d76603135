"""ToMe pairs and merges exactly the tokens that the authors' code merges, after the encoder and inside it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from lofi.errors import UserError
from lofi.methods.merge_schedule import schedule
from lofi.methods.select import VisualContext, select
from lofi.methods.tome import Merged, Round, match

from .vectors import StoredAttention, Vectors, check_every_array

GOLDEN = Vectors("vision", "tome")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
ROUNDS = [
    (stem, int(grid), with_cls == "cls", int(r))
    for stem in GOLDEN.names
    for grid, with_cls, r in re.findall(r"^out_n(\d+)_(cls|nocls)_r(\d+)_src_idx$", stem)
]
STEP2 = [name.removesuffix("src_idx") for name in GOLDEN.names if re.search(r"_step2_r\d+_src_idx$", name)]


@dataclass
class StoredBlocks:
    """An encoder whose blocks do nothing but merge, with stored keys."""

    keys: Sequence[Tensor]
    states: Tensor

    def run(self, merge: Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        x, sizes = self.states, torch.ones(len(self.states))
        for block, keys in enumerate(self.keys):
            x, sizes = merge(block, keys[: len(x)], x, sizes)
        return x


def unmerged(x: Tensor) -> Merged:
    return Merged(x, torch.ones(len(x)), torch.arange(len(x)))


def check_round(found: Round, stem: str, image: int) -> None:
    for name, rows in (("unm_idx", found.unmerged), ("src_idx", found.source), ("dst_idx", found.target)):
        assert rows.tolist() == GOLDEN[stem + name][image].tolist()


def check_merged(found: Merged, stem: str, image: int) -> None:
    torch.testing.assert_close(found.rows, GOLDEN.tensor(stem + "wavg_x")[image], **CLOSE)
    assert np.array_equal(found.sizes.numpy(), GOLDEN[stem + "wavg_size"][image])


def first_behind(stems: Sequence[str], image: int, n: int) -> list[int]:
    """The smallest token behind each output row, from the stored indices of one round after another."""
    behind = [[token] for token in range(n)]
    for stem in stems:
        odd = [list(row) for row in behind[1::2]]
        for source, target in zip(GOLDEN[stem + "src_idx"][image], GOLDEN[stem + "dst_idx"][image], strict=True):
            odd[target] += behind[2 * source]
        behind = [behind[2 * row] for row in GOLDEN[stem + "unm_idx"][image]] + odd
    return [min(row) for row in behind]


def run_vit(keys: Sequence[Tensor], x: Tensor, k: int, has_cls: bool) -> tuple[list[int], Tensor]:
    attention = StoredAttention(n_extra=int(has_cls), heads=1, depth=len(keys))
    patches = x[int(has_cls) :]
    context = VisualContext(
        patches, patches, (1, len(patches)), 1, attention, feature_layer=-1, blocks=StoredBlocks(keys, x)
    )
    [selection] = select("tome_vit", context, [k], seed=0, params={})
    assert selection.embeds is not None
    assert torch.equal(selection.rows, selection.kept)
    return selection.kept.tolist(), selection.embeds


@pytest.mark.parametrize(("name", "grid", "has_cls", "r"), ROUNDS)
def test_one_round_equals_the_authors(name: str, grid: int, has_cls: bool, r: int) -> None:
    stem = name.removesuffix("src_idx")
    for image, (metric, x) in enumerate(
        zip(GOLDEN.tensor(f"in_n{grid}_metric"), GOLDEN.tensor(f"in_n{grid}_x"), strict=True)
    ):
        found = match(metric, has_cls=has_cls).cut(r)
        check_round(found, stem, image)
        merged = unmerged(x).after(found)
        check_merged(merged, stem, image)
        if stem + "r_effective" in GOLDEN.names:
            assert len(found.source) == GOLDEN[stem + "r_effective"]
        if stem + "mean_x" in GOLDEN.names:  # tokens of size 1 weigh the same, so the mean is the plain one
            torch.testing.assert_close(merged.rows, GOLDEN.tensor(stem + "mean_x")[image], **CLOSE)
        if stem + "unmerge_of_wavg_x" in GOLDEN.names:
            back = GOLDEN.tensor(stem + "unmerge_of_wavg_x")[image]
            torch.testing.assert_close(merged.rows[merged.owner], back, **CLOSE)


@pytest.mark.parametrize("stem", STEP2)
def test_the_second_round_carries_sizes_and_owners(stem: str) -> None:
    grid, r = map(int, re.findall(r"_n(\d+)_.*_r(\d+)_", stem)[0])
    for image, x in enumerate(GOLDEN.tensor(f"in_n{grid}_x")):
        once = unmerged(x).after(match(GOLDEN.tensor(f"in_n{grid}_metric")[image], has_cls=False).cut(r))
        metric = GOLDEN.tensor(f"in_n{grid}_metric_step2")[image, : len(once.rows)]
        found = match(metric, has_cls=False).cut(r)
        check_round(found, stem, image)
        twice = once.after(found)
        check_merged(twice, stem, image)
        assert twice.owner.tolist() == GOLDEN[stem + "source_owner"][image].tolist()


@pytest.mark.parametrize(("name", "grid"), [(name, grid) for name, grid, has_cls, _ in ROUNDS if not has_cls])
def test_after_the_encoder_one_round_leaves_the_authors_rows(name: str, grid: int) -> None:
    stem = name.removesuffix("src_idx")
    for image, metric in enumerate(GOLDEN.tensor(f"in_n{grid}_metric")):
        first = first_behind([stem], image, grid)
        context = VisualContext(metric, metric, (1, grid), image_key=1)
        [selection] = select("tome", context, [len(first)], seed=0, params={})
        assert selection.kept.tolist() == sorted(first)


@pytest.mark.parametrize(("name", "grid", "has_cls", "r"), ROUNDS)
def test_one_block_of_the_encoder_equals_the_authors(name: str, grid: int, has_cls: bool, r: int) -> None:
    stem = name.removesuffix("src_idx")
    for image, (metric, x) in enumerate(
        zip(GOLDEN.tensor(f"in_n{grid}_metric"), GOLDEN.tensor(f"in_n{grid}_x"), strict=True)
    ):
        rows = GOLDEN.tensor(stem + "wavg_x")[image]
        k = len(rows) - has_cls
        kept, embeds = run_vit([metric], x, k, has_cls)
        first = np.array(first_behind([stem], image, len(x)))
        order = first.argsort()[int(has_cls) :]
        assert kept == (first[order] - has_cls).tolist()
        torch.testing.assert_close(embeds, rows[order], **CLOSE)
        if r > grid // 2:
            with pytest.raises(UserError, match=f"use a count from {grid - grid // 2} to {grid}"):
                run_vit([metric], x, grid - r, has_cls)


@pytest.mark.parametrize("stem", STEP2)
def test_two_blocks_of_the_encoder_equal_the_authors(stem: str) -> None:
    grid, r = map(int, re.findall(r"_n(\d+)_.*_r(\d+)_", stem)[0])
    before = stem.replace("_step2", "")
    for image, x in enumerate(GOLDEN.tensor(f"in_n{grid}_x")):
        keys = [GOLDEN.tensor(f"in_n{grid}_metric")[image], GOLDEN.tensor(f"in_n{grid}_metric_step2")[image]]
        rows = GOLDEN.tensor(stem + "wavg_x")[image]
        kept, embeds = run_vit(keys, x, grid - 2 * r, has_cls=False)
        first = np.array(first_behind([before, stem], image, grid))
        assert kept == sorted(first.tolist())
        torch.testing.assert_close(embeds, rows[first.argsort()], **CLOSE)


def test_the_schedule_equals_the_authors_constant_one() -> None:
    steps = GOLDEN["out_parse_r_a"]
    removed = int(steps.sum())
    assert schedule(3 * removed, 2 * removed, len(steps)) == steps.tolist()


OTHER_SCHEDULE = "a schedule that rises, falls or stops with depth: lofi derives a constant one from the count"
KTH = "merging to every 4th token, a variant that no reducer uses"


def test_every_array_is_read_or_listed() -> None:
    check_every_array(
        GOLDEN,
        {
            **{f"out_parse_r_{letter}": OTHER_SCHEDULE for letter in "bcd"},
            "out_n144_kth4_dst_idx": KTH,
            "out_n144_kth4_mean_x": KTH,
        },
    )
