"""What goes wrong, often silently, when visual tokens are dropped from models of transformers 5.23: a test for each.

The comment at each test names the guard; without it the test fails.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

import lofi
from lofi.errors import UserError
from lofi.methods.context import Selection
from lofi.methods.decoder import DecoderView
from lofi.methods.schedule import Stage
from lofi.models.adapter import Adapter
from lofi.models.attention import ImageAttention
from lofi.models.conversation import chat_inputs
from lofi.models.families import FAMILIES
from lofi.models.hooked import PrunePromptsInDecoder
from lofi.models.opened import ids_after, open_picture
from lofi.models.taps import EncoderTap
from tests.families import configs
from tests.families.reference import (
    PIXELS,
    PROMPTS,
    SQUARE,
    WIDE,
    Entering,
    alive,
    answered,
    answers,
    batch_of,
    columns_of,
    decoder,
    family,
    greedy,
    layered_logits,
    masked_logits,
    policies,
    read,
    stops,
)
from tests.families.tiny import FAMILY_NAMES, spread, tiny

EACH = pytest.mark.parametrize("name", FAMILY_NAMES)
STEPS = 5


def adapter_of(name: str) -> Adapter:
    return Adapter(*family(name), FAMILIES[name])


def kept_columns(name: str, trace: Any, entering: Entering, row: int, prompt: Any) -> Tensor:
    pruned = trace.prompts[row]
    return columns_of(prompt, entering.row(row, len(prompt) - pruned.n + pruned.per_layer[0]))


class Every:
    """Keeps every second token, and remembers where they stood."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Selection, Tensor]] = {}

    def __call__(self, _row: int, view: DecoderView, k: int) -> Selection:
        kept = torch.arange(len(view.visual))[::2][:k]
        self.made[view.layer] = Selection(kept), view.visual.clone()
        return Selection(kept)


