"""Pruning before the LLM, in every family, against the unpruned model with the dropped columns hidden by a mask."""

from typing import Any

import pytest
import torch
from torch import Tensor

import lofi
from lofi import reduction
from lofi.methods.context import Selection
from tests.families.reference import (
    PROMPTS,
    Entering,
    Read,
    alive,
    among,
    answered,
    answers,
    batch_of,
    columns_of,
    family,
    greedy,
    masked_logits,
    policies,
    read,
    stops,
)
from tests.families.tiny import FAMILY_NAMES

EACH = pytest.mark.parametrize("name", FAMILY_NAMES)
EACH_POLICY = pytest.mark.parametrize(
    ("name", "positions"), [(name, positions) for name in FAMILY_NAMES for positions in policies(name)]
)
STEPS = 6


def expected(name: str, prompt: Read, columns: Tensor, positions: str) -> Tensor:
    """(v,) logits of what is left of a prompt, and of what was answered behind it."""
    if positions == "kept":
        return masked_logits(name, prompt, alive(prompt, columns))
    return masked_logits(name, prompt.take(columns))


def left_of(name: str, trace: Any, entering: Entering) -> list[tuple[Read, Tensor]]:
    """Of each prompt what the model reads without lofi, and the columns of it that entered the decoder under lofi."""
    found = []
    for row, pruned in enumerate(trace.prompts[-len(PROMPTS) :]):
        prompt = read(name, batch_of(name, PROMPTS[row : row + 1]))
        kept = sum(map(len, pruned.kept))
        assert set(pruned.per_layer) == {kept}
        assert kept < pruned.n <= int(prompt.visual.sum())
        if len(pruned.kept) == 1:
            assert kept == round(pruned.n / 2)
        found.append((prompt, columns_of(prompt, entering.row(row, len(prompt) - pruned.n + kept))))
    return found


@EACH
@pytest.mark.parametrize("method", ["random", "tome", "lofi", "fastv", "sparsevlm"])
@torch.inference_mode()
def test_keep_1_is_the_plain_model_bit_for_bit(name: str, method: str) -> None:
    model, batch = family(name)[0], batch_of(name)
    logits, tokens = model(**batch).logits, answers(model, batch, STEPS)
    with lofi.reduce(model, method, 1.0) as trace:
        assert torch.equal(model(**batch).logits, logits)
        assert torch.equal(answers(model, batch, STEPS), tokens)
    assert [set(pruned.per_layer) for pruned in trace.prompts] == 2 * [{pruned.n} for pruned in trace.prompts[:3]]
    assert torch.equal(model(**batch).logits, logits), "and after the block"


@EACH_POLICY
@pytest.mark.parametrize("method", ["random", "fastervlm"])
@torch.inference_mode()
def test_half_the_tokens_equal_hidden_columns(name: str, positions: str, method: str) -> None:
    model, batch = family(name)[0], batch_of(name)
    full = model(**batch).logits[:, -1]
    with lofi.reduce(model, method, 0.5, positions=positions) as trace, Entering(model) as entering:
        logits = model(**batch).logits[:, -1]
    for row, (prompt, columns) in enumerate(left_of(name, trace, entering)):
        assert torch.allclose(logits[row], expected(name, prompt, columns, positions), atol=1e-4)
        assert (logits[row] - full[row]).abs().max() > 0.1, "it is not the full model"
        assert torch.allclose(full[row], masked_logits(name, prompt), atol=1e-4), "which the reference can run, too"


@EACH_POLICY
@torch.inference_mode()
def test_generate_equals_recomputation_without_a_cache(name: str, positions: str) -> None:
    model, batch = family(name)[0], batch_of(name)
    with lofi.reduce(model, "random", 0.5, positions=positions) as trace, Entering(model) as entering:
        tokens = answers(model, batch, STEPS)
    for row, (prompt, columns) in enumerate(left_of(name, trace, entering)):
        for token in tokens[row]:
            assert greedy(expected(name, prompt, columns, positions), stops(model)) == token
            columns = torch.cat([columns, torch.tensor([len(prompt)])])
            prompt = answered(name, prompt, token)


