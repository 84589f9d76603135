"""What config.json tells of each family, in the hub's wording as in the library's."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from lofi.errors import UserError
from lofi.models.adapter import Adapter
from lofi.models.facts import DEFAULT_DEPTH, DEFAULT_MERGING, DEFAULT_VISION, Facts, facts_of, read_facts
from lofi.models.families import ENCODERS, FAMILIES
from tests.families.tiny import FAMILY_NAMES, tiny

CLIP = {
    "model_type": "clip_vision_model",
    "image_size": 336,
    "patch_size": 14,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
}
QWEN = {"depth": 32, "patch_size": 14, "spatial_merge_size": 2}
# As checkpoints have them, down to what matters here: defaults left out, older names, sizes as pairs.
HUB: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "LLaVA-1.5": (
        {
            "model_type": "llava",
            "text_config": {"model_type": "llama"},
            "vision_config": {**CLIP, "hidden_size": 1024},
            "vision_feature_layer": -2,
        },
        ((24, 24), 576, 1024, 24, -2, 32),
    ),
    "LLaVA-1.5, 13B, no feature layer": (
        {"model_type": "llava", "text_config": {"model_type": "llama", "num_hidden_layers": 40}, "vision_config": CLIP},
        ((24, 24), 576, 768, 24, -2, 40),
    ),
    "LLaVA-NeXT": (
        {
            "model_type": "llava_next",
            "text_config": {"model_type": "mistral"},
            "vision_config": {**CLIP, "hidden_size": 1024},
        },
        (None, None, 1024, 24, -2, 32),
    ),
    "OneVision": (
        {
            "model_type": "llava_onevision",
            "text_config": {"model_type": "qwen2", "num_hidden_layers": 28},
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 1152,
                "image_size": 384,
                "num_hidden_layers": 26,
                "patch_size": 14,
            },
        },
        (None, None, 1152, 26, -1, 28),
    ),
    "Qwen2-VL, all numbers at the top, no kind of encoder": (
        {
            "model_type": "qwen2_vl",
            "num_hidden_layers": 28,
            "vision_config": {**QWEN, "embed_dim": 1280, "hidden_size": 3584},
        },
        (None, None, 1280, 32, -1, 28),
    ),
    "Qwen2.5-VL, its own name as kind of encoder": (
        {
            "model_type": "qwen2_5_vl",
            "num_hidden_layers": 36,
            "vision_config": {**QWEN, "model_type": "qwen2_5_vl", "hidden_size": 1280},
        },
        (None, None, 1280, 32, -1, 36),
    ),
    "Qwen3-VL": (
        {
            "model_type": "qwen3_vl",
            "text_config": {"model_type": "qwen3_vl_text", "num_hidden_layers": 36},
            "vision_config": {"model_type": "qwen3_vl", "depth": 27, "hidden_size": 1152},
        },
        (None, None, 1152, 27, -1, 36),
    ),
    "InternVL": (
        {
            "model_type": "internvl",
            "downsample_ratio": 0.5,
            "text_config": {"model_type": "qwen2", "num_hidden_layers": 28},
            "vision_config": {"model_type": "internvl_vision", "image_size": [448, 448], "patch_size": [14, 14]},
            "vision_feature_layer": -1,
        },
        ((16, 16), None, 1024, 24, -1, 28),
    ),
    "Idefics3": (
        {
            "model_type": "idefics3",
            "scale_factor": 2,
            "text_config": {"model_type": "llama", "num_hidden_layers": 32},
            "vision_config": {"model_type": "idefics3", "image_size": 364, "patch_size": 14, "num_hidden_layers": 27},
        },
        ((13, 13), None, 1152, 27, -1, 32),
    ),
    "SmolVLM": (
        {
            "model_type": "smolvlm",
            "scale_factor": 4,
            "text_config": {"model_type": "llama", "num_hidden_layers": 30},
            "vision_config": {"model_type": "smolvlm_vision", "image_size": 512, "patch_size": 16, "hidden_size": 768},
        },
        ((8, 8), None, 768, 12, -1, 30),
    ),
    "Gemma 3": (
        {
            "model_type": "gemma3",
            "mm_tokens_per_image": 256,
            "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 34},
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 1152,
                "image_size": 896,
                "num_hidden_layers": 27,
                "patch_size": 14,
            },
        },
        ((16, 16), 256, 1152, 27, -1, 34),
    ),
}


def numbers(facts: Facts) -> tuple[Any, ...]:
    return (facts.grid, facts.n_visual, facts.encoder_width, facts.encoder_depth, facts.feature_layer, facts.depth)


@pytest.mark.parametrize(("config", "expected"), HUB.values(), ids=HUB)
def test_configs_of_the_hub(config: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    facts = read_facts(str(tmp_path), None)
    assert facts is not None
    assert facts.family is FAMILIES[config["model_type"]]
    assert numbers(facts) == expected
    # the library, which fills in what is left out, makes the same of it
    whole = CONFIG_MAPPING[config["model_type"]].from_dict(config).to_dict()
    assert facts_of(whole, "the library") == facts


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_facts_are_those_of_the_loaded_model(name: str, tmp_path: Path) -> None:
    model, processor = tiny(name)
    model.config.save_pretrained(tmp_path)
    facts = read_facts(str(tmp_path), None)
    assert facts is not None
    assert facts == facts_of(model.config.to_dict(), name)
    adapter = Adapter(model, processor, FAMILIES[name])
    assert facts.encoder is adapter.encoder
    assert (facts.encoder_depth, facts.depth) == (len(adapter.encoder_layers), len(adapter.layers))
    assert facts.feature_layer == adapter.feature_layer
    width = next(adapter.encoder_layers[0].parameters()).shape[0]
    assert facts.encoder_width == width == 32


def test_defaults_are_the_librarys() -> None:
    for kind, depth in DEFAULT_DEPTH.items():
        assert CONFIG_MAPPING[kind]().num_hidden_layers == depth, kind
    parts = [CONFIG_MAPPING[name]().vision_config for name in FAMILIES]
    classes = {part.model_type: type(part) for part in parts}
    assert sorted(classes) == sorted(DEFAULT_VISION) == sorted(ENCODERS)
    for kind, values in DEFAULT_VISION.items():
        whole = classes[kind]().to_dict()
        for key, value in values.items():
            found = whole[key]
            assert (found[0] if isinstance(found, list | tuple) else found) == value, (kind, key)
    for key, value in DEFAULT_MERGING.items():
        assert {getattr(CONFIG_MAPPING[name](), key, value) for name in FAMILIES} == {value}
    for name, family in FAMILIES.items():
        assert getattr(CONFIG_MAPPING[name](), "vision_feature_layer", -1) == family.feature_layer


def test_an_unknown_encoder_is_named_with_the_known() -> None:
    config = {"model_type": "llava", "vision_config": {"model_type": "pixtral"}}
    with pytest.raises(
        UserError, match="model 'm' has the vision encoder 'pixtral', which lofi cannot drive; supported: "
    ):
        facts_of(config, "m")
