"""Conversations: the text around a question. A checkpoint has a template of its own; a sweep may name another.

A built-in template writes `<image>` where an image stands; a loaded processor puts its own token there. No torch here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lofi.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Path(__file__).parent / "templates"
IMAGE = "<image>"


def template_names() -> tuple[str, ...]:
    """The built-in templates."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.jinja")))


def template_text(template: str) -> str:
    """The Jinja text of a built-in template, or of a .jinja file."""
    if template in template_names():
        path = FOLDER / f"{template}.jinja"
    elif template.endswith(".jinja"):
        path = Path(template).expanduser()
    else:
        raise UserError(
            f"template {template!r} is not built in; choose from {', '.join(template_names())}, or give a .jinja file"
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"template {template!r} cannot be read ({error}); give a readable .jinja file") from None


def template_for(template: str, image_token: str) -> str:
    """The same for a processor that knows images by another token."""
    text = template_text(template)
    return text.replace(IMAGE, image_token) if template in template_names() else text


def chat_inputs(processor: Any, prompts: Sequence[tuple[Sequence["Image"], str]]) -> Any:
    """What a model takes for prompts of some images and a text each, by its own chat template, padded on the left."""
    turns = [
        [{"role": "user", "content": [*({"type": "image", "image": image} for image in images), _text(text)]}]
        for images, text in prompts
    ]
    # tokenized here, not from the text of the template: some write a first token that their tokenizer writes, too
    return processor.apply_chat_template(
        turns,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"return_tensors": "pt", "padding": True},
    )


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
