"""The tiny models are fit to test with: batches agree with single runs, nothing is flat, and they load from disk."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lofi.models.processor import load_processor
from tests.families.tiny import FAMILY_NAMES, inputs, pictures, save, tiny

SQUARE, WIDE, TALL = pictures()
LONG, SHORT = "Is there a red 7 in the image? Please answer yes or no.", "How many?"
PAIRS = [((SQUARE,), LONG), ((WIDE,), SHORT)]
# visual tokens of the square, the wide and the tall picture, and of the tall and the square in one prompt
TOKENS = {
    "llava": (36, 36, 36, 72),
    "llava_next": (51, 39, 39, 90),  # newline vectors among them; the tall picture loses two columns
    "llava_onevision": (39, 39, 39, 20),  # two pictures in a prompt get one tile and one newline each
    "qwen2_vl": (25, 24, 28, 53),
    "qwen2_5_vl": (25, 24, 28, 53),
    "qwen3_vl": (25, 24, 28, 53),
    "internvl": (45, 36, 27, 72),
    "smolvlm": (45, 27, 45, 90),
    "idefics3": (45, 27, 45, 90),
    "gemma3": (25, 25, 25, 50),
}
PIXELS = ("pixel_values", "image_sizes", "batch_num_images", "image_grid_thw", "pixel_attention_mask")


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def family(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    return (request.param, *tiny(request.param))


def last(model: Any, batch: Any) -> Tensor:
    """(b, v) logits after the prompts."""
    with torch.inference_mode():
        return model(**batch).logits[:, -1]


def answers(model: Any, batch: Any) -> Tensor:
    """(b, 6) tokens of greedy answers."""
    generated = model.generate(**batch, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    return generated[:, batch["input_ids"].shape[1] :]


def test_a_row_of_a_batch_equals_the_single_run(family: tuple[str, Any, Any]) -> None:
    name, model, processor = family
    batch = inputs(name, processor, PAIRS)
    assert batch["attention_mask"][1, 0] == 0, "the shorter prompt is padded on the left"
    assert batch["attention_mask"][:, -1].all()
    logits, tokens = last(model, batch), answers(model, batch)
    assert tokens.shape == (2, 6)
    for row, pair in enumerate(PAIRS):
        single = inputs(name, processor, [pair])
        assert single["attention_mask"].all()
        assert torch.allclose(last(model, single)[0], logits[row], atol=1e-4)
        assert torch.equal(answers(model, single)[0], tokens[row])


def test_every_image_token_gets_one_feature(family: tuple[str, Any, Any]) -> None:
    name, model, processor = family
    prompts = [((SQUARE,), LONG), ((WIDE,), SHORT), ((TALL,), LONG), ((TALL, SQUARE), SHORT)]
    for shown, count in zip(prompts, TOKENS[name], strict=True):
        batch = inputs(name, processor, [shown])
        features = model.model.get_image_features(
            **{key: batch[key] for key in PIXELS if key in batch}, return_dict=True
        ).pooler_output
        rows = torch.cat([each.reshape(-1, each.shape[-1]) for each in features])
        assert (batch["input_ids"] == model.config.image_token_id).sum() == len(rows) == count
        assert torch.isfinite(last(model, batch)).all()
        assert answers(model, batch).shape == (1, 6)


def test_no_unknown_words(family: tuple[str, Any, Any]) -> None:
    name, _, processor = family
    assert processor.tokenizer.unk_token_id not in inputs(name, processor, PAIRS)["input_ids"]


def test_logits_have_spread_and_everything_matters(family: tuple[str, Any, Any]) -> None:
    name, model, processor = family

    def ask(shown: tuple[Any, ...], text: str) -> Tensor:
        return last(model, inputs(name, processor, [(shown, text)]))[0]

    logits = ask((SQUARE,), LONG)
    assert logits.max() - logits.min() > 4
    mirrored = SQUARE.transpose(0)
    changed = {
        "picture": ask((mirrored,), LONG),
        "word order": ask((SQUARE,), "Please answer yes or no. Is there a red 7 in the image?"),
        "words": ask((SQUARE,), "How many numbers are in the image? Answer with a single word."),
    }
    assert {what for what, other in changed.items() if (logits - other).abs().max() < 0.3} == set()
    assert (ask((SQUARE, TALL), LONG) - ask((TALL, SQUARE), LONG)).abs().max() > 0.3


def sharpness(seen: dict[str, list[float]]) -> Callable[..., tuple[Tensor, None]]:
    """The library's attention, which also notes how much of the widest possible entropy each call has."""

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **more: Any) -> Any:
        keys = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        weights = (query[:, :, -1:] @ keys.transpose(-1, -2) * more["scaling"]).softmax(-1)  # of the last row
        entropy = -(weights * weights.clamp_min(1e-30).log()).sum(-1).mean()
        tower = "decoder" if module.is_causal else "encoder"
        if key.shape[2] > 1:
            seen[tower].append(float(entropy) / math.log(key.shape[2]))
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **more)

    return attend


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_attention_looks_somewhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny(name)
    seen: dict[str, list[float]] = {"encoder": [], "decoder": []}
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "noted", sharpness(seen))
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, "noted", sdpa_mask)
    model.set_attn_implementation("noted")
    last(model, inputs(name, processor, PAIRS[:1]))
    for shares in seen.values():
        assert len(shares) >= 4
        assert sum(shares) / len(shares) < 0.9


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_the_same_model_every_time(name: str) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second = tiny(name)[0].state_dict(), tiny(name)[0].state_dict()
    assert torch.equal(before, torch.get_rng_state()), "the caller's random numbers are left alone"
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_saved_models_load_as_those_of_the_hub(family: tuple[str, Any, Any], tmp_path: Path) -> None:
    name, model, processor = family
    save(name, tmp_path)
    files = {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "chat_template.jinja"}
    assert files <= {path.name for path in tmp_path.iterdir()}
    read = load_processor(tmp_path)
    assert type(read.image_processor) is type(processor.image_processor)
    wanted, got = inputs(name, processor, PAIRS), inputs(name, read, PAIRS)
    assert set(wanted) == set(got)
    assert all(torch.equal(wanted[key], got[key]) for key in wanted)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path, use_safetensors=True, local_files_only=True)
    assert type(again) is type(model)
    assert torch.equal(last(again.eval(), got), last(model, wanted))
