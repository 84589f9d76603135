"""The three digit datasets as folders that load like their originals on the hub: POPE, ScienceQA and VQAv2.

Only evaluation handwriting is drawn. The same name, size and seed give the same bytes.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lofi.data.digits.questions import LETTERS, Question, pope_questions, sqa_questions, vqa_questions
from lofi.data.digits.scenes import Scene, draw, sample_scene

Row = dict[str, Any]
SKILL_NAMES = {
    "presence": "Find a number",
    "color": "Name a color",
    "reading": "Read a number by its color",
    "count": "Count numbers",
}
QUESTION_TYPES = {"color": "what color is the", "count": "how many", "reading": "which"}


@dataclass(frozen=True)
class Layout:
    """How one dataset looks on the hub."""

    original: str
    config: str
    split: str
    offset: int  # scenes of different datasets come from different seeds
    ask: Callable[[Scene, np.random.Generator], list[Question]]
    columns: dict[str, str]  # name to type, in the order of the original
    row: Callable[[Question, int, int], Row]  # (question, image number, question number in the image)


def _pope_row(question: Question, image: int, number: int) -> Row:
    return {
        "id": str(image * 4 + number),
        "question_id": str(image * 4 + number + 1),
        "question": question.text,
        "answer": question.answer,
        "image_source": f"digits_{image:012d}",
        "category": question.category,
    }


def _sqa_row(question: Question, image: int, number: int) -> Row:
    return {
        "question": question.text,
        "choices": list(question.choices),
        "answer": LETTERS.index(question.answer),
        "hint": "",
        "task": "closed choice",
        "grade": "grade1",
        "subject": "natural science",
        "topic": "digits",
        "category": "Digit scenes",
        "skill": SKILL_NAMES[question.skill],
        "lecture": "",
        "solution": "",
    }


def _vqa_row(question: Question, image: int, number: int) -> Row:
    answers = [{"answer": question.answer, "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)]
    return {
        "question_type": QUESTION_TYPES[question.skill],
        "multiple_choice_answer": question.answer,
        "answers": answers,
        "image_id": image + 1,
        "answer_type": "other" if question.skill == "color" else "number",
        "question_id": (image + 1) * 1000 + number,
        "question": question.text,
    }


_STRING, _IMAGE = "string", "image"
LAYOUTS: dict[str, Layout] = {
    "digits-pope": Layout(
        original="POPE",
        config="default",
        split="test",
        offset=1,
        ask=pope_questions,
        columns={
            **dict.fromkeys(("id", "question_id", "question", "answer", "image_source"), _STRING),
            "image": _IMAGE,
            "category": _STRING,
        },
        row=_pope_row,
    ),
    "digits-sqa": Layout(
        original="ScienceQA",
        config="ScienceQA-IMG",
        split="test",
        offset=2,
        ask=sqa_questions,
        columns={
            "image": _IMAGE,
            "question": _STRING,
            "choices": "strings",
            "answer": "int8",
            **dict.fromkeys(("hint", "task", "grade", "subject", "topic"), _STRING),
            **dict.fromkeys(("category", "skill", "lecture", "solution"), _STRING),
        },
        row=_sqa_row,
    ),
    "digits-vqa": Layout(
        original="VQAv2",
        config="default",
        split="validation",
        offset=3,
        ask=vqa_questions,
        columns={
            "question_type": _STRING,
            "multiple_choice_answer": _STRING,
            "answers": "answers",
            "image_id": "int64",
            "answer_type": _STRING,
            "question_id": "int64",
            "question": _STRING,
            "image": _IMAGE,
        },
        row=_vqa_row,
    ),
}
CARD = """---
configs:
- config_name: {config}
  data_files:
  - split: {split}
    path: data/{split}-*
license: cc-by-4.0
---
# {name}

{images} generated scenes of handwritten digits in colour, {rows} questions, in the columns of {original}.
Seed {seed}. The digits are the last 400 images of the UCI ML hand-written digits (scikit-learn's `load_digits`).
"""


def write_folder(name: str, folder: Path, *, n_images: int = 300, seed: int = 0) -> None:
    """Write one of the digit datasets as a folder that `datasets.load_dataset` reads offline."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lofi.store import replacing

    layout = _layout(name)
    if n_images < 1:
        raise ValueError(f"n_images is {n_images}; a dataset needs at least one image")
    rows = dataset_rows(name, n_images=n_images, seed=seed)
    table = pa.Table.from_pylist(rows, schema=_features(layout).arrow_schema)
    with replacing(folder / "data" / f"{layout.split}-00000-of-00001.parquet") as made:
        # zstd finds the picture that neighbouring rows repeat; snappy would store every copy.
        pq.write_table(table, made, compression="zstd", row_group_size=100 * len(rows) // n_images)
    card = CARD.format(**vars(layout), name=name, images=n_images, rows=len(rows), seed=seed)
    with replacing(folder / "README.md") as made:
        made.write_text(card, encoding="utf-8")


def dataset_rows(name: str, *, n_images: int, seed: int) -> list[Row]:
    """The rows of a dataset; pictures as the hub stores them, PNG bytes and a path."""
    make = _layout(name).row
    rows: list[Row] = []
    for image, (scene, questions) in enumerate(asked_scenes(name, n_images=n_images, seed=seed)):
        picture = {"bytes": _png(scene), "path": f"{image:06d}.png"}
        rows += [{**make(question, image, n), "image": picture} for n, question in enumerate(questions)]
    return rows


def asked_scenes(name: str, *, n_images: int, seed: int) -> Iterator[tuple[Scene, list[Question]]]:
    """The scenes of a dataset with their questions, from handwriting that no training ever sees."""
    layout = _layout(name)
    for image in range(n_images):
        scene = sample_scene(1_000_000 * layout.offset + seed, image, split="evaluation")
        yield scene, layout.ask(scene, np.random.default_rng([seed, layout.offset, image]))


def _layout(name: str) -> Layout:
    try:
        return LAYOUTS[name]
    except KeyError:
        raise ValueError(f"unknown dataset {name!r}; choose from {', '.join(sorted(LAYOUTS))}") from None


def _png(scene: Scene) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(draw(scene)).save(buffer, format="PNG")
    return buffer.getvalue()


def _features(layout: Layout) -> Any:
    from datasets import Features, Image, List, Value

    kinds = {
        "image": Image(),
        "strings": List(Value("string")),
        "answers": List(
            {
                "answer": Value("string"),
                "answer_confidence": Value("string"),
                "answer_id": Value("int64"),
            }
        ),
    }
    return Features({name: kinds.get(kind) or Value(kind) for name, kind in layout.columns.items()})
