"""Pruning inside the decoder against a loop over its layers that cuts the sequence by hand, without hooks or cache."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView, attention_rows
from lofi.methods.registry import METHODS, check_params
from lofi.methods.schedule import Depth, Fitted, Searched, Stage, solve
from lofi.methods.select import select_stage
from lofi.models.adapter import Adapter
from lofi.models.hooked import PrunePromptsInDecoder
from lofi.models.load import load_model

from .engine_setup import opened, random_image

INSIDE = sorted(name for name, reducer in METHODS.items() if reducer.acts == "llm")
N = 144
QUESTION = "How many digits are in the image ?"


@pytest.fixture(scope="module")
def adapter(tiny_model: Path) -> Adapter:
    return load_model(str(tiny_model), dtype="float32", device="cpu")


def stages(name: str, depth: int) -> tuple[Stage, ...]:
    schedule = METHODS[name].schedule
    assert schedule is not None
    if isinstance(schedule, Depth | Searched):
        return (Stage(2, 0),)
    if isinstance(schedule, Fitted):
        return (Stage(1, 100), Stage(2, 60), Stage(3, 59), Stage(4, 20))
    return solve(schedule, 30, N, depth, budget="tokens", layer=2 if "layer" in METHODS[name].params else 0)


def pruned(adapter: Adapter, plan: tuple[Stage, ...], choose: Any, *, positions: str) -> PrunePromptsInDecoder:
    return PrunePromptsInDecoder(adapter, lambda _n: plan, choose, positions=positions, key=lambda *_: 5)


class Recorder:
    """A method's choices, with what it was shown."""

    def __init__(self, name: str) -> None:
        self.name, self.made = name, {}

    def __call__(self, _row: int, view: DecoderView, k: int) -> Selection:
        selection = select_stage(self.name, view, k, seed=3, params=check_params(self.name, {}))
        self.made[view.layer] = (selection, view.visual.clone())
        return selection


def by_hand(adapter: Adapter, embeds: Tensor, recorder: Recorder, positions: str) -> Tensor:
    """(d,) normed state of the last token; embeds (1, s, d) of the whole prompt and what was answered so far."""
    language: Any = adapter.language
    hidden, at = embeds, torch.arange(embeds.shape[1])
    for index, layer in enumerate(adapter.layers):
        if index in recorder.made:
            selection, visual = recorder.made[index]
            first, last = int(visual[0]), int(visual[-1])
            columns = torch.arange(hidden.shape[1])
            index_of = torch.cat([columns[:first], visual[selection.rows], columns[last + 1 :]])
            hidden, at = hidden[:, index_of].clone(), at[index_of]
            if selection.embeds is not None:
                hidden[0, first : first + selection.count] = selection.embeds
            if positions == "reindexed":
                at = torch.arange(hidden.shape[1])
        hidden = layer(hidden, attention_mask=None, position_embeddings=language.rotary_emb(hidden, at[None]))
    state: Tensor = language.norm(hidden)[0, -1]
    return state


@pytest.mark.parametrize("positions", ["kept", "reindexed"])
@pytest.mark.parametrize("name", INSIDE)
@torch.inference_mode()
def test_forward_and_generate_equal_a_loop_by_hand(adapter: Adapter, name: str, positions: str) -> None:
    inputs = adapter.processor(images=random_image(1), text=adapter.chat(QUESTION), return_tensors="pt")
    recorder = Recorder(name)
    plan = stages(name, len(adapter.layers))
    with pruned(adapter, plan, recorder, positions=positions):
        logits = adapter.model(**inputs, logits_to_keep=1).logits[0, -1]
        made = dict(recorder.made)
        ids = adapter.model.generate(**inputs, do_sample=False, max_new_tokens=6)[0]
    assert {layer for layer, _ in made.items()} == {stage.layer for stage in plan}
    embeds = prompt_embeds(adapter, inputs)
    assert torch.allclose(adapter.logits(by_hand(adapter, embeds, recorder, positions)), logits, atol=1e-5)
    for token in ids[inputs["input_ids"].shape[1] :]:
        best = adapter.logits(by_hand(adapter, embeds, recorder, positions)).argmax()
        assert int(best) == int(token)
        embeds = torch.cat([embeds, adapter.embed(token[None])[None]], 1)


