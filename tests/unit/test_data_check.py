"""`lofi data check`: a user's dataset as a table with paths, in each of the ways it can be wrong."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from lofi.cli import main
from lofi.data.docs import load_docs, read_images
from lofi.data.prepare import prepare
from lofi.data.registry import get_card
from lofi.errors import UserError

from .test_prepare import NASTY, POPE, hub_folder, plain

CARD: dict[str, Any] = {
    "title": "Signs",
    "source": "signs.csv",
    "split": "all",
    "columns": ["file", "question", "a", "b", "c", "answer", "kind"],
    "image": "file",
    "question": "question",
    "options": ["a", "b", "c"],
    "target": "answer",
    "category": "kind",
    "sample_id": "{row:03d}",
    "task": "mcq",
    "scorer": "scienceqa",
    "max_new_tokens": 8,
    "prompts": {"plain": "{question}\n{options:lettered}", "other": "{question:strip}"},
}
HEADER = CARD["columns"]
GOOD = [
    ["images/red.png", "Which colour?", "red", "blue", "", "A", "colour"],
    ["images/blue.png", "Which\ncolour, then?", "red", "blue", "pink", "B", "colour"],
    ["images/red.png", "How many?", "one", "two", "", "0", "count"],
]


def own(folder: Path, rows: list[list[str]], **changes: Any) -> Path:
    """A card beside its table and images."""
    (folder / "images").mkdir(parents=True)
    for colour in ("red", "blue"):
        (folder / "images" / f"{colour}.png").write_bytes(plain(colour))
    (folder / "images" / "broken.jpg").write_bytes(b"GIF89a?")
    with (folder / "signs.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    (folder / "my.yaml").write_text(yaml.safe_dump(CARD | changes, sort_keys=False))
    return folder / "my.yaml"


def test_nothing_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    card = own(tmp_path / "here", GOOD)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["data", "check", str(card)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "my: 3 rows, 2 images (0 missing or broken), prompt style plain, scorer scienceqa version 1",
        "tasks: 'mcq' 3",
        "answers: 'A' 2, 'B' 1",
        "categories: 'colour' 2, 'count' 1",
        "the first prompt:",
        "  | Which colour?",
        "  | A. red",
        "  | B. blue",
        "nothing is wrong",
    ]
    assert main(["data", "check", str(card), "--limit", "1", "--prompt-style", "other"]) == 0
    said = capsys.readouterr().out
    assert "my: 2 rows, 1 images" in said
    assert "  | Which colour?\nnothing" in said
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_checked_is_what_is_prepared(tmp_path: Path) -> None:
    prepare(get_card(str(own(tmp_path / "csv", GOOD))), tmp_path / "out", prompt_style="plain")
    docs = load_docs(tmp_path / "out")
    assert [doc.sample_id for doc in docs.rows] == ["000", "002", "001"]
    assert [doc.options for doc in docs.rows] == [("red", "blue"), ("one", "two"), ("red", "blue", "pink")]
    assert [doc.target for doc in docs.rows] == ["A", "A", "B"]
    assert set(read_images(tmp_path / "out", {doc.image_hash for doc in docs.rows}).values()) == {
        plain("red"),
        plain("blue"),
    }
    # the same rows as JSON lines, tab-separated, and as a folder of images with their table
    rows = [dict(zip(HEADER, row, strict=True)) for row in GOOD]
    folder = tmp_path / "csv"
    (folder / "signs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    with (folder / "signs.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([HEADER, *GOOD])
    (folder / "images" / "broken.jpg").unlink()
    images = tmp_path / "imagefolder"
    images.mkdir()
    for colour in ("red", "blue"):
        (images / f"{colour}.png").write_bytes(plain(colour))
    listed = [{"file_name": Path(row.pop("file")).name} | row for row in rows]
    (images / "metadata.jsonl").write_text("\n".join(map(json.dumps, listed)))
    for source in ("signs.jsonl", "signs.tsv"):
        (folder / "twin.yaml").write_text(yaml.safe_dump(CARD | {"source": source}))
        prepare(get_card(str(folder / "twin.yaml")), tmp_path / source, prompt_style="plain")
        assert load_docs(tmp_path / source).rows == docs.rows
    columns = ["image", *HEADER[1:]]
    own(tmp_path / "twin", GOOD, source=str(images), image="image", columns=columns, split="train")
    prepare(get_card(str(tmp_path / "twin" / "my.yaml")), tmp_path / "folder", prompt_style="plain")
    assert [doc.prompt for doc in load_docs(tmp_path / "folder").rows] == [doc.prompt for doc in docs.rows]


def test_each_wrong_row_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        GOOD[1],
        ["images/green.png", "Which?", "red", "blue", "", "A", "colour"],
        ["images/broken.jpg", "Which?", "red", "blue", "", "A", "colour"],
        ["", "Which?", "red", "blue", "", "A", "colour"],
        ["images/red.png", "Which?", "red", "blue", "", "C", "colour"],
        ["images/red.png", " ", "red", "blue", "", "A", "colour"],
        ["images/red.png", "Which?", "red", "", "pink", "A", "colour"],
        ["images/red.png", "Which?", "red"],
        ["images/red.png", "Which?", "red", "blue", "", "", "colour"],
        GOOD[0],
    ]
    card = own(tmp_path, rows)
    assert main(["data", "check", str(card)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said[:8]] == [
        "line 4, file",
        "line 5, file",
        "line 6, file",
        "line 7, answer is 'C'",
        "line 8, question is ' '",
        "line 9, a, b, c",
        "line 10, the row",
        "line 11, answer is ''",
    ]
    for line, rule in zip(
        said,
        (
            "its image images/green.png cannot be read: No such file or directory; such rows count as errors; mend",
            "UnidentifiedImageError: cannot identify image file; such rows",
            "the row has no image; such rows",
            "the answer 'C' is none of A, B; correct the row or the card",
            "there is nothing in it; correct the row",
            "option b is absent, and one after it is not: its letter would be another's; correct the row",
            "3 values under 7 columns; correct the file",
            "there is nothing in it; correct the row",
        ),
        strict=False,
    ):
        assert rule in line
    assert said[8].startswith("my: 10 rows, 4 images (2 missing or broken)")
    assert said[-1] == "8 of 10 rows are wrong"
    with pytest.raises(UserError, match=r"dataset my, line 7: the answer 'C' is none of A, B; .* `lofi data check`"):
        prepare(get_card(str(card)), tmp_path / "out", prompt_style="plain")
    short = own(tmp_path / "short", [GOOD[0], rows[7]])
    with pytest.raises(UserError, match="dataset my, line 3: 3 values under 7 columns"):
        prepare(get_card(str(short)), tmp_path / "out", prompt_style="plain")


def test_a_scorer_that_cannot_grade_and_ids_that_repeat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = own(tmp_path, GOOD, scorer="pope", sample_id="{kind}")
    assert main(["data", "check", str(card)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "line 2, answer is 'A': the scorer pope reads the right answer as unparsed, and gives it 0; "
        "correct the row, or choose another scorer"
    )
    assert "sample_id: 1 rows repeat one and get a number, colour first" in said
    assert said[-1] == "3 of 3 rows are wrong"


def test_json_lines_that_are_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = own(tmp_path, GOOD, source="signs.jsonl")
    good = dict(zip(HEADER, GOOD[0], strict=True))
    lines = [json.dumps(good), "", "{", "[1]", json.dumps({"file": "x"}), json.dumps(good | {"question": 5})]
    (tmp_path / "signs.jsonl").write_text("\n".join(lines))
    assert main(["data", "check", str(card), "--prompt-style", "other"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("line 3, the row: not valid JSON: Expecting property name")
    assert said[1] == "line 4, the row: list instead of an object; correct the file"
    assert said[2] == "line 5, the row: it lacks question, a, b, c, answer, kind; correct the file"
    assert said[3] == "line 6, the prompt: 'int' object has no attribute 'strip'; correct the row or the card"
    assert said[-1] == "4 of 5 rows are wrong"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scorer": "mine"}, "unknown scorer 'mine'"),
        ({"columns": [*HEADER, "d"]}, "signs.csv lacks the columns d; it has file, question"),
        ({"source": "nowhere.csv"}, "nowhere.csv is no folder or file here, and no hub id; correct `source`"),
        ({"source": "signs.txt"}, "signs.txt is no table that lofi reads; give a folder, or a file in .csv, .tsv"),
        ({"source": "latin.csv"}, "latin.csv is not UTF-8 text; save it as UTF-8"),
        ({"source": "quotes.csv"}, "quotes.csv is not well-formed (unexpected end of data); check its quotes"),
        ({"where": {"kind": ["none"]}}, "dataset my has no rows; check its source, config, split and `where`"),
    ],
)
def test_a_wrong_card_or_source_is_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = own(tmp_path, GOOD, **changes)
    (tmp_path / "signs.txt").write_text("text")
    (tmp_path / "latin.csv").write_bytes((tmp_path / "signs.csv").read_bytes() + "é,,,,,,".encode("latin-1"))
    (tmp_path / "quotes.csv").write_text((tmp_path / "signs.csv").read_text() + '"images/red')
    assert main(["data", "check", str(card)]) == 2
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if line.startswith("lofi data check: ")]
    assert message in line


def test_a_built_in_name_with_another_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = hub_folder(tmp_path / "hub", get_card("pope"), POPE, NASTY)
    assert main(["data", "check", "pope", "--source", str(folder)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said[:4]] == [
        "row 2, image",
        "row 3, image",
        "row 6, image",
        "row 7, image",
    ]
    assert said[-1] == "4 of 10 rows are wrong"
    assert main(["data", "check", "digits-sqa", "--limit", "2"]) == 0
    assert "digits-sqa: 8 rows, 2 images" in capsys.readouterr().out
    assert main(["data", "check", "pope", "--prompt-style", "mine"]) == 2
    assert "unknown prompt style of dataset pope 'mine'" in capsys.readouterr().err


def test_an_image_is_read_where_the_path_says(tmp_path: Path) -> None:
    """A path that is absolute stays as it is."""
    Image.new("RGB", (2, 2)).save(tmp_path / "far.png")
    card = own(tmp_path / "here", [[str(tmp_path / "far.png"), *GOOD[0][1:]]])
    prepare(get_card(str(card)), tmp_path / "out", prompt_style="plain")
    (doc,) = load_docs(tmp_path / "out").rows
    assert doc.image_error is None
