"""The adapter and its taps against what the library itself computes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from lofi.errors import UserError
from lofi.methods.context import Selection
from lofi.models.adapter import Adapter
from lofi.models.facts import fingerprint, read_facts
from lofi.models.hooked import PruneBeforeDecoder
from lofi.models.load import load_model
from lofi.models.taps import DecoderTap, site_layers

from .engine_setup import opened


@pytest.fixture(scope="module")
def adapter(tiny_model: Path) -> Adapter:
    return load_model(str(tiny_model), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    noise = torch.randint(0, 256, (3, 96, 96, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return [Image.fromarray(each.numpy()) for each in noise]


def n_hooks(adapter: Adapter) -> int:
    """Our hooks; the library leaves some of its own behind."""
    hooks = [
        hook
        for module in adapter.model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    return sum(hook.__module__.startswith("lofi.") for hook in hooks)


def test_taps_equal_eager_attention(adapter: Adapter, images: list[Image.Image], tiny_model: Path) -> None:
    eager = AutoModelForImageTextToText.from_pretrained(tiny_model, attn_implementation="eager").eval()
    seen = opened(adapter, images)
    encoded = adapter.encode(seen, {0, -1, -2})
    with torch.no_grad():
        output = eager.model.vision_tower(**seen.pixels, output_attentions=True, output_hidden_states=True)
    for layer in (0, -1, -2):
        for index in range(3):
            maps = output.attentions[layer][index]  # (heads, 145, 145)
            tapped = encoded.context(index, 0).attention
            assert tapped.cls(layer) == pytest.approx(maps[:, 0, 1:].mean(0).numpy(), abs=2e-7)
            assert tapped.received(layer) == pytest.approx(maps.mean((0, 1))[1:].numpy(), abs=2e-7)
            assert tapped.keys(layer).shape == tapped.queries(layer).shape == (145, 32)
    for index in range(3):
        assert torch.allclose(encoded.context(index, 0).hidden, output.hidden_states[-2][index, 1:], atol=1e-6)


def test_an_untapped_layer_is_an_error_that_names_the_tapped(adapter: Adapter, images: list[Image.Image]) -> None:
    attention = adapter.encode(opened(adapter, images[:1]), {1}).context(0, 0).attention
    with pytest.raises(KeyError, match=r"layer 0 was not tapped; tapped: \[1\]"):
        attention.cls(0)


def test_decoder_states_equal_the_librarys_hidden_states(adapter: Adapter, images: list[Image.Image]) -> None:
    inputs = adapter.processor(images=images[0], text=adapter.chat("Is there a 7 in the image?"), return_tensors="pt")
    layers = list(site_layers(len(adapter.layers)).values())
    with torch.no_grad(), DecoderTap(adapter, layers) as tap:
        output = adapter.model(**inputs, output_hidden_states=True)
    assert sorted(tap.states) == sorted(set(layers))
    for layer, state in tap.states.items():
        assert torch.equal(state, output.hidden_states[layer])


def test_every_hook_is_gone_after_the_block_and_after_an_error(adapter: Adapter, images: list[Image.Image]) -> None:
    adapter.encode(opened(adapter, images), {0, 1})
    assert n_hooks(adapter) == 0

    def fail_inside() -> None:
        with PruneBeforeDecoder(adapter, lambda *_: None, positions="kept"):
            assert n_hooks(adapter) > 0
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert n_hooks(adapter) == 0


def test_keeping_every_token_is_the_plain_model_bit_for_bit(adapter: Adapter, images: list[Image.Image]) -> None:
    inputs = adapter.processor(images=images[0], text=adapter.chat("What color is the 3?"), return_tensors="pt")
    everything = Selection(torch.arange(144))
    for positions in ("reindexed", "kept"):
        with torch.no_grad():
            plain = adapter.model(**inputs).logits
            tokens = adapter.model.generate(**inputs, max_new_tokens=6)
            with PruneBeforeDecoder(adapter, lambda *_: everything, positions=positions):
                assert torch.equal(adapter.model(**inputs).logits, plain)
                assert torch.equal(adapter.model.generate(**inputs, max_new_tokens=6), tokens)


@pytest.mark.parametrize("positions", ["reindexed", "kept"])
def test_half_the_tokens_equal_an_explicit_mask(adapter: Adapter, images: list[Image.Image], positions: str) -> None:
    inputs = adapter.processor(images=images[0], text=adapter.chat("What color is the 3?"), return_tensors="pt")
    kept = torch.arange(0, 144, 2)
    with torch.no_grad(), PruneBeforeDecoder(adapter, lambda *_: Selection(kept), positions=positions):
        pruned = adapter.model(**inputs, logits_to_keep=1).logits
    ids = inputs["input_ids"][0]
    stays = torch.ones(len(ids), dtype=torch.bool)
    stays[(ids == adapter.config.image_token_id).nonzero()[:, 0]] = False
    stays[(ids == adapter.config.image_token_id).nonzero()[:, 0][kept]] = True
    places = torch.arange(len(ids)) if positions == "kept" else (stays.cumsum(0) - 1).clamp_min(0)
    mask = torch.ones(len(ids), len(ids), dtype=torch.bool).tril() & stays | torch.eye(len(ids), dtype=torch.bool)
    with torch.no_grad():
        features = adapter.encode(opened(adapter, images[:1])).projected[0]
        embeds = adapter.embed(ids)
        embeds[ids == adapter.config.image_token_id] = features
        masked = adapter.logits(adapter.decode(embeds[None], places[None], mask[None, None]))[:, -1:]
    assert torch.allclose(pruned, masked, atol=1e-4)


def test_eager_and_sdpa_agree(tiny_model: Path, adapter: Adapter) -> None:
    eager = load_model(str(tiny_model), dtype="float32", device="cpu", attention="eager")
    embeds = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))
    positions = torch.arange(7).expand(2, -1)
    mask = torch.ones(7, 7, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    with torch.no_grad():
        assert torch.allclose(adapter.decode(embeds, positions, mask), eager.decode(embeds, positions, mask), atol=1e-5)


def test_sites_cover_the_depth() -> None:
    assert list(site_layers(32).values()) == [0, 8, 16, 24, 31]
    assert list(site_layers(6).values()) == [0, 2, 3, 4, 5]


def test_facts_come_from_the_files_alone(tiny_model: Path, tmp_path: Path) -> None:
    facts = read_facts(str(tiny_model), None)
    assert facts is not None
    assert (facts.family.model_type, facts.encoder.cls, facts.grid, facts.n_visual) == ("llava", 1, (12, 12), 144)
    before = fingerprint(str(tiny_model), None)
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    assert fingerprint(str(copy), None) == before
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert fingerprint(str(copy), None) != before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("embedded:digits-lava", "unknown embedded model 'digits-lava': did you mean 'digits-llava'?"),
        ("./nowhere", "is no folder with a config.json"),
    ],
)
def test_a_wrong_source_is_one_clear_error(source: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_facts(source, None)
    assert message in str(caught.value)


def test_an_unsupported_architecture_is_named_with_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "blip-2"}))
    with pytest.raises(
        UserError,
        match="architecture 'blip-2', which lofi cannot drive; supported: gemma3, idefics3, internvl, llava, ",
    ):
        read_facts(str(tmp_path), None)