class Selections:
    """What the method gave for each image, in the order in which it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Selection] = []
        self._select = reduction.select
        monkeypatch.setattr(reduction, "select", self)

    def __call__(self, *args: Any, **options: Any) -> list[Selection]:
        found = self._select(*args, **options)
        self.made += found
        return found


def is_line_end(model: Any, rows: Tensor) -> Tensor:
    """(k,) bool: rows that stand among the placeholders and are no token of the picture."""
    line_end = getattr(model.model, "image_newline", None)
    return torch.zeros(len(rows), dtype=torch.bool) if line_end is None else torch.isclose(rows, line_end).all(1)


@EACH
@pytest.mark.parametrize("method", ["tome", "visionzip", "prumerge"])
@torch.inference_mode()
def test_merged_rows_are_the_methods_own_and_are_read_in_their_order(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = family(name)[0], batch_of(name)
    given = Selections(monkeypatch)
    with lofi.reduce(model, method, "auto" if method == "prumerge" else 0.5) as trace, Entering(model) as entering:
        logits = model(**batch).logits[:, -1]
    selections = iter(given.made)
    for row, (shown, _) in enumerate(PROMPTS):
        prompt, pruned = read(name, batch_of(name, PROMPTS[row : row + 1])), trace.prompts[row]
        own = [next(selections) for _ in shown]
        merged = torch.cat([selection.embeds for selection in own if selection.embeds is not None])
        assert pruned.kept is None
        assert set(pruned.per_layer) == {len(merged)}
        entered = entering.row(row, len(prompt) - pruned.n + len(merged))
        text = prompt.embeds[0, ~prompt.visual]
        is_text = among(entered, text)
        assert torch.allclose(entered[is_text], text), "the text is read as it was"
        rows = entered[~is_text]
        assert torch.equal(rows[~is_line_end(model, rows)], merged), "and the rows as the method gave them"
        if "reindexed" in policies(name):
            whole = Read(
                entered[None],
                torch.arange(len(entered))[None],
                ~is_text,
                _blocks(~is_text) if (prompt.block >= 0).any() else torch.full((len(entered),), -1),
                (),
            )
            assert torch.allclose(logits[row], masked_logits(name, whole), atol=1e-4)
        else:  # pictures in raster order: the place of a row is a column of its picture
            assert torch.allclose(logits[row], masked_logits(name, *written(prompt, own)), atol=1e-4)


def _blocks(visual: Tensor) -> Tensor:
    """(k,) the run of visual columns that each is in, else -1."""
    starts = visual & ~torch.nn.functional.pad(visual, (1, 0))[:-1]
    return torch.where(visual, starts.cumsum(0) - 1, -1)


def written(prompt: Read, selections: list[Selection]) -> tuple[Read, Tensor]:
    """The whole prompt with merged rows written over the columns of their places, and which columns are left."""
    left, embeds, positions = ~prompt.visual, prompt.embeds.clone(), prompt.positions.clone()
    deep = [level.clone() for level in prompt.deep]
    runs = _blocks(prompt.visual)
    for number, selection in enumerate(selections):
        own = (runs == number).nonzero()[:, 0][selection.rows]
        slots = own.sort().values
        assert selection.embeds is not None
        embeds[0, slots] = selection.embeds
        positions[..., slots] = prompt.positions[..., own]
        for level, before in zip(deep, prompt.deep, strict=True):
            level[0, slots] = before[0, own]
        left[slots] = True
    return Read(embeds, positions, prompt.visual, prompt.block, tuple(deep)), left


@EACH
@pytest.mark.parametrize("method", ["random", "prumerge", "fastv", "dart", "sparsevlm", "lofi_llm"])
@torch.inference_mode()
def test_a_row_of_a_batch_equals_the_single_run(name: str, method: str) -> None:
    model, batch = family(name)[0], batch_of(name)
    keep = {"random": 0.3, "prumerge": "auto"}.get(method, 0.75)
    with lofi.reduce(model, method, keep) as together:
        logits, tokens = model(**batch).logits[:, -1], answers(model, batch, STEPS)
    for row in range(len(PROMPTS)):
        single = batch_of(name, PROMPTS[row : row + 1])
        with lofi.reduce(model, method, keep) as alone:
            assert torch.allclose(model(**single).logits[0, -1], logits[row], atol=1e-4)
            assert torch.equal(answers(model, single, STEPS)[0], tokens[row])
        assert alone.per_layer == together.prompts[row].per_layer
        for one, other in zip(alone.kept or (), together.prompts[row].kept or (), strict=True):
            assert torch.equal(one, other)


@EACH
@pytest.mark.parametrize("method", ["random", "fastv"])
@torch.inference_mode()
def test_a_row_without_a_picture_is_read_as_it_is(name: str, method: str) -> None:
    model, text = family(name)[0], ((), "How many?")
    batch, single = batch_of(name, [PROMPTS[0], text]), batch_of(name, [text])
    logits, tokens = model(**single).logits[0, -1], answers(model, single, STEPS)[0]
    with lofi.reduce(model, method, 0.75) as trace:
        assert torch.allclose(model(**batch).logits[1, -1], logits, atol=1e-4)
        assert torch.equal(answers(model, batch, STEPS)[1], tokens)
    assert trace.prompts[1].n == 0
    assert set(trace.prompts[1].per_layer) == {0}
    assert trace.prompts[0].per_layer[-1] < trace.prompts[0].n
