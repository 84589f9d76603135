"""Loading a model and its processor, each by itself, and the limits of an image's pixels."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import lofi
from lofi.config import check_models, from_dict
from lofi.errors import UserError
from lofi.models.conversation import chat_inputs
from lofi.models.facts import missing_weights
from lofi.models.load import load_model, load_pretrained
from tests.families.tiny import FAMILY_NAMES, pictures, save, tiny

FREE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
QUESTION = "How many digits are in the image?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("saved")
    for name in FAMILY_NAMES:
        (root / name).mkdir()
        save(name, root / name)
    return {name: root / name for name in FAMILY_NAMES}


def sweep_of(folder: Path, **model: Any) -> Any:
    return from_dict(
        {
            "models": {"m": {"source": str(folder), **model}},
            "datasets": {"digits-pope": {}},
            "methods": {"random": {}},
            "keeps": [0.5],
        }
    )


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_a_model_and_its_processor_answer_without_an_adapter(name: str, folders: dict[str, Path]) -> None:
    model, processor = load_pretrained(str(folders[name]), dtype="float32", device="cpu")
    inputs = chat_inputs(processor, [([pictures()[0]], QUESTION)])
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert ids.shape[1] > inputs["input_ids"].shape[1]
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_loaded_as_such(dtype: str, folders: dict[str, Path]) -> None:
    for name in FAMILY_NAMES:
        model, _ = load_pretrained(str(folders[name]), dtype=dtype, device="cpu")
        assert {weight.dtype for weight in model.parameters()} == {getattr(torch, dtype)}, name


@pytest.mark.parametrize("name", FREE)
def test_limits_of_pixels_change_how_many_tokens_an_image_has(name: str, folders: dict[str, Path]) -> None:
    image = pictures()[1]

    def tokens(**limits: int) -> int:
        adapter = load_model(str(folders[name]), dtype="float32", device="cpu", **limits)  # type: ignore[arg-type]
        ids = chat_inputs(adapter.processor, [([image], QUESTION)])["input_ids"]
        return int((ids == adapter.config.image_token_id).sum())

    plain, fewer, more = tokens(), tokens(min_pixels=64, max_pixels=256), tokens(min_pixels=8192, max_pixels=16384)
    assert fewer < plain < more
    size = load_pretrained(str(folders[name]), device="cpu", max_pixels=1024)[1].image_processor.size
    assert (size["shortest_edge"], size["longest_edge"]) == (576, 1024)  # the other limit is the checkpoint's
    with pytest.raises(UserError, match="at least 9000 and at most 8000 pixels; give min_pixels and max_pixels that"):
        load_pretrained(str(folders[name]), device="cpu", min_pixels=9000, max_pixels=8000)
    check_models(sweep_of(folders[name], min_pixels=1024))


@pytest.mark.parametrize("name", [name for name in FAMILY_NAMES if name not in FREE])
def test_a_processor_of_fixed_sizes_has_no_such_limits(name: str, folders: dict[str, Path]) -> None:
    message = (
        "has min_pixels and max_pixels, but its processor brings images to fixed sizes, whatever theirs; remove them"
    )
    with pytest.raises(UserError, match=message):
        load_pretrained(str(folders[name]), device="cpu", min_pixels=64, max_pixels=128)
    with pytest.raises(UserError, match=r"models\.m: model .* has max_pixels, but"):
        check_models(sweep_of(folders[name], max_pixels=128))


def test_what_cannot_be_loaded_is_said_in_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    source = str(folders["llava"])
    with pytest.raises(UserError, match=r"unknown dtype 'float8': .*choose from auto, bfloat16, float16, float32"):
        load_pretrained(source, dtype="float8")
    with pytest.raises(UserError, match="unknown attention 'flash': choose from eager, sdpa"):
        load_pretrained(source, attention="flash")
    with pytest.raises(UserError, match="'nobody/none' is not on this machine; run `lofi prepare --model`"):
        load_pretrained("nobody/none")
    other = shutil.copytree(folders["llava"], tmp_path / "other")
    (other / "config.json").write_text('{"model_type": "blip-2"}')
    with pytest.raises(
        UserError, match=f"'blip-2', which lofi cannot drive; supported: {', '.join(sorted(FAMILY_NAMES))}"
    ):
        load_pretrained(str(other))


def test_a_shard_that_is_missing_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    model, processor = load_pretrained(str(folders["llava"]), device="cpu")
    model.save_pretrained(folder, max_shard_size="100KB")
    processor.save_pretrained(folder)
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 1
    assert missing_weights(folder) == []
    load_pretrained(str(folder), device="cpu")
    shards[1].unlink()
    assert missing_weights(folder) == [shards[1].name]
    with pytest.raises(UserError, match=f"is on this machine without {shards[1].name}"):
        load_pretrained(str(folder), device="cpu")


def test_an_encoder_that_is_read_at_several_layers_is_refused_in_one_line() -> None:
    model, _ = tiny("llava")
    model.config.vision_feature_layer = [-2, -1]
    block = lofi.reduce(model, "lofi", keep=0.5)
    with pytest.raises(UserError, match=r"reads the encoder layers \[-2, -1\] side by side"):
        block.__enter__()