def inside(name: str, choose: Any, *layers: int, positions: str = "kept") -> PrunePromptsInDecoder:
    """Half of the visual tokens go on before each of these layers."""

    def plan(n: int) -> tuple[Stage, ...]:
        return tuple(Stage(layer, n // 2 ** (i + 1)) for i, layer in enumerate(layers))

    return PrunePromptsInDecoder(adapter_of(name), plan, choose, positions=positions, key=lambda _prompts, _row: 0)


@EACH
@torch.inference_mode()
def test_1_gaps_in_the_positions_do_not_read_as_borders_between_packed_prompts(name: str) -> None:
    # guard: `PruneBeforeDecoder` always passes a mask on, also where the model was given none
    model, single = family(name)[0], batch_of(name, PROMPTS[:1])
    prompt = read(name, single)
    unmasked = {key: value for key, value in single.items() if key != "attention_mask"}
    with lofi.reduce(model, "random", 0.5, positions="kept") as trace, Entering(model) as entering:
        logits = model(**unmasked, position_ids=own_positions(name, prompt), use_cache=False).logits[0, -1]
    columns = kept_columns(name, trace, entering, 0, prompt)
    assert bool((columns.diff() > 1).any()), "there are gaps"
    assert torch.allclose(logits, masked_logits(name, prompt, alive(prompt, columns)), atol=1e-4)


def own_positions(name: str, prompt: Any) -> Tensor:
    """As `generate` passes them: those of the text first where positions are rows and columns."""
    order = torch.arange(len(prompt))[None]
    return torch.cat([order[None], prompt.positions]) if name.startswith("qwen") else order


@pytest.mark.parametrize("name", ["smolvlm", "idefics3"])
@torch.inference_mode()
def test_2_an_attention_function_of_its_own_keeps_the_masks_of_the_encoder(name: str) -> None:
    # guard: lofi/models/recording.py registers a mask function under each name of an attention function
    model, single = family(name)[0], batch_of(name, PROMPTS[:1])
    pixels = {key: single[key] for key in PIXELS if key in single}
    real = torch.ones(*single["pixel_values"].shape[:2], *single["pixel_values"].shape[-2:], dtype=torch.bool)
    real[..., -8:] = False  # the last columns of each tile are padding
    plain = model.model.get_image_features(**{**pixels, "pixel_attention_mask": real}).pooler_output
    whole = model.model.get_image_features(**pixels).pooler_output
    with EncoderTap(adapter_of(name), {0, -1}):
        tapped = model.model.get_image_features(**{**pixels, "pixel_attention_mask": real}).pooler_output
    assert all(torch.equal(one, other) for one, other in zip(plain, tapped, strict=True))
    assert not all(torch.allclose(one, other, atol=0.1) for one, other in zip(plain, whole, strict=True))


@pytest.mark.parametrize("layers", [(1,), (2,), (1, 2)])
@torch.inference_mode()
def test_3_deepstack_features_find_their_tokens_after_a_prune_among_the_first_layers(layers: tuple[int, ...]) -> None:
    # guard: lofi/models/deepstack.py stands in for `_deepstack_process` while the block lasts
    name, choose = "qwen3_vl", Every()
    model, single = family(name)[0], batch_of(name, PROMPTS[1:2])
    with inside(name, choose, *layers):
        logits = model(**single).logits[0, -1]
    prompt = read(name, single)
    assert len(prompt.deep) == 3
    assert torch.allclose(logits, layered_logits(name, prompt, choose.made, "kept"), atol=1e-4)
    bare = replace(prompt, deep=())
    assert not torch.allclose(logits, layered_logits(name, bare, choose.made, "kept"), atol=0.01), "they matter"


@pytest.mark.parametrize("layers", [(), (1,)])
@torch.inference_mode()
def test_4_visual_tokens_that_see_each_other_both_ways_still_do(layers: tuple[int, ...]) -> None:
    # guard: masks that a model has built are cut, row by row and column by column, not built again
    name, choose = "gemma3", Every()
    model, single = family(name)[0], batch_of(name, PROMPTS[1:2])
    prompt = read(name, single)
    causal = replace(prompt, block=torch.full_like(prompt.block, -1))
    if layers:
        with inside(name, choose, *layers):
            logits = model(**single).logits[0, -1]
        wanted, wrong = (layered_logits(name, each, choose.made, "kept") for each in (prompt, causal))
    else:
        with lofi.reduce(model, "random", 0.5, positions="kept") as trace, Entering(model) as entering:
            logits = model(**single).logits[0, -1]
        left = alive(prompt, kept_columns(name, trace, entering, 0, prompt))
        wanted, wrong = (masked_logits(name, each, left) for each in (prompt, causal))
    assert torch.allclose(logits, wanted, atol=1e-4)
    assert not torch.allclose(logits, wrong, atol=0.01), "and that matters"


def narrow(window: int) -> Any:
    """A Gemma whose sliding layers see no more than so many tokens."""
    config = configs.config("gemma3", family("gemma3")[1].tokenizer)
    config.text_config.sliding_window = window
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        spread(model)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(("method", "window"), [(m, w) for m in ("random", "fastv") for w in (20, 30, 52)])
@torch.inference_mode()
def test_5_windows_shorter_than_prompt_and_answer_are_refused_and_keep_1_is_left_alone(
    method: str, window: int
) -> None:
    # guard: `Adapter.check_window` before every prefill and every step that was cut
    model, batch = narrow(window), batch_of("gemma3", PROMPTS[:1])
    assert batch["input_ids"].shape[1] == 49
    tokens = answers(model, batch, STEPS)
    with lofi.reduce(model, method, 1.0):
        assert torch.equal(answers(model, batch, STEPS), tokens)
    with lofi.reduce(model, method, 0.75), pytest.raises(UserError, match=f"does not fit into the window of {window}"):
        answers(model, batch, STEPS)
    adapter = Adapter(model, family("gemma3")[1], FAMILIES["gemma3"])
    with pytest.raises(UserError, match="does not fit into the window"):
        adapter.decode(torch.zeros(1, 60, 64), torch.arange(60)[None], torch.ones(1, 1, 60, 60, dtype=torch.bool))


@EACH
@pytest.mark.parametrize("method", ["random", "fastv", "pyramiddrop"])
@torch.inference_mode()
def test_6_padding_under_eager_attention(name: str, method: str) -> None:
    # guard: each layer from the first stage on cuts rows and columns of its mask, whose size is that of layer 0
    model, batch, eager = family(name)[0], batch_of(name), tiny(name)[0]
    eager.set_attn_implementation("eager")
    with lofi.reduce(model, method, 0.75):
        logits, tokens = model(**batch).logits[:, -1], answers(model, batch, STEPS)
    with lofi.reduce(eager, method, 0.75):
        assert torch.allclose(eager(**batch).logits[:, -1], logits, atol=1e-4)
        assert torch.equal(answers(eager, batch, STEPS), tokens)


@EACH
@pytest.mark.parametrize("method", ["random", "fastv"])
def test_6_static_caches_are_refused(name: str, method: str) -> None:
    # guard: `PromptTap.prompts` looks at the cache that is about to be filled
    model = family(name)[0]
    with lofi.reduce(model, method, 0.75), pytest.raises(UserError, match="static cache"):
        model.generate(**batch_of(name, PROMPTS[:1]), max_new_tokens=2, cache_implementation="static")


@EACH
@torch.inference_mode()
def test_7_rows_become_ragged_where_generate_has_dropped_a_mask_of_ones(name: str) -> None:
    # guard: `PruneBeforeDecoder._step` makes a mask of what is left, whatever `generate` passes
    model = family(name)[0]
    shown = [((image,), "Is there a red 7 in the image?") for image in (SQUARE, *map(SQUARE.transpose, (0, 1, 2, 3)))]
    batch = batch_of(name, shown)
    assert bool(batch["attention_mask"].all()), "prompts of one length: nothing is padded"
    with lofi.reduce(model, "prumerge", "auto") as trace:
        tokens = answers(model, batch, STEPS)
    assert len({pruned.per_layer for pruned in trace.prompts}) > 1, "but the method keeps as many as it wants"
    for row, each in enumerate(shown):
        with lofi.reduce(model, "prumerge", "auto"):
            assert torch.equal(answers(model, batch_of(name, [each]), STEPS)[0], tokens[row])


@torch.inference_mode()
def test_7_padding_inside_the_decoder_that_only_pruning_has_made() -> None:
    # guard: `PruneInDecoder._step` makes its mask from what the layer has read
    name = "llava"
    model, batch = family(name)[0], batch_of(name, [PROMPTS[0], PROMPTS[0]])
    prompt, made = read(name, batch_of(name, PROMPTS[:1])), []

    def uneven(row: int, view: DecoderView, k: int) -> Selection:
        selection = Selection(torch.arange(k - 3 * row))
        made.append({view.layer: (selection, view.visual.clone())})
        return selection

    with inside(name, uneven, 2):
        tokens = answers(model, batch, STEPS)
    for row in range(2):
        longer = prompt
        for token in tokens[row]:
            assert greedy(layered_logits(name, longer, made[row], "kept"), stops(model)) == token
            longer = answered(name, longer, token)


@pytest.mark.parametrize(
    ("name", "positions"), [(name, positions) for name in FAMILY_NAMES for positions in policies(name)]
)
@pytest.mark.parametrize("method", ["random", "fastv"])
@torch.inference_mode()
def test_8_steps_stand_behind_their_prompt_though_its_cache_is_shorter(name: str, positions: str, method: str) -> None:
    # guard: steps get positions counted from the prompt, where a model left alone counts its cache; what `generate`
    # draws is compared with recomputation in test_before_llm and test_inside_llm
    model, single = family(name)[0], batch_of(name, PROMPTS[:1])
    with lofi.reduce(model, method, 0.75, positions=positions):
        wanted = answers(model, single, STEPS)[0]
        out = model(**single, use_cache=True)
        for token in wanted:
            assert greedy(out.logits[0, -1], stops(model)) == token
            out = model(input_ids=token.view(1, 1), past_key_values=out.past_key_values, use_cache=True)


@EACH
@pytest.mark.parametrize("method", ["random", "fastv"])
@torch.inference_mode()
def test_8_two_prompts_are_not_answered_in_turns(name: str, method: str) -> None:
    # guard: `PromptTap.is_step` knows the cache that the last prompt has filled
    model = family(name)[0]
    with lofi.reduce(model, method, 0.75):
        first = model(**batch_of(name, PROMPTS[:1]), use_cache=True)
        model(**batch_of(name, PROMPTS[2:]), use_cache=True)
        token = first.logits[:, -1:].argmax(-1).clamp_max(5)
        with pytest.raises(UserError, match="not the one read last"):
            model(input_ids=token, past_key_values=first.past_key_values)


@EACH
@torch.inference_mode()
def test_9_scores_of_half_precision_features_are_float32(name: str) -> None:
    # guard: queries and keys become float32 before they are multiplied
    model = tiny(name)[0].bfloat16()
    adapter = Adapter(model, family(name)[1], FAMILIES[name])
    encoded = adapter.encode(open_picture(adapter, SQUARE, "How many?"), {-1})
    attention = encoded.context(0, 0).attention
    assert isinstance(attention, ImageAttention)
    assert attention.tapped.of(-1)[0][0].dtype == torch.bfloat16
    double = replace(attention, tapped=attention.tapped.changed(Tensor.double))
    received = attention.received(-1)
    assert received.dtype == torch.float32
    assert torch.allclose(received, double.received(-1).float(), rtol=1e-4, atol=0)
    seen: dict[str, Tensor] = {}

    def look(_row: int, view: DecoderView, k: int) -> Selection:
        seen["queries"], seen["keys"] = view.attention.queries(1), view.attention.keys(1)
        return Selection(torch.arange(k))

    hook = PrunePromptsInDecoder(
        adapter, lambda n: (Stage(2, n // 2),), look, positions="kept", key=lambda _prompts, _row: 0
    )
    with hook:
        model(**batch_of(name, PROMPTS[:1]).to(torch.bfloat16))
    assert {tensor.dtype for tensor in seen.values()} == {torch.float32}


@pytest.mark.parametrize("name", ["llava_next", "llava_onevision"])
@pytest.mark.parametrize("method", ["random", "fastv", "tome", "lofi"])
@torch.inference_mode()
def test_10_line_ends_are_no_visual_tokens_and_always_stay(name: str, method: str) -> None:
    # guard: `lofi.models.geometry._places` marks them, and no token of the picture is one
    model, single = family(name)[0], batch_of(name, [((WIDE,), "How many?")])
    line_end = model.model.image_newline
    prompt = read(name, single)
    ends = torch.isclose(prompt.embeds[0], line_end).all(1)
    assert int(ends.sum()) >= 3
    seen: list[Tensor] = []
    handle = (
        decoder(model)
        .layers[-1]
        .register_forward_pre_hook(
            lambda _module, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
    )
    with lofi.reduce(model, method, 0.5, **({"budget": "tokens"} if method == "fastv" else {})) as trace:
        if method != "fastv":
            with Entering(model) as entering:
                model(**single)
            (entered,) = entering.calls[-1]["inputs_embeds"]
            assert int(torch.isclose(entered, line_end).all(1).sum()) == int(ends.sum())
        else:
            model(**single)
    handle.remove()
    (pruned,) = trace.prompts
    assert pruned.n == int(prompt.visual.sum()) - int(ends.sum())
    assert seen[-1].shape[1] == len(prompt) - pruned.n + pruned.per_layer[-1]
    assert pruned.per_layer[-1] == round(pruned.n / 2)


@EACH
@torch.inference_mode()
def test_11_hooks_go_when_a_forward_fails_and_outputs_may_be_ragged(name: str) -> None:
    # guard: `Reduction.__exit__` removes what `__enter__` has put on, whatever happened between them
    model, single = family(name)[0], batch_of(name, PROMPTS[:1])
    plain = model(**single).logits
    language, layers = decoder(model), decoder(model).layers
    hooks = [dict(module._forward_pre_hooks) for module in (model, language, *layers)]
    with pytest.raises((RuntimeError, IndexError)), lofi.reduce(model, "fastv", 0.75):
        model(**{**single, "attention_mask": torch.ones(1, 3)})
    assert [dict(module._forward_pre_hooks) for module in (model, language, *layers)] == hooks
    assert torch.equal(model(**single).logits, plain)
    with lofi.reduce(model, "fastv", 0.75) as trace:
        states = model(**single, output_hidden_states=True).hidden_states
    gone = [trace.per_layer[0] - n for n in trace.per_layer]
    assert [single["input_ids"].shape[1] - len(state[0]) for state in states[1:]] == gone


@EACH
@torch.inference_mode()
def test_12_the_last_token_of_every_prompt_is_the_templates_own(name: str) -> None:
    # guard: engine and public path both take prompts from `chat_inputs`, which asks for the answer's opening
    adapter, text = adapter_of(name), "How many numbers are in the image?"
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    write = adapter.processor.apply_chat_template
    opening = write(turn, add_generation_prompt=True).removeprefix(write(turn, add_generation_prompt=False))
    tail = adapter.processor.tokenizer(opening, add_special_tokens=False)["input_ids"]
    whole = chat_inputs(adapter.processor, [([SQUARE], text)])["input_ids"][0].tolist()
    before = open_picture(adapter, SQUARE, "Another question").before.tolist()
    assert before + list(ids_after(adapter, text)) == whole
    assert whole[len(whole) - len(tail) :] == tail
    lasts: list[Tensor] = []

    def look(_row: int, view: DecoderView, k: int) -> Selection:
        lasts.append(view.hidden[-1])
        return Selection(torch.arange(k))

    with inside(name, look, 1), Entering(family(name)[0]):
        family(name)[0](**batch_of(name))
    singles = list(lasts)
    lasts.clear()
    for row in range(len(PROMPTS)):
        with inside(name, look, 1):
            family(name)[0](**batch_of(name, PROMPTS[row : row + 1]))
    assert torch.allclose(torch.stack(lasts), torch.stack(singles), atol=1e-4), "also where prompts are padded"
