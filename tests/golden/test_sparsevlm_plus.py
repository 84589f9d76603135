"""SparseVLM+ (version 2) keeps exactly the tokens that the authors' code keeps, stage by stage."""

import pytest
import torch

from lofi.methods import sparsevlm
from lofi.methods.decoder import DecoderView
from lofi.methods.registry import check_params, get_reducer
from lofi.methods.schedule import Staged
from lofi.methods.select import select_stage

from .decoding import attention_of_weights, going_on, rotary_of, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "sparsevlm_v2")
STAGES = range(sum(name.endswith("_attn") for name in GOLDEN.names))


def stage_view(stage: int) -> DecoderView:
    embeds, hidden, weights = (GOLDEN.tensor(name) for name in ("input_embeds", f"s{stage}_hidden", f"s{stage}_attn"))
    start, n, layer = int(GOLDEN["sys_len"]), int(GOLDEN["n_image"]), int(GOLDEN["prune_layers"][stage])
    assert len(weights) == int(GOLDEN["n_heads"])
    return view(
        len(hidden),
        start,
        int(GOLDEN[f"s{stage}_n_visual_in"]),
        layer=layer + 1,
        n=n,
        hidden=hidden,
        entry_visual=embeds[start : start + n],
        entry_text=embeds[start + n :],
        attention=attention_of_weights(layer, weights),
        rotary=rotary_of(GOLDEN.tensor(f"s{stage}_position_ids_in"), int(GOLDEN["head_dim"])),
    )


def test_raters_equal_the_authors() -> None:
    seen = stage_view(0)
    assert len(seen.text) == int(GOLDEN["n_text"])
    fit = sparsevlm.fit_to_image(seen.entry_visual, seen.entry_text)
    torch.testing.assert_close(fit, GOLDEN.tensor("rater_scores"), atol=1e-5, rtol=0)
    assert (sparsevlm.raters(seen) - seen.text[0]).tolist() == GOLDEN["rater_idx_in_text"].tolist()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_equals_the_authors(stage: int) -> None:
    seen, params = stage_view(stage), check_params("sparsevlm_plus", {})
    assert params["heads"] < len(GOLDEN[f"s{stage}_attn"]), "the choice of heads is put to the test"
    scores = sparsevlm.rated_by_best_heads(seen, sparsevlm.raters(seen), params["heads"])
    torch.testing.assert_close(scores.float(), GOLDEN.tensor(f"s{stage}_relation"), atol=1e-5, rtol=1e-5)

    k = min(int(GOLDEN["schedule"][stage]), int(GOLDEN[f"s{stage}_n_visual_in"]) - 1)
    assert k == int(GOLDEN[f"s{stage}_n_visual_out"])
    selection = select_stage("sparsevlm_plus", seen, k, seed=0, params=params)
    assert selection.kept.tolist() == GOLDEN[f"s{stage}_kept_visual_rel"].tolist()
    positions_in = GOLDEN.tensor(f"s{stage}_position_ids_in")
    going, positions = going_on(seen, selection, get_reducer("sparsevlm_plus").positions, positions_in)
    assert torch.equal(seen.hidden[going], GOLDEN.tensor(f"s{stage}_hidden_out"))
    assert positions == GOLDEN[f"s{stage}_position_ids_out"].tolist()


def test_the_stages_are_the_authors_layers() -> None:
    schedule = get_reducer("sparsevlm_plus").schedule
    assert isinstance(schedule, Staged)
    assert schedule.layers == tuple(GOLDEN["prune_layers"] + 1)


def test_every_array_is_read_or_listed() -> None:
    check_every_array(GOLDEN, {"retain_setting": "the authors' name of the schedule, for information"})
