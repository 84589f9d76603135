"""The page about a dataset of one's own: its files are made, its commands run, and print what the page says."""

import re
from pathlib import Path

import pytest
from PIL import Image

from lofi.cli import main
from lofi.config import from_dict
from lofi.data.docs import load_docs
from lofi.data.prepare import prepare
from lofi.data.registry import Card, get_card
from lofi.strict_yaml import read_mapping
from tests.datasets.folders import write_dataset

BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def blocks(repository: Path) -> dict[str, list[str]]:
    """The blocks of code of the page, by their language."""
    found: dict[str, list[str]] = {}
    for language, code in BLOCK.findall((repository / "docs" / "own_dataset.md").read_text(encoding="utf-8")):
        found.setdefault(language, []).append(code)
    return found


@pytest.fixture
def shelf(blocks: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the page, which is in the working directory."""
    folder = tmp_path / "shelf"
    (folder / "photos").mkdir(parents=True)
    for colour in ("red", "blue", "green"):
        Image.new("RGB", (8, 6), colour).save(folder / "photos" / f"{colour}.png")
    (folder / "questions.csv").write_text(blocks["csv"][0])
    (folder / "shelf.yaml").write_text(blocks["yaml"][0])
    get_card.cache_clear()
    monkeypatch.chdir(tmp_path)
    return folder


def change(path: Path, old: str, new: str) -> None:
    """Change a file in one place."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def run(block: str, capsys: pytest.CaptureFixture[str]) -> int:
    """Run the command of a block and compare what it prints; its exit status."""
    command, _, said = block.partition("\n")
    status = main(command.removeprefix("$ lofi ").split())
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("lofi ")]
    assert printed.out + "".join(f"{line}\n" for line in errors) == said
    return status


def test_what_the_page_prints(shelf: Path, blocks: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong_rows, wrong_card = blocks["console"]
    assert run(right, capsys) == 0
    table = (shelf / "questions.csv").read_text()
    lines = table.splitlines()
    lines[2] = lines[2].replace("blue.png", "blau.png")
    lines[4] = lines[4].replace("green,color", ",color")
    (shelf / "questions.csv").write_text("\n".join(lines))
    assert run(wrong_rows, capsys) == 1
    change(shelf / "shelf.yaml", "target: answer\n", "target: answers\n")
    get_card.cache_clear()
    assert run(wrong_card, capsys) == 2


def test_the_table_becomes_docs(shelf: Path, tmp_path: Path) -> None:
    card = get_card("shelf/shelf.yaml")
    prepare(card, tmp_path / "out", prompt_style="plain")
    docs = load_docs(tmp_path / "out").rows
    assert [doc.sample_id for doc in docs] == ["1", "2", "3", "4"]
    assert [doc.target for doc in docs] == ["red", "blue", "one", "green"]
    assert [doc.category for doc in docs] == ["color", "color", "count", "color"]
    assert docs[1].image_hash == docs[2].image_hash != docs[0].image_hash
    assert all(doc.image_error is None for doc in docs)


def test_the_sweep_of_the_page_is_one(shelf: Path, blocks: dict[str, list[str]], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"models: {{digits: {{source: 'embedded:digits-llava'}}}}\nmethods: {{random: {{}}}}\nkeeps: [0.5]\n{blocks['yaml'][1]}"
    )
    spec = from_dict(read_mapping(config)).dataset("shelf")
    assert get_card(spec.card_name).title == "Boxes on a shelf"


def test_a_card_like_another_reads_a_folder_in_its_columns(blocks: dict[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(blocks["yaml"][2].replace("our-group/our-pope", "./hub"))
    write_dataset("pope", tmp_path / "hub")
    card = get_card(str(tmp_path / "mine.yaml"))
    prepare(card, tmp_path / "out", prompt_style="lmms_eval")
    assert len(load_docs(tmp_path / "out").rows) == 12


def test_every_entry_is_on_the_page(repository: Path) -> None:
    page = (repository / "docs" / "own_dataset.md").read_text(encoding="utf-8")
    entries = page.partition("## The entries\n")[2]
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", entries, re.MULTILINE))))
    assert named == Card.__dataclass_fields__.keys() - {"name"}
