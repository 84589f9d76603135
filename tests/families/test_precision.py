"""Half precision and other attention kernels, in every family."""

from functools import cache
from typing import Any

import pytest
import torch

import lofi
from lofi.cell import kept_count
from tests.families.reference import PROMPTS, answers, batch_of, family
from tests.families.tiny import FAMILY_NAMES, tiny

EACH = pytest.mark.parametrize("name", FAMILY_NAMES)
METHODS = ("random", "fastervlm", "divprune", "visionzip", "lofi", "fastv", "sparsevlm")
STEPS = 4


@cache
def cast(name: str, dtype: torch.dtype) -> Any:
    return tiny(name)[0].to(dtype)


@cache
def eager(name: str) -> Any:
    model = tiny(name)[0]
    model.set_attn_implementation("eager")
    return model


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_precision_keeps_exact_counts_and_finite_logits(name: str, dtype: torch.dtype) -> None:
    model, batch = cast(name, dtype), batch_of(name).to(dtype)
    plain = model(**batch).logits
    for method in METHODS:
        inside = method in ("fastv", "sparsevlm")
        with lofi.reduce(model, method, 0.25, **({"budget": "tokens"} if inside else {})) as trace:
            logits = model(**batch).logits
            assert answers(model, batch, STEPS).shape == (len(PROMPTS), STEPS)
        assert logits.dtype == dtype
        assert bool(torch.isfinite(logits).all())
        assert not torch.equal(logits[:, -1], plain[:, -1])
        for row in (0, 2):
            pruned = trace.prompts[row]
            assert pruned.per_layer[-1] == kept_count("0.2500", pruned.n)
        if not inside and method != "visionzip":
            assert [len(kept) for pruned in trace.prompts[:3] for kept in pruned.kept] == [
                len(kept) for pruned in trace.prompts[3:] for kept in pruned.kept
            ], "forward and generate keep the same"
    with lofi.reduce(model, "random", 1.0):
        assert torch.equal(model(**batch).logits, plain)


@EACH
@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_eager_attention_equals_sdpa(name: str, method: str) -> None:
    model, other, batch = family(name)[0], eager(name), batch_of(name)
    with lofi.reduce(model, method, 0.75) as trace:
        logits, tokens = model(**batch).logits[:, -1], answers(model, batch, STEPS)
    with lofi.reduce(other, method, 0.75) as again:
        assert torch.allclose(other(**batch).logits[:, -1], logits, atol=1e-4)
        assert torch.equal(answers(other, batch, STEPS), tokens)
    assert [pruned.per_layer for pruned in again.prompts] == [pruned.per_layer for pruned in trace.prompts]
    for one, two in zip(trace.prompts, again.prompts, strict=True):
        for kept, same in zip(one.kept or (), two.kept or (), strict=True):
            assert torch.equal(kept, same)
    plain = other(**batch).logits
    with lofi.reduce(other, method, 1.0):
        assert torch.equal(other(**batch).logits, plain)
