"""The folders that mistakes are made in: a config alone, a dataset of one's own, a sweep that ran to its end."""

import atexit
import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml
from PIL import Image

from lofi.cli import main
from tests.conftest import write_tiny_model

CONFIG = {
    "models": {"digits-llava": {}},
    "datasets": {"digits-pope": {"limit": 2}},
    "methods": {"grid_1d": {}, "lofi": {}},
    "keeps": [0.25],
}
CARD = {
    "title": "Boxes on a shelf",
    "source": "questions.csv",
    "split": "all",
    "columns": ["id", "photo", "question", "answer"],
    "image": "photo",
    "question": "question",
    "target": "answer",
    "sample_id": "{id}",
    "task": "yesno",
    "scorer": "pope",
    "max_new_tokens": 8,
    "prompts": {"plain": "{question}\nAnswer with yes or no."},
}
QUESTIONS = """id,photo,question,answer
1,red.png,Is the box red?,yes
2,blue.png,Is the box red?,no
3,blue.png,Is the box blue?,yes
"""


def write_config(folder: Path, **changes: object) -> None:
    """The config of the folder, with some of its entries replaced."""
    text = yaml.safe_dump({**CONFIG, **changes}, sort_keys=False)
    (folder / "config.yaml").write_text(text)


def write_shelf(folder: Path, **changes: object) -> None:
    """A dataset of one's own, with some entries of its card replaced, or left out where the value is `...`."""
    shelf = folder / "shelf"
    shelf.mkdir(exist_ok=True)
    for colour in ("red", "blue"):
        Image.new("RGB", (8, 6), colour).save(shelf / f"{colour}.png")
    (shelf / "questions.csv").write_text(QUESTIONS)
    card = {key: value for key, value in {**CARD, **changes}.items() if value is not ...}
    (shelf / "shelf.yaml").write_text(yaml.safe_dump(card, sort_keys=False))
    write_config(folder, datasets={"mine": {"card": "shelf/shelf.yaml", "prompt_style": "plain"}})


def write_model(folder: Path) -> None:
    """A config whose model is an untrained one in a folder beside it."""
    write_config(folder, models={"tiny": {"source": "./model"}}, stability_images=0)
    write_tiny_model(folder / "model")


def write_prepared(folder: Path) -> None:
    """The same, with its dataset prepared."""
    shutil.copytree(made(write_model), folder, dirs_exist_ok=True)
    run(["prepare", "--dataset", "digits-pope"], folder)


def write_finished(folder: Path) -> None:
    """The same, with every cell and every table."""
    shutil.copytree(made(write_prepared), folder, dirs_exist_ok=True)
    for stage in ("reference", "evaluate"):
        run([stage, "--model", "tiny", "--dataset", "digits-pope"], folder)
    run(["aggregate"], folder)


def run(arguments: list[str], folder: Path) -> None:
    """A command that has to succeed."""
    with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(arguments)
    assert code == 0, said.getvalue()


@cache
def made(write: Callable[[Path], None]) -> Path:
    """A folder that is made once in a process. Nothing may be changed in it: copy it."""
    folder = Path(tempfile.mkdtemp(prefix="lofi-errors-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write(folder)
    return folder
