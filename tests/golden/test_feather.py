"""FEATHER scores and keeps exactly what the authors' code does, at its stage with the grid and at the one without."""

import numpy as np
import torch
from torch import Tensor

from lofi.methods.context import Selection, best_first
from lofi.methods.decoder import DecoderView
from lofi.methods.feather import attended, lattice, scores_without_positions, united
from lofi.methods.registry import METHODS, check_params
from lofi.methods.schedule import Staged
from lofi.methods.select import select_stage

from .decoding import StoredLayer, attention_of_weights, rotary_of, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "feather")
START, N, TEXT = (int(GOLDEN[name]) for name in ("image_offset", "n_image", "n_text"))
FIRST, SECOND = GOLDEN["layers"].tolist()
LEFT = 1 - float(GOLDEN["ratio_removed"])
STRIDE = int(GOLDEN["stride"])


def seen_with(scores: Tensor, layer: int) -> DecoderView:
    """A prompt whose visual tokens have scores in these proportions, some columns of text around them."""
    v = len(scores)
    row = torch.zeros(1, START + v + TEXT, dtype=torch.float64)
    row[0, START : START + v] = scores
    attention = attention_of_weights(layer - 1, row, rotary=False)
    return view(row.shape[1], START, v, n=N, layer=layer, attention=attention)


def reduced(seen: DecoderView, k: int) -> Selection:
    return select_stage("feather", seen, k, seed=0, params=check_params("feather", {"stride": STRIDE}))


def test_layers_and_stride_are_the_authors() -> None:
    schedule = METHODS["feather"].schedule
    assert isinstance(schedule, Staged)
    assert schedule.layers == (FIRST, SECOND)
    assert check_params("feather", {})["stride"] == STRIDE


def test_scores_equal_the_authors() -> None:
    hidden, wq, wk, norm = (GOLDEN.tensor(f"w_{name}") for name in ("hidden_in", "wq", "wk", "norm_weight"))
    width, eps = int(GOLDEN["head_dim"]), float(GOLDEN["rms_eps"])
    layer = StoredLayer(FIRST - 1, wq, wk, norm, width=width, eps=eps)
    attention = layer.attention(hidden, rotary_of(torch.arange(len(hidden)), width))
    assert attention.queries(FIRST - 1).shape[0] == int(GOLDEN["n_heads"])
    seen = view(len(hidden), START, N, layer=FIRST, hidden=hidden, attention=attention)
    assert len(seen.text) == TEXT
    scores = scores_without_positions(seen, FIRST - 1)
    np.testing.assert_allclose(scores.numpy(), GOLDEN["w_scores"], rtol=1e-5, atol=1e-6)


def test_the_stage_with_the_grid_keeps_what_the_authors_keep() -> None:
    scores, expected = GOLDEN.tensor("s0_scores"), GOLDEN["s0_kept_visual_rel"].tolist()
    side = round(N**0.5)
    ranking, on_grid = best_first(scores), lattice((side, side), STRIDE)
    t = int(N * LEFT)
    assert united(ranking, on_grid, t).tolist() == expected
    assert attended(ranking, on_grid, len(expected)) <= t
    assert reduced(seen_with(scores, FIRST), len(expected)).kept.tolist() == expected


def test_the_stage_without_the_grid_keeps_what_the_authors_keep() -> None:
    scores = GOLDEN.tensor("s1_scores")
    kept = reduced(seen_with(scores, SECOND), int(len(scores) * LEFT**2)).kept
    assert kept.tolist() == GOLDEN["s1_kept_visual_rel"].tolist()
    assert GOLDEN["s0_kept_visual_rel"][kept].tolist() == GOLDEN["s1_kept_original"].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
