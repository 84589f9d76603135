"""From local folders in the hub's format, through the real loader, to docs and images."""

import hashlib
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lofi.data import images as images_module
from lofi.data.docs import Doc, Docs, load_docs, read_images
from lofi.data.images import inspect, open_image
from lofi.data.prepare import prepare
from lofi.data.reading import readings
from lofi.data.registry import Card, card_from, dataset_names, get_card
from lofi.data.source import open_source
from lofi.errors import UserError
from lofi.scoring.answers import Question
from lofi.scoring.registry import get_scorer
from lofi.store import read_metadata
from tests.datasets.pictures import encoded, palette, plain, turned
from tests.datasets.schemas import IMAGE, SCHEMAS, TEXT

POPE, SQA, VQA = (SCHEMAS[name] for name in ("pope", "scienceqa_img", "vqav2_val"))


def encoded_noise(seed: int, size: int = 40) -> bytes:
    return encoded(Image.frombytes("RGB", (size, size), random.Random(seed).randbytes(3 * size * size)))


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


def test_rows_are_read_without_torch(tmp_path: Path) -> None:
    code = "import sys; from lofi.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    sweep = Path(__file__).parents[2] / "workflow" / "sweeps" / "smoke.yaml"
    asked = ["prepare", "--config", str(sweep), "--results", str(tmp_path), "--dataset", "digits-pope"]
    done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, check=True)
    assert (tmp_path / "data" / "digits-pope" / "docs.parquet").exists()
    assert not {"torch", "sklearn", "transformers"} & set(done.stdout.split())


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
    features = datasets.Features({**dict.fromkeys([*columns, "base"], TEXT), "image": IMAGE})
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
    with pytest.raises(UserError, match="lacks the columns answer; it has id, question_id"):
        prepared(tmp_path / "out", pope, hub_folder(tmp_path / "bare", pope, bare, lacking))
    with pytest.raises(UserError, match="cannot read dataset pope from"):
        prepared(tmp_path / "out", pope, hub_folder(tmp_path / "empty", pope, POPE, []))


def asked(doc: Doc) -> Question:
    return Question(doc.target, doc.targets, doc.options, doc.option_labels, doc.category, doc.l2_category)


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
        answer = get_scorer(card.scorer_of("lmms_eval")).rule(doc.target, asked(doc))
        assert answer.score == 1.0


def card_of(columns: Sequence[str], **changes: Any) -> Card:
    """A card of open questions in a folder of one image column."""
    entries = {"title": "T", "source": "a/b", "split": "test", "config": "default", "columns": list(columns)}
    entries |= {"image": "image", "question": "question", "target": "answer", "sample_id": "{row}", "task": "open"}
    entries |= {"scorer": "gqa", "max_new_tokens": 16, "prompts": {"lmms_eval": "{question}"}}
    return card_from("mine", entries | changes)


def joined_folder(folder: Path, images: Sequence[tuple[str, bytes | None]], asked: Sequence[str]) -> Path:
    """Two configs, as GQA has them: `pictures` by their id, and `questions` about one id each."""
    tables = {
        "pictures": (
            datasets.Features({"id": TEXT, "image": IMAGE}),
            [{"id": key, "image": content and {"bytes": content, "path": None}} for key, content in images],
        ),
        "questions": (
            datasets.Features(dict.fromkeys(("imageId", "question", "answer"), TEXT)),
            [{"imageId": key, "question": f"{number}?", "answer": "red"} for number, key in enumerate(asked)],
        ),
    }
    readme = "---\nconfigs:\n"
    for name, (features, rows) in tables.items():
        (folder / name).mkdir(parents=True)
        table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
        pq.write_table(table, folder / name / "test-0.parquet", row_group_size=2)
        readme += f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}/test-*\n"
    (folder / "README.md").write_text(f"{readme}---\n")
    return folder


JOINED = card_of(
    ["imageId", "question", "answer"],
    config="questions",
    image=[],
    join={"config": "pictures", "split": "test", "on": "imageId", "key": "id", "image": "image"},
)
PICTURES = [(key, plain(colour)) for key, colour in zip("abcd", ("red", "blue", "green", "pink"), strict=True)]


