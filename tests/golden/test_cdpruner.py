"""CDPruner picks exactly the tokens that the authors' code picks, in the same order."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
from torch import Tensor

from lofi.methods.cdpruner import cdpruner, conditional_kernel, greedy_map, question_relevance
from lofi.methods.context import Question, Tiles
from lofi.methods.select import VisualContext, select

from .vectors import Vectors, check_every_array

GOLDEN = Vectors("vision", "cdpruner")


@dataclass
class StoredTower:
    """The stored embeddings of patches (which the context holds as encoder features) and text."""

    text: Tensor

    def patches(self, hidden: Tensor) -> Tensor:
        return hidden

    def segments(self, text: str) -> Tensor:
        assert text == "Is it?"
        return self.text

    def sentence(self, text: str) -> Tensor:
        raise NotImplementedError


def context_of(grid: str) -> VisualContext:
    """All samples as the tiles of one image: the authors scale the relevance over both alike."""
    features, embeds = GOLDEN.tensor(f"in_{grid}_features"), GOLDEN.tensor(f"in_{grid}_image_embeds")
    samples, n, _ = features.shape
    side = round(n**0.5)
    question = Question("Is it?\nAnswer the question using a single word or phrase.", features[0, :3])
    return VisualContext(
        hidden=embeds.flatten(0, 1),
        projected=features.flatten(0, 1),
        grid=(side, side),
        image_key=1,
        question=question,
        tower=StoredTower(GOLDEN.tensor(f"in_{grid}_text_embeds")),
        tiles=Tiles(samples, (1, samples - 1)) if samples > 1 else None,
    )


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_relevance")])
def test_relevance_equals_the_authors(case: str) -> None:
    found = question_relevance(context_of(case.split("_")[1]))
    assert found is not None
    np.testing.assert_allclose(found.numpy(), GOLDEN[case].ravel(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_mask")])
def test_indices_equal_the_authors(case: str) -> None:
    grid, k = re.findall(r"_(n\d+)_k(\d+)_", case)[0]
    stem = case.removesuffix("mask")
    masks, orders = GOLDEN[case], GOLDEN[stem + "selection_order"]
    samples, n = masks.shape
    context = context_of(grid)
    [selection] = select("cdpruner", context, [samples * int(k)], seed=0, params={})
    assert selection.trace == {"conditional": 1.0, "picked": samples * float(k)}
    assert selection.kept.tolist() == masks.ravel().nonzero()[0].tolist()
    assert (selection.kept.reshape(samples, -1) % n).tolist() == GOLDEN[stem + "sorted"].tolist()
    relevant = question_relevance(context)
    assert relevant is not None
    for tokens, weight, order in zip(context.projected.chunk(samples), relevant.chunk(samples), orders, strict=True):
        assert greedy_map(conditional_kernel(tokens, weight), int(k)).tolist() == order.tolist()


@pytest.mark.parametrize("grid", sorted({name.split("_")[1] for name in GOLDEN.names if name.startswith("in_")}))
def test_one_run_serves_every_count(grid: str) -> None:
    context = context_of(grid)
    orders = [name for name in GOLDEN.names if name.startswith(f"out_{grid}_k") and name.endswith("_sorted")]
    ks = [GOLDEN[name].size for name in orders]
    size = GOLDEN[orders[0]].shape[0]
    for selection, name in zip(cdpruner(context, ks, seed=0), orders, strict=True):
        rows = selection.kept.reshape(size, -1) % (len(context) // size)
        assert rows.tolist() == GOLDEN[name].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
