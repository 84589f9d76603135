"""How much a dataset asks: from its prepared files where they are, else from its card."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from lofi.data.docs import DOCS_FILE, IMAGES_FILE
from lofi.data.registry import get_card
from lofi.errors import UserError
from lofi.store import read_metadata
from lofi.sweep import GENERATE, DatasetSpec

PICTURE = (640, 480)  # of a dataset that is not prepared: most photographs of COCO
QUESTION_TOKENS = 64.0  # of a dataset that is not prepared, with the words of its prompt
LETTERS_PER_TOKEN = 4.0  # of English, where the model's tokenizer is not on this machine
MEASURED_PROMPTS = 200  # whose tokens are counted
TEMPLATE_TOKENS = 6.0  # of the chat template behind a question


@dataclass(frozen=True)
class Asked:
    """One dataset under its limit: how many questions about how many pictures, and how large both are."""

    images: int
    questions: int
    prepared: bool
    picture: tuple[int, int]  # mean width and height
    prompts: tuple[str, ...] = ()  # some of them; none where the dataset is not prepared
    new_tokens: float = 0.0  # at most for an answer, in the mean; 0 where all are read from the logits

    def text(self, folder: Path | None) -> float:
        """Tokens of a question behind the image, counted by the tokenizer in a model's folder where there is one."""
        if not self.prompts:
            return QUESTION_TOKENS
        count = _counter(folder)
        return TEMPLATE_TOKENS + sum(map(count, self.prompts)) / len(self.prompts)


def read_asked(spec: DatasetSpec, data: Path) -> Asked:
    """What a dataset asks; `data` is the folder of all prepared datasets."""
    found = _prepared(spec, data / spec.name)
    if found is not None:
        return found
    card = get_card(spec.card_name)
    if not card.n_images:
        raise UserError(
            f"dataset {spec.name} is not prepared and its card has no count; run `lofi prepare --dataset {spec.name}`"
        )
    images = min(spec.limit or card.n_images, card.n_images)
    questions = round(card.n_questions * images / card.n_images)
    generates = spec.scoring_mode == GENERATE or "open" in card.tasks
    tokens = card.max_new_tokens if generates else 0
    return Asked(images, questions, prepared=False, picture=PICTURE, new_tokens=tokens)


def _prepared(spec: DatasetSpec, folder: Path) -> Asked | None:
    """What the prepared files say; None where there are none, or they were prepared with another limit."""
    docs, images = folder / DOCS_FILE, folder / IMAGES_FILE
    if not docs.is_file() or not images.is_file() or read_metadata(docs).get("limit") != spec.limit:
        return None
    rows = pq.read_table(docs, columns=["prompt", "option_labels", "max_new_tokens"])
    sizes = pq.read_table(images, columns=["width", "height"])
    if not rows.num_rows or not sizes.num_rows:
        return None
    width, height = (round(pc.mean(sizes.column(side)).as_py() or 0) for side in sizes.column_names)
    free = [spec.scoring_mode == GENERATE or not labels for labels in rows.column("option_labels").to_pylist()]
    longest = [
        most if is_free else 0 for most, is_free in zip(rows.column("max_new_tokens").to_pylist(), free, strict=True)
    ]
    step = max(1, rows.num_rows // MEASURED_PROMPTS)
    return Asked(
        images=sizes.num_rows,
        questions=rows.num_rows,
        prepared=True,
        picture=(width, height) if width and height else PICTURE,  # no picture decodes
        prompts=tuple(rows.column("prompt").to_pylist()[::step]),
        new_tokens=sum(longest) / len(longest),
    )


def _counter(folder: Path | None) -> Callable[[str], float]:
    path = folder and folder / "tokenizer.json"
    if not path or not path.is_file():
        return lambda text: len(text) / LETTERS_PER_TOKEN
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: float(len(tokenizer.encode(text, add_special_tokens=False).ids))
