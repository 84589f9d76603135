"""VScan's second stage keeps exactly the tokens that both of the authors' forms keep."""

import re

import pytest
import torch

from lofi.methods.decoder import DecoderView
from lofi.methods.registry import METHODS
from lofi.methods.select import select_stage

from .decoding import StoredLayer, going_on, rotary_of, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "vscan_stage2")
LAYER = 16


def seen_by(form: str) -> DecoderView:
    """The prompt of the form q (Qwen2.5) or l (LLaVA)."""
    hidden, wq, wk, norm = (GOLDEN.tensor(f"{form}_{name}") for name in ("hidden_in", "wq", "wk", "norm_weight"))
    start, n, t, width = (int(GOLDEN[name]) for name in ("sys_len", "n_image", "n_text", "head_dim"))
    assert len(hidden) == start + n + t
    layer = StoredLayer(LAYER, wq, wk, norm, width=width, eps=float(GOLDEN["rms_eps"]))
    attention = layer.attention(hidden, rotary_of(torch.arange(len(hidden)), width))
    assert attention.queries(LAYER).shape[0] == int(GOLDEN["n_heads"])
    return view(len(hidden), start, n, layer=LAYER, hidden=hidden, attention=attention)


@pytest.mark.parametrize("case", [name for name in GOLDEN.names if re.fullmatch(r"q_r\d+_n_keep", name)])
def test_without_rotary_embedding_for_qwen(case: str) -> None:
    seen, stem = seen_by("q"), case.removesuffix("n_keep")
    assert len(GOLDEN["q_wk"]) == int(GOLDEN["n_kv_heads"]) * int(GOLDEN["head_dim"])
    k = int(GOLDEN[case])
    assert k == int(len(seen.visual) * int(re.findall(r"\d+", case)[0]) / 1000)
    selection = select_stage("vscan_llm", seen, k, seed=0, params={"rotary": "dropped", "layer": LAYER})
    assert selection.kept.tolist() == GOLDEN[stem + "kept_visual_rel"].tolist()
    for before, after in zip(GOLDEN.tensor("q_position_ids_in"), GOLDEN[stem + "position_ids_out"], strict=True):
        assert going_on(seen, selection, "kept", before)[1] == after.tolist()


def test_with_rotary_embedding_for_llava() -> None:
    seen = seen_by("l")
    selection = select_stage("vscan_llm", seen, int(GOLDEN["l_n_keep"]), seed=0, params={"layer": LAYER})
    kept, positions = going_on(seen, selection, METHODS["vscan_llm"].positions)
    assert kept == GOLDEN["l_kept_rel"].tolist()
    assert positions == GOLDEN["l_position_ids_out"].tolist()


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN)
