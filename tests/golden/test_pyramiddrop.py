"""PyramidDrop keeps exactly the tokens that the authors' code keeps, stage after stage."""

import pytest

from lofi.methods.registry import METHODS
from lofi.methods.schedule import Staged
from lofi.methods.select import select_stage

from .decoding import StoredLayer, going_on, rotary_of, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "pyramiddrop")
LAYERS, SHARES = GOLDEN["layer_list"].tolist(), GOLDEN["ratios"].tolist()[1:]


def test_layers_and_shares_are_the_authors() -> None:
    assert METHODS["pyramiddrop"].schedule == Staged(tuple(LAYERS), tuple(SHARES))


@pytest.mark.parametrize("stage", range(len(LAYERS)))
def test_every_stage_keeps_what_the_authors_keep(stage: int) -> None:
    start, n, t = (int(GOLDEN[name]) for name in ("sys_len", "n_image", "n_text"))
    hidden, wq, wk, norm = (GOLDEN.tensor(f"s{stage}_{name}") for name in ("hidden_in", "wq", "wk", "norm_weight"))
    positions = GOLDEN.tensor(f"s{stage}_position_ids_in")
    width, base, eps = int(GOLDEN["head_dim"]), float(GOLDEN["rope_theta"]), float(GOLDEN["rms_eps"])
    rotary = rotary_of(positions, width, base)
    layer = StoredLayer(LAYERS[stage], wq, wk, norm, width=width, eps=eps, base=base)
    attention = layer.attention(hidden, rotary)
    assert attention.queries(LAYERS[stage]).shape[0] == int(GOLDEN["n_heads"])
    v = int(n * (1.0, *SHARES)[stage])
    assert len(hidden) == start + v + t
    seen = view(len(hidden), start, v, layer=LAYERS[stage], n=n, hidden=hidden, attention=attention, rotary=rotary)
    selection = select_stage("pyramiddrop", seen, int(n * SHARES[stage]), seed=0, params={})
    kept, after = going_on(seen, selection, METHODS["pyramiddrop"].positions, positions)
    assert kept == GOLDEN[f"s{stage}_kept_rel"].tolist()
    assert after == GOLDEN[f"s{stage}_position_ids_out"].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
