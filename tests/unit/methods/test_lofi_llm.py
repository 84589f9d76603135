"""LoFi inside the LLM is LoFi on the hidden states of the visual tokens."""

import pytest
import torch

from lofi.methods.registry import check_params
from lofi.methods.select import Selection, VisualContext, select, select_stage
from tests.golden.decoding import view

HIDDEN = torch.randn(30, 12, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 31)[:, None]


def run(k: int, seed: int = 0, image_key: int = 7, **params: object) -> Selection:
    seen = view(30, 4, 20, hidden=HIDDEN, image_key=image_key)
    return select_stage("lofi_llm", seen, k, seed=seed, params=check_params("lofi_llm", params))


@pytest.mark.parametrize("score", ["leverage", "ridge", "energy", "residual"])
def test_it_selects_what_lofi_selects_on_the_same_matrix(score: str) -> None:
    tokens = HIDDEN[4:24]
    context = VisualContext(tokens, tokens, (4, 5), image_key=7)
    params = {"score": score, "rank": "fixed:3", "ridge": 0.5}
    [expected] = select("lofi", context, [8], seed=0, params=check_params("lofi", params))
    found = run(8, **params)
    assert found.kept.tolist() == expected.kept.tolist()
    assert found.trace == expected.trace
    assert found.trace.keys() == {"rank", "kept_mass", "reconstruction_error"}


def test_the_text_has_no_say() -> None:
    loud = HIDDEN.clone()
    loud[:4], loud[24:] = 1e3, -1e3
    seen = view(30, 4, 20, hidden=loud)
    assert select_stage("lofi_llm", seen, 8, seed=0, params={}).kept.tolist() == run(8).kept.tolist()


def test_sampling_is_keyed_by_image_and_seed_and_not_the_draw_of_lofi() -> None:
    draws = {
        (image, seed): tuple(run(8, seed, image, score="sampled").kept.tolist()) for image in (1, 2) for seed in (0, 1)
    }
    assert len(set(draws.values())) == 4
    assert draws[1, 0] == tuple(run(8, 0, 1, score="sampled").kept.tolist())
    tokens = HIDDEN[4:24]
    [outside] = select(
        "lofi",
        VisualContext(tokens, tokens, (4, 5), image_key=1),
        [8],
        seed=0,
        params=check_params("lofi", {"score": "sampled"}),
    )
    assert draws[1, 0] != tuple(outside.kept.tolist())
