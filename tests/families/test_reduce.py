"""`lofi.reduce` as users call it: what it promises, leaves behind and refuses, in every family."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import lofi
from lofi import reduction
from lofi.errors import UserError
from tests.families.reference import PROMPTS, answers, batch_of, family
from tests.families.tiny import FAMILY_NAMES, tiny

EACH = pytest.mark.parametrize("name", FAMILY_NAMES)
# reads the encoder's attention, reads nothing, prunes between layers
KINDS = pytest.mark.parametrize("method", ["fastervlm", "random", "fastv"])


def state(model: nn.Module) -> dict[str, Any]:
    """All that a block could leave behind in a model: hooks, functions of instances, attention functions."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        own = {key: dict(value) if key.endswith("_hooks") else id(value) for key, value in vars(module).items()}
        own.pop("rope_deltas", None)  # Qwen's own note of the prompt that it has read last
        config = getattr(module, "config", None)
        found[path] = own, id(module), getattr(config, "_attn_implementation", None)
    return found


def refused(message: str, call: Callable[[], Any]) -> None:
    """It fails with one line that says this."""
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@EACH
@torch.inference_mode()
def test_the_call_and_its_trace(name: str) -> None:
    model, batch = family(name)[0], batch_of(name)
    with lofi.reduce(model, "lofi", keep=0.25) as trace:
        assert trace.prompts == []
        model.generate(**batch, max_new_tokens=2)
    assert trace.method == "lofi"
    assert 0 < trace.select_seconds < trace.seconds
    assert len(trace.prompts) == len(PROMPTS)
    for (shown, _), pruned in zip(PROMPTS, trace.prompts, strict=True):
        assert len(pruned.kept) == len(pruned.values) == len(shown)
        assert set(pruned.per_layer) == {sum(map(len, pruned.kept))}
        assert {"rank", "kept_mass"} <= set(pruned.values[0])
        for kept in pruned.kept:
            assert bool((kept.diff() > 0).all())
            assert int(kept[0]) >= 0
            assert int(kept[-1]) < pruned.n
        if len(shown) == 1:
            assert len(pruned.kept[0]) == max(1, round(0.25 * pruned.n))
    assert trace.kept is trace.prompts[-1].kept
    assert trace.per_layer == trace.prompts[-1].per_layer


@EACH
@torch.inference_mode()
def test_a_count_is_met_for_every_image(name: str) -> None:
    model = family(name)[0]
    with lofi.reduce(model, "divprune", keep=7) as trace:
        model(**batch_of(name))
    assert [len(kept) for pruned in trace.prompts for kept in pruned.kept] == [7] * 4


@EACH
@KINDS
@torch.inference_mode()
def test_nothing_is_left_behind(name: str, method: str) -> None:
    model, batch = family(name)[0], batch_of(name)
    before, logits = state(model), model(**batch).logits
    with lofi.reduce(model, method, 0.75):
        model.generate(**batch, max_new_tokens=2)
        assert state(model) != before
    assert state(model) == before
    assert torch.equal(model(**batch).logits, logits)


