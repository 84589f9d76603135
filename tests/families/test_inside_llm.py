"""Pruning inside the LLM, in every family, against a loop by hand over the decoder's layers that hides columns."""

from typing import Any

import pytest
import torch
from torch import Tensor

import lofi
from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView
from lofi.methods.registry import check_params
from lofi.methods.schedule import Stage, Stages
from lofi.methods.select import select_stage
from lofi.models.adapter import Adapter
from lofi.models.families import FAMILIES
from lofi.models.hooked import PrunePromptsInDecoder
from tests.families.reference import (
    PROMPTS,
    answered,
    answers,
    batch_of,
    family,
    greedy,
    layered_logits,
    masked_logits,
    policies,
    read,
    stops,
)
from tests.families.tiny import FAMILY_NAMES, tiny

EACH = pytest.mark.parametrize("name", FAMILY_NAMES)
EACH_POLICY = pytest.mark.parametrize(
    ("name", "positions"), [(name, positions) for name in FAMILY_NAMES for positions in policies(name)]
)
METHODS = ("fastv", "pyramiddrop", "sparsevlm", "dart")
STEPS = 5


def one_stage(n: int) -> Stages:
    return (Stage(2, n // 2),)


def two_stages(n: int) -> Stages:
    return Stage(1, 2 * n // 3), Stage(3, n // 4)


class Recorder:
    """A method's choices for each prompt of a batch, with where the visual tokens stood."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.made: dict[int, dict[int, tuple[Selection, Tensor]]] = {row: {} for row in range(len(PROMPTS))}

    def __call__(self, row: int, view: DecoderView, k: int) -> Selection:
        selection = select_stage(self.method, view, k, seed=3, params=check_params(self.method, {}))
        assert selection.count == k
        self.made[row][view.layer] = (selection, view.visual.clone())
        return selection


def adapter_of(name: str) -> Adapter:
    return Adapter(*family(name), FAMILIES[name])


def pruning(name: str, recorder: Recorder, plan: Any, positions: str) -> PrunePromptsInDecoder:
    return PrunePromptsInDecoder(
        adapter_of(name), plan, recorder, positions=positions, key=lambda _prompts, row: 5 + row
    )


@EACH_POLICY
@pytest.mark.parametrize("plan", [one_stage, two_stages])
@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_logits_equal_a_loop_that_hides_columns(name: str, positions: str, plan: Any, method: str) -> None:
    model, batch, recorder = family(name)[0], batch_of(name), Recorder(method)
    full = model(**batch).logits[:, -1]
    with pruning(name, recorder, plan, positions) as hook:
        logits = model(**batch).logits[:, -1]
    for row, made in recorder.made.items():
        prompt = read(name, batch_of(name, PROMPTS[row : row + 1]))
        n = len(hook.pruner.read[0].visual[row])
        assert list(made) == [stage.layer for stage in plan(n)]
        assert torch.allclose(logits[row], layered_logits(name, prompt, made, positions), atol=1e-4)
        assert (logits[row] - full[row]).abs().max() > 0.01, "it is not the full model"
        counts = [len(hook.pruner.read[layer].visual[row]) for layer in range(len(hook.pruner.read))]
        assert counts == [next((s.count for s in reversed(plan(n)) if s.layer <= i), n) for i in range(len(counts))]


@EACH
@torch.inference_mode()
def test_the_loop_by_hand_without_stages_is_the_model(name: str) -> None:
    logits = family(name)[0](**batch_of(name)).logits[:, -1]
    for row in range(len(PROMPTS)):
        prompt = read(name, batch_of(name, PROMPTS[row : row + 1]))
        assert torch.allclose(layered_logits(name, prompt, {}, "kept"), logits[row], atol=1e-4)
        assert torch.allclose(masked_logits(name, prompt), logits[row], atol=1e-4)


@EACH_POLICY
@pytest.mark.parametrize("method", ["fastv", "sparsevlm"])
@torch.inference_mode()
def test_generate_equals_recomputation_without_a_cache(name: str, positions: str, method: str) -> None:
    model, recorder = family(name)[0], Recorder(method)
    with pruning(name, recorder, two_stages, positions):
        tokens = answers(model, batch_of(name), STEPS)
    for row, made in recorder.made.items():
        prompt = read(name, batch_of(name, PROMPTS[row : row + 1]))
        for token in tokens[row]:
            assert greedy(layered_logits(name, prompt, made, positions), stops(model)) == token
            prompt = answered(name, prompt, token)


@EACH
@torch.inference_mode()
def test_what_fastv_and_pyramiddrop_keep_is_what_eager_attention_says(name: str) -> None:
    model, eager = family(name)[0], tiny(name)[0]
    eager.set_attn_implementation("eager")
    for method, layer in (("fastv", 1), ("pyramiddrop", 2)):
        for row in (0, 2):
            single, recorder = batch_of(name, PROMPTS[row : row + 1]), Recorder(method)
            with pruning(name, recorder, one_stage, "kept"):
                model(**single)
            maps = eager(**single, output_attentions=True).attentions
            selection, visual = recorder.made[0][2]
            scores = maps[layer][0, :, -1, visual].mean(0)
            best = scores.topk(len(selection.kept)).indices.sort().values
            assert torch.equal(selection.kept, best)


@EACH
@torch.inference_mode()
def test_the_public_call_prunes_at_the_schedules_layers(name: str) -> None:
    model, depth = family(name)[0], len(adapter_of(name).layers)
    with lofi.reduce(model, "fastv", 0.25, budget="tokens") as trace:
        model(**batch_of(name))
    for pruned in trace.prompts:
        assert pruned.per_layer == (pruned.n, pruned.n, *[round(pruned.n / 4)] * (depth - 2))
        (kept,) = pruned.kept
        assert len(kept) == round(pruned.n / 4)
