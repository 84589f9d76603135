"""FitPrune's scores, deletions and tables equal those of the authors' code."""

import re

import pytest
import torch
from torch import Tensor

from lofi.methods.decoder import DecoderView
from lofi.methods.fitprune import cross_and_self, delete_at, spare
from lofi.methods.fitprune_table import DELETED, TABLE_TOKENS, counts_of, table_counts
from lofi.methods.select import select_stage

from .decoding import attention_of_weights, going_on, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "fitprune")


def stage_view() -> DecoderView:
    weights = GOLDEN.tensor("attn")
    start, n = int(GOLDEN["sys_len"]), int(GOLDEN["n_image"])
    return view(weights.shape[-1], start, n, layer=2, attention=attention_of_weights(1, weights))


def fitted_scores() -> dict[str, tuple[Tensor, float]]:
    """Per list, the scores that the fit sorts and their total: the cross scores are means over the text there."""
    seen = stage_view()
    cross, own = cross_and_self(seen)
    lists = {"cross": cross / len(seen.text), "self": own}
    return {name: (scores, float(GOLDEN[f"weightsum_{name}"])) for name, scores in lists.items()}


def test_scores_equal_the_authors() -> None:
    seen = stage_view()
    assert len(seen.text) == int(GOLDEN["n_text"])
    for name, scores in zip(("cross", "self"), cross_and_self(seen), strict=True):
        torch.testing.assert_close(scores.float(), GOLDEN.tensor(name), atol=1e-5, rtol=0)
    for scores, total in fitted_scores().values():
        assert float(scores.sum()) == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"del\d+_keep", name)])
def test_indices_equal_the_authors(case: str) -> None:
    seen = stage_view()
    k = len(seen.visual) - int(case[len("del") : -len("_keep")])
    selection = select_stage("fitprune", seen, k, seed=0, params={})
    assert going_on(seen, selection)[0] == GOLDEN[case].tolist()


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if name.endswith("_deleted_rel")])
def test_the_fit_deletes_what_the_authors_delete(case: str) -> None:
    stem = case.removesuffix("_deleted_rel")
    alpha = int(stem.removeprefix("alpha")) / 100
    scores = fitted_scores()
    for name, (values, total) in scores.items():
        assert spare(alpha, values, total) == int(GOLDEN[f"{stem}_ndel_{name}"])
    (cross, total_cross), (own, total_own) = scores["cross"], scores["self"]
    assert delete_at(alpha, cross, own, total_cross, total_own).tolist() == GOLDEN[case].tolist()


def test_the_tables_are_the_authors() -> None:
    rows = zip(GOLDEN["scheme_ratio"].tolist(), GOLDEN["scheme_deleted_per_layer"].tolist(), strict=True)
    assert {ratio: tuple(deleted) for ratio, deleted in rows} == DELETED


MEANS = {10: (541, 539, 510), 20: (493, 488, 427), 30: (424, 415, 312), 40: (362, 352, 240), 50: (302, 289, 173)}
MEANS |= {60: (245, 231, 127), 70: (188, 173, 88), 80: (131, 115, 62), 90: (73, 56, 37)}


@pytest.mark.parametrize("ratio", MEANS)
def test_the_tables_have_the_known_means(ratio: int) -> None:
    entering = counts_of(DELETED[ratio], TABLE_TOKENS)
    left = [count - gone for count, gone in zip(entering, DELETED[ratio], strict=True)]
    means = [round(sum(counts) / len(counts)) for counts in (entering, left)]
    assert (*means, left[-1]) == MEANS[ratio]
    assert table_counts(TABLE_TOKENS, len(entering), sum(entering) / len(entering)) == entering


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