def test_images_of_a_second_table(tmp_path: Path) -> None:
    source = joined_folder(tmp_path / "hub", [*PICTURES, ("e", None), ("f", plain("red"))], "cadafxeb")
    docs = prepared(tmp_path / "out", JOINED, source).rows
    # in the order of the pictures, `f` being the same picture as `a`; then those that are not there
    assert [doc.question for doc in docs] == ["1?", "3?", "4?", "7?", "0?", "2?", "5?", "6?"]
    by_key = {key: hashlib.sha256(content or b"").hexdigest()[:32] for key, content in [*PICTURES, ("e", None)]}
    assert [doc.image_hash for doc in docs] == [by_key[key] for key in "aaabcdee"]
    assert all(doc.image_hashes == (doc.image_hash,) for doc in docs)
    assert [doc.image_error for doc in docs[:6]] == [None] * 6
    assert docs[7].image_error == "the row has no image"
    assert docs[6].image_error == "no row of pictures, split test has id 'x'"
    assert docs[7].cluster_id != docs[6].cluster_id
    # pictures that nobody asks about are not stored, and a limited run is the beginning of the whole
    few = joined_folder(tmp_path / "few", PICTURES, "cac")
    prepare(JOINED, tmp_path / "two", prompt_style="lmms_eval", source=str(few))
    stored = pq.read_table(tmp_path / "two" / "images.parquet").column("image_hash").to_pylist()
    assert stored == [by_key["a"], by_key["c"]]
    for limit in (1, 2, 4):
        limited = prepared(tmp_path / f"limit-{limit}", JOINED, source, limit=limit).rows
        assert limited == docs[: len(limited)]
        assert len({doc.image_hash for doc in limited}) == limit


def test_a_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    source = joined_folder(tmp_path / "hub", [*PICTURES, ("b", plain("black"))], "ab")
    with pytest.raises(UserError, match="dataset mine: pictures, row 4: id 'b' comes a second time; keep one"):
        prepare(JOINED, tmp_path / "out", prompt_style="lmms_eval", source=str(source))


def test_a_join_keeps_no_image(tmp_path: Path) -> None:
    """Two passes: what is held of a picture is its key and its hash."""
    size, n = 200, 64
    pictures = [(f"k{i}", encoded_noise(i, size)) for i in range(n)]
    source = joined_folder(tmp_path / "hub", pictures, [f"k{i % n}" for i in range(4 * n)])
    prepare(JOINED, tmp_path / "warm", prompt_style="lmms_eval", source=str(source))
    kept: list[Any] = []
    opened = open_source(JOINED, str(source), tmp_path)
    tracemalloc.start()
    try:
        for reading in readings(opened, JOINED, lambda image: kept.append(image.image_hash)):
            assert not any(isinstance(value, bytes | dict) for value in reading.entry.values.values())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == n
    assert peak < 20 * 3 * size * size < sum(len(content) for _, content in pictures)


SEVERAL = datasets.Features(
    {
        **dict.fromkeys(("question", "answer", "kind"), TEXT),
        "images": datasets.List(IMAGE),
        "first": IMAGE,
        "second": IMAGE,
    }
)


def several_row(question: str, images: list[bytes] | None, first: bytes | None, second: bytes | None) -> dict[str, Any]:
    def cell(content: bytes | None) -> Any:
        return content and {"bytes": content, "path": None}

    row = {"question": question, "answer": "red", "kind": "image" if question != "c" else "video"}
    return {**row, "images": images and [cell(each) for each in images], "first": cell(first), "second": cell(second)}


def several_folder(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=SEVERAL.arrow_schema), folder / "test-0.parquet")
    return folder


def test_lists_and_several_columns_of_images(tmp_path: Path) -> None:
    red, blue, pink = plain("red"), plain("blue"), plain("pink")
    rows = [
        several_row("a", [red], None, red),
        several_row("b", [red, blue], red, blue),
        several_row("c", [pink] * 8, None, None),
        several_row("d", None, blue, None),
        several_row("e", [red, blue], blue, None),
        several_row("f", [blue], None, None),
    ]
    source = several_folder(tmp_path / "hub", rows)
    card = card_of(["question", "answer", "images", "kind"], image="images", where={"kind": ["image"]})
    docs = {doc.question: doc for doc in prepared(tmp_path / "list", card, source).rows}
    hashes = {content: hashlib.sha256(content).hexdigest()[:32] for content in (red, blue, b"")}
    assert list(docs) == ["a", "b", "e", "d", "f"], "those about the same images stand side by side"
    assert [docs[name].sample_id for name in "abdef"] == ["0", "1", "3", "4", "5"], "rows keep their numbers"
    assert docs["b"].image_hashes == docs["e"].image_hashes == (hashes[red], hashes[blue])
    assert docs["b"].image_hash == docs["e"].image_hash == docs["b"].cluster_id
    assert docs["b"].image_hash not in hashes.values()
    assert docs["b"].image_error == "the question shows 2 images, and lofi asks about one; it counts as an error"
    assert [docs[name].image_error for name in "adf"] == [None, "the row has no image", None]
    assert "image" not in docs["a"].doc_hash
    stored = pq.read_table(tmp_path / "list" / "images.parquet").column("image_hash").to_pylist()
    assert stored == [hashes[red], hashes[blue], hashes[b""]], "each image once, none of a row that is not taken"
    assert [doc.question for doc in prepared(tmp_path / "two", card, source, limit=2).rows] == ["a", "b", "e"]

    card = card_of(["question", "answer", "first", "second"], image=["first", "second"])
    docs = {doc.question: doc for doc in prepared(tmp_path / "columns", card, source).rows}
    assert docs["a"].image_hashes == (hashes[red],)
    assert docs["b"].image_hashes == (hashes[red], hashes[blue])
    assert docs["d"].image_hashes == docs["e"].image_hashes == (hashes[blue],)
    assert [docs[name].image_error for name in "ade"] == [None] * 3
    assert docs["c"].image_error == docs["f"].image_error == "the row has no image"


