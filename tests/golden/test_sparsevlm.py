"""SparseVLM's raters, scores, kept tokens and merged states equal those of the authors' code, stage by stage."""

import pytest
import torch
from torch import Tensor

from lofi.methods import sparsevlm
from lofi.methods.clusters import cluster_means, density_peaks
from lofi.methods.decoder import DecoderView
from lofi.methods.registry import get_reducer
from lofi.methods.schedule import Staged
from lofi.methods.select import select_stage

from .decoding import attention_of_weights, going_on, view
from .vectors import Vectors, check_every_array

GOLDEN = Vectors("llm", "sparsevlm_v1")
CLUSTERS = Vectors("llm", "sparsevlm_cluster")
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
    )


def test_raters_equal_the_authors() -> None:
    seen = stage_view(0)
    assert len(seen.text) == int(GOLDEN["n_text"])
    fit = sparsevlm.fit_to_image(seen.entry_visual, seen.entry_text)
    torch.testing.assert_close(fit, GOLDEN.tensor("rater_scores"), atol=1e-5, rtol=0)
    for stage in STAGES:
        seen = stage_view(stage)
        assert (sparsevlm.raters(seen) - seen.text[0]).tolist() == GOLDEN["rater_idx_in_text"].tolist()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_equals_the_authors(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, v = stage_view(stage), int(GOLDEN[f"s{stage}_n_visual_in"])
    scores = sparsevlm.rated(seen, sparsevlm.raters(seen))
    torch.testing.assert_close(scores.float(), GOLDEN.tensor(f"s{stage}_relation"), atol=1e-5, rtol=0)

    noise = GOLDEN.tensor(f"s{stage}_density_noise")

    def stored(image_key: int, n: int, **_: object) -> Tensor:
        assert n == len(noise)
        return noise

    monkeypatch.setattr(sparsevlm, "uniforms", stored)
    k = int(GOLDEN[f"s{stage}_n_visual_out"])
    selection = select_stage("sparsevlm", seen, k, seed=0, params={})
    kept = GOLDEN[f"s{stage}_kept_visual_rel"].tolist()
    assert selection.rows[: len(kept)].tolist() == kept
    asked = min(int(GOLDEN["schedule"][stage]), v - 1)
    assert sparsevlm.portions(v, k) == (asked, int(GOLDEN[f"s{stage}_n_merged"]))

    assert selection.embeds is not None
    after = torch.cat([seen.hidden[: seen.visual[0]], selection.embeds, seen.hidden[seen.text]])
    torch.testing.assert_close(after, GOLDEN.tensor(f"s{stage}_hidden_out"), atol=1e-5, rtol=0)
    positions_in = GOLDEN.tensor(f"s{stage}_position_ids_in")
    assert torch.equal(positions_in.long(), torch.arange(len(seen.hidden)))
    _, positions = going_on(seen, selection, get_reducer("sparsevlm").positions, positions_in)
    assert positions == GOLDEN[f"s{stage}_position_ids_out"].tolist()


def test_the_stages_are_the_authors_layers() -> None:
    schedule = get_reducer("sparsevlm").schedule
    assert isinstance(schedule, Staged)
    assert schedule.layers == tuple(GOLDEN["prune_layers"] + 1)


@pytest.mark.parametrize("case", [name.removesuffix("_x") for name in CLUSTERS.names if name.endswith("_x")])
def test_clusters_equal_the_authors(case: str) -> None:
    tokens, count = CLUSTERS.tensor(f"{case}_x"), int(CLUSTERS[f"{case}_k"])
    _, labels = density_peaks(tokens, count, CLUSTERS.tensor(f"{case}_noise"))
    means = cluster_means(tokens, labels, count)
    torch.testing.assert_close(means, CLUSTERS.tensor(f"{case}_merged"), atol=1e-5, rtol=0)


def test_every_array_is_read_or_listed() -> None:
    check_every_array(
        GOLDEN,
        {
            "head_dim": "the stored attention is past its softmax: no head's width enters",
            "retain_setting": "the authors' name of the schedule, for information",
        },
    )
    check_every_array(CLUSTERS)
