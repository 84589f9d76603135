"""`lofi.score`: answers and logits of any model for users' own questions, read as the engine reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from lofi.engine.readout import Choice, Options, choose, option_forms
from lofi.errors import UserError
from lofi.models.adapter import Adapter
from lofi.models.conversation import chat_inputs
from lofi.models.families import get_family


@dataclass(frozen=True)
class Scores:
    """What a model says to m questions."""

    answers: tuple[str, ...]  # the likeliest option, or the generated text where there are none
    logits: Tensor  # (m, v) float32, at the first answer position
    choices: tuple[Choice | None, ...]  # the options' log-probabilities


@torch.inference_mode()
def score(
    model: Any,
    processor: Any,
    images: Sequence[Image],
    questions: Sequence[str],
    options: Sequence[str] | Sequence[Sequence[str]] | None = None,
    *,
    max_new_tokens: int = 16,
    batch: int = 8,
) -> Scores:
    """Answer each question about its image. Inside `lofi.reduce` the reduced model answers.

    options: the labels to choose between, for all questions or for each; None generates greedily.
    """
    if len(images) != len(questions):
        raise UserError(f"{len(images)} images and {len(questions)} questions; give one image to each question")
    if not questions:
        raise UserError("there is no question; give at least one")
    adapter = Adapter(model, processor, get_family(model.config.to_dict(), type(model).__name__))
    offered = _options(processor, options, len(questions))
    parts = [
        _part(adapter, images[at], questions[at], offered[at], max_new_tokens)
        for at in (slice(start, start + batch) for start in range(0, len(questions), batch))
    ]
    return Scores(
        answers=tuple(answer for part in parts for answer in part.answers),
        logits=torch.cat([part.logits for part in parts]),
        choices=tuple(choice for part in parts for choice in part.choices),
    )


def _options(processor: Any, options: Sequence[Any] | None, m: int) -> list[Options]:
    """The options of each question, with the tokens that open them."""
    if options is None:
        return [Options((), ())] * m
    each: list[Sequence[str]] = [options] * m if all(isinstance(label, str) for label in options) else list(options)
    if len(each) != m:
        raise UserError(f"options for {len(each)} of {m} questions; give one list for all, or one to each question")
    forms = {label: option_forms(processor.tokenizer, label) for labels in each for label in labels}
    return [Options(tuple(labels), tuple(forms[label] for label in labels)) for labels in each]


def _part(
    adapter: Adapter, images: Sequence[Image], questions: Sequence[str], options: Sequence[Options], budget: int
) -> Scores:
    prompts = [([image.convert("RGB")], question) for image, question in zip(images, questions, strict=True)]
    inputs = chat_inputs(adapter.processor, prompts).to(adapter.device, adapter.dtype)
    logits = adapter.model(**inputs, logits_to_keep=1).logits[:, -1].float()
    logp = logits.double().log_softmax(-1).cpu().numpy()
    choices = tuple(choose(row, offered) for row, offered in zip(logp, options, strict=True))
    texts = [""] * len(choices)
    if None in choices:
        ids = adapter.model.generate(**inputs, do_sample=False, max_new_tokens=budget)  # type: ignore[operator]
        new = ids[:, inputs["input_ids"].shape[1] :]
        texts = [text.strip() for text in adapter.processor.tokenizer.batch_decode(new, skip_special_tokens=True)]
    answers = tuple(choice.label if choice else text for choice, text in zip(choices, texts, strict=True))
    return Scores(answers, logits.cpu(), choices)