def test_where_that_takes_nothing_is_refused(tmp_path: Path) -> None:
    source = several_folder(tmp_path / "hub", [several_row("a", [plain("red")], None, None)])
    card = card_of(["question", "answer", "images", "kind"], image="images", where={"kind": ["audio"]})
    with pytest.raises(UserError, match="dataset mine has no rows; check its source, config, split and `where`"):
        prepared(tmp_path / "out", card, source)


def test_exif_is_applied_where_it_is_asked_for(tmp_path: Path) -> None:
    pope = get_card("pope")
    source = hub_folder(tmp_path / "hub", pope, POPE, [pope_row(0, turned())])
    for exif, size in (("ignored", (30, 20)), ("applied", (20, 30))):
        prepared(tmp_path / exif, pope, source, exif=exif)
        facts = pq.read_table(tmp_path / exif / "images.parquet", columns=["width", "height"]).to_pylist()[0]
        assert (facts["width"], facts["height"]) == open_image(turned(), exif=exif).size == size
        for name in ("docs", "images"):
            assert read_metadata(tmp_path / exif / f"{name}.parquet")["exif"] == exif
    with pytest.raises(UserError, match="exif is 'apply'; choose from ignored, applied"):
        open_image(turned(), exif="apply")


def test_wide_greys_are_scaled() -> None:
    values = np.array([[0, 128, 129, 257, 32767, 65535]], dtype=np.uint16)
    scaled = [0, 0, 1, 1, 127, 255]
    for kind in ("PNG", "TIFF"):
        assert np.asarray(open_image(encoded(Image.fromarray(values), kind)))[0, :, 0].tolist() == scaled
    graymap = b"P5 6 1 65535\n" + values.astype(">u2").tobytes()
    assert np.asarray(open_image(graymap))[0, :, 1].tolist() == scaled
    for image in (Image.fromarray(values.astype(np.float32)), Image.fromarray(values.astype(np.int32) - 1)):
        assert "have no common white; store 8 or 16 bits" in str(inspect(encoded(image, "TIFF")).error)


def test_every_kind_of_file_gives_its_first_picture_in_rgb() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    ink = Image.new("CMYK", (8, 6), (0, 255, 255, 0))
    kinds: list[tuple[str, bytes]] = [
        (kind, encoded(frames[0], kind, save_all=True, append_images=frames[1:])) for kind in ("GIF", "PNG", "TIFF")
    ]
    kinds += [("WEBP", encoded(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:]))]
    kinds += [("JPEG", encoded(ink, "JPEG")), ("TIFF", encoded(ink, "TIFF"))]
    kinds += [("PNG", encoded(frames[0].convert(mode))) for mode in ("P", "RGBA")]
    for kind, content in kinds:
        facts, image = inspect(content), open_image(content)
        assert (facts.error, facts.format, facts.width, facts.height) == (None, kind, 8, 6)
        assert (image.mode, image.size) == ("RGB", (8, 6))
        red, green, blue = image.getpixel((3, 3))
        assert red > 250 > 5 > max(green, blue), kind
    seen_through = encoded(Image.new("RGBA", (1, 1), (9, 8, 7, 0)))
    assert open_image(seen_through).getpixel((0, 0)) == (9, 8, 7), "transparency is left out, not painted over"


def png(width: int, height: int) -> bytes:
    """A PNG of that size in its header, with next to no data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (60_000, 60_000), (0, 0), (0, 7), (9, 9)])
def test_bombs_and_empty_images_are_errors(width: int, height: int) -> None:
    error = inspect(png(width, height)).error
    assert error is not None
    assert "\n" not in error
    if width == 10_000:
        assert error == "ValueError: 10000 x 10000 pixels are more than 89,478,485; make it smaller"
