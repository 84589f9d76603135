"""Conversation templates: exact strings, whatever the family, and what is refused."""

import shutil
from pathlib import Path

import pytest

import lofi
from lofi.errors import UserError
from lofi.models.conversation import chat_inputs, template_names, template_text
from lofi.models.facts import ASSETS
from lofi.models.load import load_model
from lofi.models.processor import load_processor, with_template
from tests.families import processors

from .engine_setup import random_image

USER = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: {image}\n{text} ASSISTANT:"
)
HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions. "
    "USER:  {image} {text} ASSISTANT: "
)
EXPECTED = {"vicuna_v1": USER, "vlmevalkit_llava": HUMAN}
TEXT = "What is it?\nAnswer briefly."


def written(processor: object, text: str) -> str:
    content = [{"type": "image"}, {"type": "text", "text": text}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)  # type: ignore[attr-defined]


@pytest.mark.parametrize("template", EXPECTED)
def test_a_built_in_template_writes_its_exact_text(template: str) -> None:
    assert template_names() == tuple(sorted(EXPECTED))
    made = {name: processors.processor(name) for name in ("llava", "qwen2_vl", "gemma3", "internvl")}
    made |= {name: load_processor(ASSETS / name) for name in ("digits-llava", "digits-qwen")}
    for name, processor in made.items():
        with_template(processor, template, name)
        assert written(processor, TEXT) == EXPECTED[template].format(image=processor.image_token, text=TEXT)


def test_a_loaded_model_is_asked_in_the_template() -> None:
    adapter = load_model("embedded:digits-llava", template="vicuna_v1", device="cpu")
    assert adapter.chat("Which?") == USER.format(image="<image>", text="Which?")
    ids = chat_inputs(adapter.processor, [([random_image(0)], "Which?")])["input_ids"][0]
    tokenizer = adapter.processor.tokenizer
    expected = USER.format(image="<image>" * 144, text="Which?")
    assert ids.tolist() == tokenizer(expected)["input_ids"]


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text("Look: <image>{{ messages[0]['content'][1]['text'] }}")
    _, processor = lofi.load("embedded:digits-llava", device="cpu", template=str(path))
    assert written(processor, "Who?") == "Look: <image>Who?"


def test_what_is_no_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'vicuna' is not built in; choose from vicuna_v1, vlmevalkit_llava, or give"):
        template_text("vicuna")
    with pytest.raises(UserError, match=r"'none.jinja' cannot be read"):
        template_text("none.jinja")
    folder = shutil.copytree(ASSETS / "digits-llava", tmp_path / "mute")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template of its own; give its `template`: one of vicuna_v1"):
        load_model(str(folder), device="cpu")
    assert load_model(str(folder), device="cpu", template="vicuna_v1").chat("?").endswith("?" + " ASSISTANT:")
