"""Batches for the language model: many questions about each scene, packed behind its picture."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lofi.data.digits.questions import (
    DIGITS,
    LETTERS,
    Question,
    absent,
    caption,
    colour_of,
    count,
    existence,
    lettered,
    lettered_question,
    reading,
    unique_colours,
)
from lofi.data.digits.scenes import COLOUR_NAMES, Scene
from lofi.training.words import CAPTION_PROMPT, Dialect, encode, token_ids

OPEN_WIDTH, LETTER_WIDTH = 21, 40  # question, answer and its end; what asks for the answer comes on top
IGNORE = -100
SINGLE_ANSWER = ("color", "reading", "count", "lookup")
CAPTION_WEIGHT, END_WEIGHT = 0.3, 0.2


@dataclass(frozen=True)
class Pack:
    """q questions about each of b scenes, w columns each, right padded with 0."""

    ids: Tensor  # (b, q, w) long: prompt, answer, end
    lengths: Tensor  # (b, q) long
    weights: Tensor  # (b, q, w) float: weight of the loss on *predicting* this column's token
    words: Tensor  # (b, q, w) bool: prompt columns, where digit and colour words are looked up in the picture
    options: Tensor  # (b, q, w) long: 1 right option, 0 wrong option, IGNORE elsewhere
    answer_at: Tensor  # (b, q) long: column of the first answer token
    known: Tensor  # (b, q, w) long: token id of the answer in words where a prompt column can know it, else IGNORE
    skills: list[list[str]]
    digit_colours: Tensor  # (b, 10) long: 0 absent, else colour + 1

    def to(self, device: torch.device) -> "Pack":
        """The same pack with its tensors on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Pack(**{**vars(self), **moved})


def open_question(skill: str, scene: Scene, rng: np.random.Generator) -> Question:
    """A question with a single-word answer, or a caption."""
    if skill == "existence":
        present = rng.random() < 0.5
        return existence(int(rng.choice(scene.digits if present else absent(scene))), scene)
    if skill == "reading" and unique_colours(scene):
        return reading(str(rng.choice(unique_colours(scene))), scene)
    if skill in ("color", "reading"):
        return colour_of(int(rng.choice(scene.digits)), scene)
    if skill == "count":
        return count(scene)
    return Question(CAPTION_PROMPT, caption(scene), "caption")


def letter_question(skill: str, scene: Scene, rng: np.random.Generator) -> Question:
    """A lettered question; `lookup` needs no picture: find the word among the options."""
    if skill == "lookup":
        pool = COLOUR_NAMES if rng.random() < 0.4 else DIGITS
        words = [str(word) for word in rng.choice(pool, 4, replace=False)]
        return lettered(Question(words[0], words[0], skill), words[1:], rng)
    if skill == "reading" and not unique_colours(scene):
        skill = "color"
    return lettered_question(skill, scene, rng)


def build_pack(dialect: Dialect, scenes: list[Scene], questions: list[list[Question]], width: int) -> Pack:
    """Tokenise and lay out the questions of each scene, in `width` columns and those that ask for the answer."""
    shape = (len(scenes), len(questions[0]), width + len(encode(dialect, dialect.reply)))
    ids, weights = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    words, options = np.zeros(shape, bool), np.full(shape, IGNORE, np.int64)
    lengths, answer_at = np.zeros(shape[:2], np.int64), np.zeros(shape[:2], np.int64)
    known = np.full(shape, IGNORE, np.int64)
    vocabulary = token_ids(dialect)
    end = vocabulary[dialect.end]
    for row, asked in enumerate(questions):
        for column, question in enumerate(asked):
            place = (row, column)
            text, answer = _spoken(question)
            prompt, reply = encode(dialect, text + dialect.reply), encode(dialect, answer)
            size = len(prompt) + len(reply) + 1
            ids[place][:size] = (*prompt, *reply, end)
            lengths[place], answer_at[place] = size, len(prompt)
            words[place][: len(prompt)] = True
            weights[place][len(prompt) : size - 1] = CAPTION_WEIGHT if question.skill == "caption" else 1.0
            weights[place][size - 1] = END_WEIGHT
            first = len(encode(dialect, question.text))
            if question.skill in SINGLE_ANSWER:  # after the question there is one answer, whatever the options
                known[place][first : len(prompt)] = vocabulary[_in_words(question)]
            if question.choices:
                for number in range(len(question.choices)):  # each option is newline, letter, stop, word
                    options[place][first + 4 * number + 3] = LETTERS[number] == question.answer
    arrays = {"ids": ids, "lengths": lengths, "weights": weights, "words": words, "options": options}
    tensors = {name: torch.from_numpy(a) for name, a in (arrays | {"answer_at": answer_at, "known": known}).items()}
    return Pack(
        **tensors,
        skills=[[question.skill for question in asked] for asked in questions],
        digit_colours=torch.tensor([_digit_colours(scene) for scene in scenes]),
    )


def _spoken(question: Question) -> tuple[str, str]:
    """Prompt and answer as the model says them: a capital for Yes and No, no suffix for captions."""
    if question.skill == "caption":
        return question.text, question.answer
    answer = question.answer.capitalize() if question.skill == "existence" else question.answer
    return question.prompt, answer


def _in_words(question: Question) -> str:
    return question.choices[LETTERS.index(question.answer)] if question.choices else question.answer


def _digit_colours(scene: Scene) -> list[int]:
    table = [0] * 10
    for placed in scene.placed:
        table[placed.digit] = COLOUR_NAMES.index(placed.colour) + 1
    return table
