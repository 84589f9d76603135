"""A batch of images with their questions, read and encoded once for all cells."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lofi.data.docs import Doc
from lofi.engine.photo import Photo
from lofi.engine.questions import Prefix, Questions, gather_questions
from lofi.engine.readout import Options
from lofi.methods.context import Question, TextTower, VisualContext
from lofi.models.adapter import Adapter
from lofi.models.encoded import Encoded
from lofi.models.opened import Opened, of_one_geometry, placed, together
from lofi.models.pictures import Picture


@dataclass(frozen=True)
class OpenPhoto:
    """A photo and what the processor made of its image; or why it made nothing of it."""

    photo: Photo
    picture: Picture | None
    error: str = ""


@dataclass(frozen=True)
class Batch:
    """b encoded images; sample s of m asks question `question[s]` of image `image[s]`."""

    photos: tuple[Photo, ...]
    encoded: Encoded
    questions: Questions
    docs: tuple[Doc, ...]
    options: tuple[Options, ...]
    image: np.ndarray
    question: np.ndarray
    t_vision_ms: float  # per sample
    tower: TextTower | None = None  # of the model, for reducers that see the question

    @property
    def n_visual(self) -> int:
        """n, the visual tokens of one image."""
        return int(self.encoded.projected.shape[1])

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the visual tokens: a single line where they are of several tiles."""
        grids = self.encoded.geometry.grids
        return grids[0] if len(grids) == 1 else (1, self.n_visual)

    def context(self, row: int, *, sees_text: bool) -> VisualContext:
        """What a reducer sees of an image; one that sees the question needs a batch of one question per row."""
        key = self.photos[row].key
        if not sees_text:
            return self.encoded.context(row, key)
        if len(self.docs) != len(self.photos):
            raise RuntimeError("a question can be seen only where each row of the batch has one")
        adapter, text = self.encoded.images.adapter, self.docs[row].prompt
        question = Question(text, adapter.embed(adapter.text_ids(text)))
        return self.encoded.context(row, key, question=question, tower=self.tower)

    def by_sample(self, size: int) -> Iterator["Batch"]:
        """The same samples as batches of at most `size` rows, each with its own image and one question.

        Questions of one length come together, so that rows need little padding.
        """
        asked_lengths = self.questions.lengths[self.image, self.question]
        order = asked_lengths.sort(stable=True).indices.cpu().numpy()
        for start in range(0, len(self.docs), size):
            rows = order[start : start + size]
            image, question, lengths = self.image[rows], self.question[rows], asked_lengths[rows]
            asked = self.questions.after[image, question, : int(lengths.max())]
            yield replace(
                self,
                photos=tuple(self.photos[i] for i in image),
                encoded=self.encoded.take(image.tolist()),
                questions=Questions(self.questions.before, asked[:, None], lengths[:, None], self.questions.spare),
                docs=tuple(self.docs[i] for i in rows),
                options=tuple(self.options[i] for i in rows),
                image=np.arange(len(image)),
                question=np.zeros(len(image), dtype=np.int64),
            )


@dataclass(frozen=True)
class Failed:
    """Samples that cannot be evaluated, and why."""

    docs: tuple[Doc, ...]
    error: str


def askable(photos: Sequence[Photo]) -> tuple[list[Photo], list[Failed]]:
    """Photos with the questions that can be asked about them; those that `prepare` found fault with are failed."""
    asked, failed = [], []
    for photo in photos:
        failed += [Failed((doc,), doc.image_error) for doc in photo.docs if doc.image_error]
        if good := tuple(doc for doc in photo.docs if not doc.image_error):
            asked.append(replace(photo, docs=good))
    return asked, failed


def make_batches(
    adapter: Adapter,
    opened: Sequence[tuple[Photo, Picture]],
    layers: Collection[int],
    tokenize: Callable[[str], tuple[int, ...]],
    options_of: Callable[[Doc], Options],
    tower: TextTower | None = None,
) -> list[Batch]:
    """Encode the opened images and lay out their questions: one batch for each geometry."""
    photos = [photo for photo, _ in opened]
    inputs = [placed(adapter, picture) for _, picture in opened]
    return [
        _make_batch(
            adapter,
            tuple(photos[i] for i in group),
            together([inputs[i] for i in group]),
            layers,
            tokenize,
            options_of,
            tower,
        )
        for group in of_one_geometry(inputs)
    ]


def _make_batch(
    adapter: Adapter,
    photos: tuple[Photo, ...],
    opened: Opened,
    layers: Collection[int],
    tokenize: Callable[[str], tuple[int, ...]],
    options_of: Callable[[Doc], Options],
    tower: TextTower | None,
) -> Batch:
    docs = tuple(doc for photo in photos for doc in photo.docs)
    start = clock(adapter)
    encoded = adapter.encode(opened, layers)
    elapsed = clock(adapter) - start
    prompts = [[tokenize(doc.prompt) for doc in photo.docs] for photo in photos]
    return Batch(
        photos=photos,
        encoded=encoded,
        questions=gather_questions(_prefix(adapter, opened, encoded), prompts, adapter.device),
        docs=docs,
        options=tuple(options_of(doc) for doc in docs),
        image=np.array([i for i, photo in enumerate(photos) for _ in photo.docs]),
        question=np.array([j for photo in photos for j in range(len(photo.docs))]),
        t_vision_ms=1000 * elapsed / len(docs),
        tower=tower,
    )


def _prefix(adapter: Adapter, opened: Opened, encoded: Encoded) -> Prefix:
    placeholders = adapter.placeholders(opened.before).nonzero()[:, 0]
    columns = opened.before, opened.positions, placeholders, placeholders[encoded.geometry.order]
    return Prefix(*(each.to(adapter.device) for each in columns))


def clock(adapter: Adapter) -> float:
    """Seconds, after the device has caught up."""
    if adapter.device.type == "cuda":
        torch.cuda.synchronize(adapter.device)
    return time.perf_counter()
