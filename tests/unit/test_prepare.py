"""From local folders in the hub's format, through the real loader, to docs and images."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lofi.data import images as images_module
from lofi.data.docs import Docs, load_docs, read_images
from lofi.data.images import open_image
from lofi.data.prepare import prepare
from lofi.data.registry import Card, card_from, dataset_names, get_card
from lofi.engine.columns import question_of
from lofi.errors import UserError
from lofi.scoring.registry import get_scorer
from lofi.store import read_metadata

STRING = datasets.Value("string")
IMAGE = datasets.Image()
POPE = datasets.Features(
    {
        **dict.fromkeys(("id", "question_id", "question", "answer", "image_source"), STRING),
        "image": IMAGE,
        "category": STRING,
    }
)
SQA = datasets.Features(
    {
        "image": IMAGE,
        "question": STRING,
        "choices": datasets.List(STRING),
        "answer": datasets.Value("int8"),
        **dict.fromkeys(("hint", "task", "grade", "subject", "topic", "category", "skill"), STRING),
    }
)
ANSWER = {"answer": STRING, "answer_confidence": STRING, "answer_id": datasets.Value("int64")}
VQA = datasets.Features(
    {
        **dict.fromkeys(("question_type", "multiple_choice_answer", "answer_type", "question"), STRING),
        "answers": datasets.List(ANSWER),
        **dict.fromkeys(("image_id", "question_id"), datasets.Value("int64")),
        "image": IMAGE,
    }
)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour: str) -> bytes:
    return encoded(Image.new("RGB", (6, 4), colour))


def palette() -> bytes:
    image = Image.new("P", (5, 3))
    image.putpalette([200, 10, 10, 10, 200, 10])
    return encoded(image, transparency=b"\x00\xff")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    return encoded(Image.new("RGB", (30, 20), "blue"), "JPEG", exif=exif)


def hub_folder(
    folder: Path, card: Card, features: datasets.Features, rows: Sequence[dict[str, Any]], **options: Any
) -> Path:
    """A folder as the hub has it; `metadata=False` leaves out the features that `datasets` stores."""
    (folder / "data").mkdir(parents=True)
    schema = features.arrow_schema if options.pop("metadata", True) else features.arrow_schema.remove_metadata()
    stored = [{**row, "image": row["image"] and {"bytes": row["image"], "path": "x.png"}} for row in rows]
    table = pa.Table.from_pylist(stored, schema=schema)
    pq.write_table(table, folder / "data" / f"{card.split}-00000-of-00001.parquet", **options)
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {card.config}\n  data_files:\n"
        f"  - split: {card.split}\n    path: data/{card.split}-*\n---\n"
    )
    return folder


def pope_row(number: int, image: bytes | None, **changes: Any) -> dict[str, Any]:
    row = {"id": str(number), "question_id": str(number), "question": f" Is there a {number}? ", "answer": "yes"}
    return {**row, "image_source": f"i{number}", "image": image, "category": "random", **changes}


def prepared(out: Path, card: Card, source: Path, **options: Any) -> Docs:
    prepare(card, out, prompt_style="lmms_eval", source=str(source), **options)
    return load_docs(out)


NASTY = [
    pope_row(0, plain("red")),
    pope_row(1, palette()),
    pope_row(2, None),
    pope_row(3, b"not an image"),
    pope_row(4, plain("red"), answer="No"),
    pope_row(5, turned()),
    pope_row(6, encoded(Image.new("RGB", (64, 64), "green"), "JPEG")[:-400]),
    pope_row(7, None),
    pope_row(1, palette(), category="popular"),
    pope_row(1, palette(), category="popular"),
]


def test_nasty_rows_all_stay(tmp_path: Path) -> None:
    pope = get_card("pope")
    docs = prepared(tmp_path / "out", pope, hub_folder(tmp_path / "hub", pope, POPE, NASTY))
    order = list("0411127356")
    assert [doc.question.split()[-1].rstrip("?") for doc in docs.rows] == order
    by_id = {doc.sample_id: doc for doc in docs.rows}
    assert len(by_id) == len(NASTY)
    assert {"random-0", "random-1", "popular-1", "popular-1#2"} <= by_id.keys()
    assert by_id["random-4"].target == "no"
    assert by_id["random-2"].image_error == "the row has no image"
    assert by_id["random-3"].image_error == "UnidentifiedImageError: cannot identify image file"
    assert "runcated" in str(by_id["random-6"].image_error)
    assert by_id["random-5"].image_error is None
    assert by_id["random-2"].cluster_id != by_id["random-7"].cluster_id, "no image in common"
    assert by_id["random-0"].cluster_id == by_id["random-4"].cluster_id == by_id["random-0"].image_hash
    assert docs.split == "test"


def test_images_are_stored_once_and_byte_for_byte(tmp_path: Path) -> None:
    pope = get_card("pope")
    docs = prepared(tmp_path / "out", pope, hub_folder(tmp_path / "hub", pope, POPE, NASTY))
    stored = pq.read_table(tmp_path / "out" / "images.parquet")
    hashes = stored.column("image_hash").to_pylist()
    assert len(set(hashes)) == len(hashes) == 6
    assert list(dict.fromkeys(doc.image_hash for doc in docs.rows)) == hashes
    contents = read_images(tmp_path / "out", hashes)
    assert set(contents.values()) == {row["image"] or b"" for row in NASTY}
    assert all(key == hashlib.sha256(content).hexdigest()[:32] for key, content in contents.items())
    facts = {row["image_hash"]: row for row in stored.drop_columns("bytes").to_pylist()}
    jpeg = facts[hashlib.sha256(turned()).hexdigest()[:32]]
    assert (jpeg["width"], jpeg["height"], jpeg["format"], jpeg["mode"]) == (30, 20, "JPEG", "RGB")
    assert facts[hashlib.sha256(palette()).hexdigest()[:32]]["mode"] == "P"


def test_open_image_gives_rgb_and_turns_nothing() -> None:
    assert open_image(turned()).size == (30, 20)
    assert open_image(palette()).getpixel((0, 0)) == (200, 10, 10)
    for mode in ("L", "LA", "RGBA", "1", "I;16"):
        image = open_image(encoded(Image.new(mode, (2, 2))))
        assert image.mode == "RGB"


def test_read_images_reads_only_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "ROW_GROUP_IMAGES", 2)
    pope = get_card("pope")
    rows = [pope_row(i, encoded(Image.new("L", (3, 3), i))) for i in range(7)]
    docs = prepared(tmp_path / "out", pope, hub_folder(tmp_path / "hub", pope, POPE, rows))
    read: list[tuple[int, list[str]]] = []
    original = pq.ParquetFile.read_row_group

    def spy(self: pq.ParquetFile, group: int, columns: list[str]) -> pa.Table:
        read.append((group, columns))
        return original(self, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    wanted = docs.rows[4].image_hash
    assert read_images(tmp_path / "out", [wanted]) == {wanted: rows[4]["image"]}
    assert [group for group, columns in read if "bytes" in columns] == [2]
    with pytest.raises(UserError, match="lacks 1 of 2 images, zz first"):
        read_images(tmp_path / "out", [wanted, "zz"])


def sqa_row(choices: list[str], answer: int, hint: str = "") -> dict[str, Any]:
    row = {"image": plain("red"), "question": "Which?", "choices": choices, "answer": answer, "hint": hint}
    return {**row, "subject": "natural science", "topic": "physics"}


def test_scienceqa(tmp_path: Path) -> None:
    card = get_card("scienceqa_img")
    rows = [
        sqa_row(["nan", "two"], 1),
        sqa_row(["a", "b", "c", "d", "e"], 4, "Read this."),
        sqa_row(["x", "y"], 0, "nan"),
    ]
    first, second, third = prepared(tmp_path / "out", card, hub_folder(tmp_path / "hub", card, SQA, rows)).rows
    assert first.options == ("nan", "two")
    assert first.option_labels == ("A", "B")
    assert (first.target, first.targets, first.sample_id) == ("B", ("B",), "000000")
    assert (first.category, first.l2_category) == ("natural science", "physics")
    assert second.option_labels == tuple("ABCDE")
    assert second.target == "E"
    assert second.prompt.startswith("Context: Read this.\nWhich?\nA. a\n")
    assert third.prompt.startswith("Which?\n")


def test_options_in_columns_of_their_own(tmp_path: Path) -> None:
    columns = ["index", "question", "answer", "A", "B", "C", "D"]
    entries = {"title": "T", "source": "a/b", "split": "dev", "config": "en", "columns": [*columns, "image"]}
    entries |= {"image": "image", "question": "question", "options": ["A", "B", "C", "D"], "target": "answer"}
    entries |= {"sample_id": "{index}", "group": "{base}", "task": "mcq", "scorer": "scienceqa"}
    entries |= {"max_new_tokens": 16, "prompts": {"lmms_eval": "{question}\n{options:lettered}"}}
    entries["columns"].append("base")
    card = card_from("mine", entries)
    features = datasets.Features({**dict.fromkeys([*columns, "base"], STRING), "image": IMAGE})
    row = {"index": "7", "question": "Which?", "answer": "B", "A": "one", "B": "two", "C": "nan", "D": None}
    folder = hub_folder(tmp_path / "hub", card, features, [{**row, "base": "g1", "image": plain("red")}])
    (doc,) = prepared(tmp_path / "out", card, folder).rows
    assert doc.options == ("one", "two")
    assert (doc.target, doc.option_labels, doc.group_id) == ("B", ("A", "B"), "g1")
    assert doc.prompt == "Which?\nA. one\nB. two"


def vqa_row(number: int, image: bytes, answers: int = 10) -> dict[str, Any]:
    said = [{"answer": f"red {i}", "answer_confidence": "yes", "answer_id": i} for i in range(answers)]
    row = {"question_type": "what", "multiple_choice_answer": "red 0", "answers": said, "image_id": number // 2}
    return {**row, "answer_type": "other", "question_id": number, "question": "What?", "image": image}


def test_vqav2(tmp_path: Path) -> None:
    card = get_card("vqav2_val")
    rows = [vqa_row(i, plain(colour)) for i, colour in enumerate(["red", "red", "blue", "blue"])]
    docs = prepared(tmp_path / "out", card, hub_folder(tmp_path / "hub", card, VQA, rows)).rows
    assert [doc.sample_id for doc in docs] == ["0", "1", "2", "3"]
    assert [doc.cluster_id for doc in docs] == ["0", "0", "1", "1"]
    assert docs[0].targets == tuple(f"red {i}" for i in range(10))
    assert (docs[0].target, docs[0].options, docs[0].option_labels) == ("red 0", (), ())


def test_limit_is_of_images_and_takes_all_their_questions(tmp_path: Path) -> None:
    pope = get_card("pope")
    source = hub_folder(tmp_path / "hub", pope, POPE, NASTY)
    docs = prepared(tmp_path / "out", pope, source, limit=2).rows
    assert [doc.sample_id for doc in docs] == ["random-0", "random-4", "random-1", "popular-1", "popular-1#2"]
    everything = prepared(tmp_path / "all", pope, source).rows
    assert everything[: len(docs)] == docs, "a limited run is the beginning of the whole"


def test_limit_of_grouped_rows_stops_early(tmp_path: Path) -> None:
    card = get_card("vqav2_val")
    rows = [vqa_row(0, plain("red")), vqa_row(1, plain("red")), vqa_row(2, plain("blue")), vqa_row(3, plain("red"))]
    source = hub_folder(tmp_path / "hub", card, VQA, rows)
    assert len(prepared(tmp_path / "out", card, source, limit=1).rows) == 2


def test_revision_ignores_the_encoding_and_sees_every_edit(tmp_path: Path) -> None:
    pope = get_card("pope")
    rows = [pope_row(0, plain("red")), pope_row(1, plain("blue"))]

    def revision(name: str, rows: list[dict[str, Any]], **options: Any) -> str:
        return prepared(
            tmp_path / name, pope, hub_folder(tmp_path / f"{name}-hub", pope, POPE, rows, **options)
        ).revision

    first = revision("a", rows)
    assert revision("b", rows, compression="none", row_group_size=1) == first
    assert revision("c", rows, metadata=False) == first, "an image column may come as a plain struct"
    assert revision("d", [rows[0], pope_row(1, plain("green"))]) != first
    assert revision("e", [rows[0], {**rows[1], "answer": "no"}]) != first
    assert revision("f", [rows[0], {**rows[1], "question": "Is there a cat?"}]) != first
    prepare(pope, tmp_path / "g", prompt_style="vlmevalkit", source=str(tmp_path / "a-hub"))
    assert load_docs(tmp_path / "g").revision != first
    stamp = read_metadata(tmp_path / "a" / "docs.parquet")
    assert (stamp["key"], stamp["dataset"], stamp["prompt_style"], stamp["n_images"]) == (first, "pope", "lmms_eval", 2)


def test_a_failed_run_leaves_what_was_there(tmp_path: Path) -> None:
    pope = get_card("pope")
    out = tmp_path / "out"
    good = prepared(out, pope, hub_folder(tmp_path / "good", pope, POPE, NASTY))
    bad = hub_folder(tmp_path / "bad", pope, POPE, [NASTY[0], pope_row(1, plain("blue"), answer="maybe")])
    with pytest.raises(UserError, match="dataset pope, row 1: the answer 'maybe' is none of yes, no"):
        prepared(out, pope, bad)
    assert load_docs(out) == good
    assert sorted(path.name for path in out.iterdir()) == ["docs.parquet", "images.parquet"]


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    pope = get_card("pope")
    prepared(tmp_path / "a", pope, hub_folder(tmp_path / "a-hub", pope, POPE, [pope_row(0, plain("red"))]))
    prepared(tmp_path / "b", pope, hub_folder(tmp_path / "b-hub", pope, POPE, [pope_row(0, plain("blue"))]))
    (tmp_path / "b" / "images.parquet").replace(tmp_path / "a" / "images.parquet")
    with pytest.raises(UserError, match="do not belong together"):
        load_docs(tmp_path / "a")
    with pytest.raises(UserError, match="no readable dataset"):
        load_docs(tmp_path / "nowhere")


def test_mistakes_are_named(tmp_path: Path) -> None:
    pope, sqa = get_card("pope"), get_card("scienceqa_img")
    folder = hub_folder(tmp_path / "hub", pope, POPE, NASTY)
    with pytest.raises(UserError, match="unknown prompt style"):
        prepare(pope, tmp_path / "out", prompt_style="plain", source=str(folder))
    with pytest.raises(UserError, match="'ScienceQA-IMG' not found"):
        prepare(sqa, tmp_path / "out", prompt_style="lmms_eval", source=str(folder))
    bare = POPE.copy()
    del bare["answer"]
    lacking = [{key: value for key, value in row.items() if key != "answer"} for row in NASTY]
    with pytest.raises(UserError, match="lacks the columns answer of dataset pope; it has id, question_id"):
        prepared(tmp_path / "out", pope, hub_folder(tmp_path / "bare", pope, bare, lacking))
    with pytest.raises(UserError, match="cannot read dataset pope from"):
        prepared(tmp_path / "out", pope, hub_folder(tmp_path / "empty", pope, POPE, []))


def test_the_hub_is_asked_for_the_pinned_revision_under_every_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pope = get_card("pope")
    folder = hub_folder(tmp_path / "hub", pope, POPE, NASTY)
    original, asked = datasets.load_dataset, []

    def hub(path: str, *args: Any, revision: str | None = None, **options: Any) -> Any:
        asked.append((path, revision))
        if path == pope.source:
            raise datasets.exceptions.DatasetNotFoundError(f"no {path}")
        return original(str(folder), *args, **options)

    monkeypatch.setattr(datasets, "load_dataset", hub)
    prepare(pope, tmp_path / "out", prompt_style="lmms_eval")
    assert asked == [(pope.source, pope.revision), (pope.aliases[0], pope.revision)]
    prepare(pope, tmp_path / "out", prompt_style="lmms_eval", source="me/mirror@abc")
    assert asked[2:] == [("me/mirror", "abc")]
    assert read_metadata(tmp_path / "out" / "docs.parquet")["revision"] == "abc"


@pytest.mark.parametrize("name", [name for name in dataset_names() if get_card(name).generated])
def test_built_in_datasets(name: str, tmp_path: Path) -> None:
    card = get_card(name)
    seen: list[tuple[int, int]] = []
    prepare(card, tmp_path, limit=3, prompt_style="lmms_eval", progress=lambda *counts: seen.append(counts))
    docs = load_docs(tmp_path)
    assert seen[-1] == (len(docs.rows), 3)
    assert len({doc.cluster_id for doc in docs.rows}) == 3 < len(docs.rows)
    for doc in docs.rows:
        assert doc.image_error is None
        assert doc.prompt.startswith(doc.question.strip())
        answer = get_scorer(card.scorer_of("lmms_eval")).rule(doc.target, question_of(doc))
        assert answer.score == 1.0
