"""The text tower gives what transformers' own CLIP gives, and cuts long texts into segments."""

import json
import shutil
import string
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from lofi.errors import UserError
from lofi.methods.context import TextTower
from lofi.models.clip_text import ClipTextTower, load_text_tower

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = [*string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase), START, END]
SHORT = "is it a red ball"
LONG = " ".join("one two three four five six seven" for _ in range(6))


def save_clip(folder: Path, *, eos: int = 2, width: int = 24) -> Path:
    """An untrained CLIP with one token for each letter; `eos` as the config has it, `width` of its vision encoder."""
    text = CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=VOCABULARY.index(START),
        eos_token_id=eos,
        pad_token_id=VOCABULARY.index(END),
    )
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
        for parameter in model.parameters():  # layer norms that start as the identity would hide a missing one
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(folder)
    tokenizer = CLIPTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)}, merges=[], model_max_length=77)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["legacy", "exact"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds of config on the hub: the old end id 2, which pools at the highest id, and the true one."""
    eos = 2 if request.param == "legacy" else VOCABULARY.index(END)
    return save_clip(tmp_path_factory.mktemp("clip"), eos=eos)


@pytest.fixture(scope="module")
def tower(folder: Path) -> ClipTextTower:
    return load_text_tower(str(folder), None, "cpu", "float32")


@pytest.fixture(scope="module")
def clip(folder: Path) -> CLIPModel:
    return CLIPModel.from_pretrained(folder).eval()


def features(clip: CLIPModel, ids: list[int]) -> Tensor:
    """transformers' own embedding of one text, not padded."""
    with torch.inference_mode():
        pooled: Tensor = clip.get_text_features(input_ids=torch.tensor([ids])).pooler_output
    return pooled


def test_a_short_text_is_one_segment(folder: Path, tower: TextTower, clip: CLIPModel) -> None:
    ids = CLIPTokenizer.from_pretrained(folder)(SHORT)["input_ids"]
    assert ids[0] == VOCABULARY.index(START)
    assert ids[-1] == VOCABULARY.index(END)
    expected = features(clip, ids)
    torch.testing.assert_close(tower.segments(SHORT), expected)
    torch.testing.assert_close(tower.sentence(SHORT), expected[0])


def test_a_long_text_is_cut_or_split(folder: Path, tower: TextTower, clip: CLIPModel) -> None:
    ids = CLIPTokenizer.from_pretrained(folder)(LONG)["input_ids"]
    assert len(ids) > 2 * 77
    assert len(ids) % 77
    expected = torch.cat([features(clip, ids[start : start + 77]) for start in range(0, len(ids), 77)])
    found = tower.segments(LONG)
    assert len(found) == len(ids) // 77 + 1
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(tower.sentence(LONG), features(clip, [*ids[:76], ids[-1]])[0])


def test_a_text_that_fills_its_segments_gets_no_empty_one(tower: TextTower) -> None:
    assert len(tower.segments("a" * 75)) == 1
    assert len(tower.segments("a" * 76)) == 2
    assert len(tower.segments("")) == 1


def test_patches_go_through_layer_norm_and_projection(tower: TextTower, clip: CLIPModel) -> None:
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        last = clip.vision_model(pixel_values=pixels).last_hidden_state[0]
        expected = clip.get_image_features(pixel_values=pixels).pooler_output[0]
    assert last.shape == (17, 24)
    torch.testing.assert_close(tower.patches(last)[0], expected)  # CLIP itself does so with the CLS token
    assert tower.patches(last[1:].bfloat16()).dtype == torch.float32


def test_half_precision_gives_float32(folder: Path, tower: ClipTextTower) -> None:
    half = load_text_tower(str(folder), None, torch.device("cpu"), torch.bfloat16)
    torch.testing.assert_close(half.segments(LONG), tower.segments(LONG), rtol=0.1, atol=0.1)


def test_a_tower_of_another_encoder_is_refused(tower: TextTower) -> None:
    with pytest.raises(UserError, match=r"width 24.* has 32"):
        tower.patches(torch.zeros(9, 32))


def test_folders_that_hold_no_clip_are_refused(folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(UserError, match="'llava'"):
        load_text_tower(str(tiny_model))
    with pytest.raises(UserError, match="not on this machine"):
        load_text_tower("nobody/no-such-clip")
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    assert json.loads((bare / "config.json").read_text())["model_type"] == "clip"
    with pytest.raises(UserError, match="safetensors"):
        load_text_tower(str(bare))