def prompt_embeds(adapter: Adapter, inputs: Any) -> Tensor:
    """(1, s, d) what enters the decoder."""
    embeds = adapter.embed(inputs["input_ids"]).clone()
    encoded = adapter.encode(opened(adapter, [random_image(1)]))
    embeds[inputs["input_ids"] == adapter.config.image_token_id] = encoded.projected[0]
    return embeds


@torch.inference_mode()
def test_without_stages_the_model_is_untouched_bit_for_bit(adapter: Adapter) -> None:
    inputs = adapter.processor(images=random_image(1), text=adapter.chat(QUESTION), return_tensors="pt")
    plain = adapter.model(**inputs).logits
    with pruned(adapter, (), Recorder("fastv"), positions="kept"):
        hooked = adapter.model(**inputs).logits
    assert torch.equal(plain, hooked)
    assert torch.equal(plain, adapter.model(**inputs).logits)


def test_hooks_go_and_the_kernel_returns_after_an_error(adapter: Adapter) -> None:
    inputs = adapter.processor(images=random_image(1), text=adapter.chat(QUESTION), return_tensors="pt")
    before = adapter.attention

    def fail(_row: int, view: DecoderView, _k: int) -> Selection:
        view.attention.keys(view.layer)
        raise ArithmeticError("on purpose")

    with (
        pytest.raises(ArithmeticError, match="on purpose"),
        pruned(adapter, (Stage(2, 9),), fail, positions="kept"),
    ):
        adapter.model(**inputs)
    assert adapter.attention == before
    assert not any(layer._forward_pre_hooks for layer in adapter.layers)


@torch.inference_mode()
def test_probed_queries_and_keys_give_the_eager_attention(adapter: Adapter, tiny_model: Path) -> None:
    inputs = adapter.processor(images=random_image(1), text=adapter.chat(QUESTION), return_tensors="pt")
    eager = load_model(str(tiny_model), dtype="float32", device="cpu", attention="eager")
    maps = eager.model(**inputs, output_attentions=True).attentions
    seen: dict[int, Tensor] = {}

    def look(_row: int, view: DecoderView, _k: int) -> Selection:
        rows = torch.tensor([len(view.hidden) - 9, len(view.hidden) - 1])
        for layer in (view.layer - 1, view.layer):
            seen[layer] = attention_rows(view, rows, layer=layer)
        return Selection(torch.arange(len(view.visual)))

    with pruned(adapter, (Stage(1, 9), Stage(3, 9)), look, positions="kept"):
        adapter.model(**inputs)
    for layer, rows in seen.items():
        assert torch.allclose(rows, maps[layer][0, :, [-9, -1]], atol=1e-6)


class WidestMaps(TorchDispatchMode):
    """Counts floating tensors that hold a map over all tokens for every head."""

    def __init__(self, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads, self.tokens, self.maps = heads, tokens, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tensors(out):
            shape = tensor.shape
            if tensor.is_floating_point() and len(shape) >= 3 and min(shape[-2:]) >= self.tokens:
                self.maps += int(shape[-3] >= self.heads)
        return out


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def maps_made(adapter: Adapter, plan: tuple[Stage, ...], choose: Any) -> int:
    """Full attention maps made in a forward, from as many tokens as are left after the last stage on."""
    inputs = adapter.processor(images=random_image(1), text=adapter.chat(QUESTION), return_tensors="pt")
    heads = adapter.language.config.num_attention_heads
    with (
        pruned(adapter, plan, choose, positions="kept"),
        WidestMaps(heads, 60) as counted,
        torch.inference_mode(),
    ):
        adapter.model(**inputs)
    return counted.maps


@pytest.mark.parametrize("name", INSIDE)
def test_no_method_makes_a_full_attention_map(adapter: Adapter, name: str) -> None:
    assert maps_made(adapter, stages(name, len(adapter.layers)), Recorder(name)) == 0


def test_a_full_attention_map_would_be_seen(adapter: Adapter) -> None:
    def look(_row: int, view: DecoderView, k: int) -> Selection:
        attention_rows(view, torch.arange(len(view.hidden)), layer=view.layer)
        return Selection(torch.arange(k))

    assert maps_made(adapter, (Stage(2, 9),), look) > 0