@EACH
@KINDS
@torch.inference_mode()
def test_nothing_is_left_behind_after_an_error(name: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = family(name)[0], batch_of(name)
    before = state(model)

    def break_off() -> None:
        with lofi.reduce(model, method, 0.75):
            model(**batch)
            raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        break_off()
    assert state(model) == before

    def fail(*_: Any, **__: Any) -> None:
        raise ArithmeticError("in the middle of a forward")

    with monkeypatch.context() as patch:
        patch.setattr(reduction, "select", fail)
        patch.setattr(reduction, "select_stage", fail)
        with pytest.raises(ArithmeticError), lofi.reduce(model, method, 0.75):
            model.generate(**batch, max_new_tokens=2)
    assert state(model) == before
    with lofi.reduce(model, method, 0.75) as trace:
        model(**batch)
    assert len(trace.prompts) == len(PROMPTS), "and the model can be reduced again"


@EACH
def test_blocks_do_not_nest_but_follow(name: str) -> None:
    model, before = family(name)[0], state(family(name)[0])
    with lofi.reduce(model, "random", 0.5):
        inside = state(model)
        refused("already reduced by 'random'", lofi.reduce(model, "fastv", 0.75).__enter__)
        assert state(model) == inside
    again = lofi.reduce(model, "random", 0.5)
    for _ in range(2):
        with again as trace, torch.inference_mode():
            model(**batch_of(name))
    assert len(trace.prompts) == 2 * len(PROMPTS)
    assert state(model) == before


@EACH
@KINDS
def test_other_threads_are_refused(name: str, method: str) -> None:
    model = family(name)[0]

    def call() -> Tensor:
        with torch.inference_mode():
            return model(**batch_of(name)).logits

    with lofi.reduce(model, method, 0.75), ThreadPoolExecutor(1) as other:
        refused("called from another", lambda: other.submit(call).result())
        call()


@EACH
@KINDS
@torch.inference_mode()
def test_a_model_that_is_changed_in_the_block_is_refused(name: str, method: str) -> None:
    model, batch = tiny(name)[0], batch_of(name)
    layers = (getattr(model.model, "text_model", None) or model.model.language_model).layers
    model(**batch)  # transformers puts hooks of its own on a model that runs for the first time
    before, layer = state(model), layers[1]
    with lofi.reduce(model, method, 0.75):
        model(**batch)
        layers[1] = copy.deepcopy(layer)
        refused("changed inside the block", lambda: model(**batch))
        layers[1] = layer
        model(**batch)
        model.set_attn_implementation("eager")
        refused("changed inside the block", lambda: model(**batch))
        model.set_attn_implementation("sdpa")
    assert state(model) == before


@EACH
@KINDS
@torch.inference_mode()
def test_prompts_that_cannot_be_pruned_are_refused(name: str, method: str) -> None:
    model, single = family(name)[0], batch_of(name, PROMPTS[:1])
    embeds = model.get_input_embeddings()(single["input_ids"].clamp_max(5))
    before = state(model)
    with lofi.reduce(model, method, 0.75):
        refused("without input_ids", lambda: model(inputs_embeds=embeds))
        cache = model(**single, use_cache=True).past_key_values
        refused("in pieces", lambda: model(input_ids=single["input_ids"][:, -2:], past_key_values=cache))
        refused("one beam each", lambda: model.generate(**single, num_beams=2, max_new_tokens=2))
        model(**single)
    assert state(model) == before


@pytest.mark.parametrize(
    ("message", "arguments", "options"),
    [
        ("unknown method 'fastvv'.*fastv", ("fastvv", 0.5), {}),
        ("unknown parameter of method 'lofi' 'rnk'.*rank", ("lofi", 0.5), {"rnk": 3}),
        ("rank 'fixed:0' of method 'lofi' is not allowed; use one of", ("lofi", 0.5), {"rank": "fixed:0"}),
        ("positions 'both' of method 'random'", ("random", 0.5), {"positions": "both"}),
        ("keep 0 is outside", ("random", 0), {}),
        ("keep -0.5 is outside", ("random", -0.5), {}),
        ("keep 1.5 is outside", ("random", 1.5), {}),
        ("keep nan is outside", ("random", float("nan")), {}),
        ("more than four decimals", ("random", 0.123456), {}),
        ("keep True is not a number", ("random", True), {}),
        ("keep 'half' is not a number", ("random", "half"), {}),
        ("keeps what it is asked for; give keep a share", ("random", "auto"), {}),
        ("sets its own count; give keep 'auto'", ("prumerge", 0.5), {}),
        ("reads the question", ("cdpruner", 0.5), {}),
        ("needs the CLIP", ("trim", 0.5), {}),
        ("in a sweep", ("vtw_search", "auto"), {}),
    ],
)
def test_bad_calls_are_refused(message: str, arguments: Any, options: dict[str, Any]) -> None:
    model, before = family("llava")[0], state(family("llava")[0])

    def call() -> None:
        with lofi.reduce(model, *arguments, **options):
            pass

    refused(message, call)
    assert state(model) == before


def test_models_that_are_no_vision_language_models_are_refused() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes))
    refused("architecture 'llama'", lambda: lofi.reduce(llama, "random", 0.5))
    refused("Linear", lambda: lofi.reduce(nn.Linear(2, 2), "random", 0.5))


@EACH
@torch.inference_mode()
def test_more_tokens_than_there_are_is_refused(name: str) -> None:
    model = family(name)[0]
    with lofi.reduce(model, "random", 500):
        refused("keep 500 asks for more tokens than the", lambda: model(**batch_of(name)))


def test_a_trace_of_nothing_is_refused() -> None:
    with lofi.reduce(family("llava")[0], "random", 0.5) as trace:
        refused("no prompt with an image", lambda: trace.kept)


@torch.inference_mode()
def test_prompts_without_any_picture() -> None:
    model, text = family("llava")[0], batch_of("llava", [((), "How many?")])
    plain = answers(model, text, 3)
    with lofi.reduce(model, "random", 0.5) as trace:
        assert torch.equal(answers(model, text, 3), plain)
    assert trace.prompts == []
    with lofi.reduce(model, "fastv", 0.75):
        refused("hold no image", lambda: model(**text))
