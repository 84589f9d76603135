"""The files of the sample explorer: which rows are in them, and what each row says."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lofi.errors import UserError
from lofi.report import changes, encode, explorer
from lofi.report.audit import Audit, read
from lofi.report.pictures import Picture, picture, pictures
from lofi.report.side import Side
from tests.unit.report_setup import Results, make_results

DATASETS = ("scenes-letters", "scenes-yesno", "scenes-open")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return make_results(tmp_path_factory.mktemp("results"), datasets=DATASETS, own=("prumerge",))


@pytest.fixture(scope="module")
def audit(results: Results) -> Audit:
    return read(results.root / "tables", results.sweep)


@pytest.fixture(scope="module")
def flips(results: Results) -> list[dict[str, Any]]:
    return pq.read_table(results.root / "tables/flips.parquet").to_pylist()


def write(results: Results, audit: Audit, folder: Path, **options: Any) -> Side:
    given: dict[str, Any] = {"thumbnails": DATASETS[:1], **options}
    return explorer.write(audit, results.root / "tables", results.root / "data", folder, **given)


def part(folder: Path, name: str) -> dict[str, Any]:
    text = (folder / f"{name}.js").read_text().removeprefix("lofiPart(").removesuffix(");\n")
    found: dict[str, Any] = json.loads(text.split(",", 2)[2])
    return found


def named(index: dict[str, Any]) -> list[dict[str, str]]:
    """What filters see of every row."""
    n = len(index["question"])
    return [
        {name: names[codes[i]] for (name, names), codes in zip(index["names"], index["codes"], strict=True)}
        for i in range(n)
    ]


# ---- which rows ------------------------------------------------------------------------------------------------


def test_the_choice_is_even_capped_and_does_not_depend_on_order(results, flips, tmp_path):
    rows = changes.choose(results.root / "tables", 20)
    assert len(rows) == 20
    pq.write_table(pa.Table.from_pylist(flips[::-1]), tmp_path / "flips.parquet")
    assert changes.choose(tmp_path, 20) == rows
    group = [tuple(row[name] for name in ("dataset", "method", "keep", "class")) for row in rows]
    n_groups = len({tuple(row[name] for name in ("dataset", "method", "keep", "class")) for row in flips})
    assert len(set(group)) == min(20, n_groups)


def test_no_group_has_two_more_rows_than_another_that_has_rows_left(results, flips):
    def of(row):
        return tuple(row[name] for name in ("dataset", "method", "keep", "class"))

    there = Counter(map(of, flips))
    for most in (5, 40, 80):
        taken = Counter(of(row) for row in changes.choose(results.root / "tables", most))
        highest = max(taken.values())
        assert all(taken[group] >= min(there[group], highest - 1) for group in there)


def test_a_row_keeps_its_id_whatever_else_is_chosen(results, flips):
    few, all_of_them = (changes.choose(results.root / "tables", most) for most in (10, 10**6))
    assert len(all_of_them) == len(flips) == len({row["id"] for row in all_of_them})
    assert [row["id"] for row in few] == [row["id"] for row in all_of_them[:10]]


def test_old_tables_are_refused_with_the_command_that_repairs_them(flips, tmp_path):
    old = pa.Table.from_pylist(flips).drop_columns(["full_option_logprobs"])
    pq.write_table(old, tmp_path / "flips.parquet")
    with pytest.raises(UserError, match="no column full_option_logprobs; make the tables again with: lofi aggregate"):
        changes.choose(tmp_path)


# ---- what a row says -------------------------------------------------------------------------------------------


def test_every_row_is_its_flip(results, audit, flips, tmp_path):
    side = write(results, audit, tmp_path / "f")
    index = part(tmp_path / "f", "samples-index")
    rows, questions = part(tmp_path / "f", "samples-0"), part(tmp_path / "f", "questions-0")
    assert side.shown == len(flips) == len(index["question"]) < explorer.CHUNK
    by_id = {row["id"]: row for row in changes.choose(results.root / "tables")}
    for i, seen in enumerate(named(index)):
        row = by_id[index["ids"][12 * i : 12 * i + 12]]
        question = {field: column[index["question"][i]] for field, column in questions.items()}
        said = {field: column[i] for field, column in rows.items()}
        assert (seen["model"], seen["dataset"], seen["method"]) == (row["model"], row["dataset"], row["method"])
        assert (seen["seed"], seen["category"]) == (str(row["seed"]), row["category"])
        assert seen["class"] == changes.CLASSES[row["class"]]
        assert question["id"] == row["sample_id"]
        assert index["margin"][i] == pytest.approx(row["margin_full"], rel=1e-3)
        assert index["kl"][i] == pytest.approx(row["kl"], rel=1e-3)
        assert said["margin"] == pytest.approx(row["margin_reduced"], rel=1e-3)
        assert said["kept"] == len(row["kept_indices"])
        letters = dict(zip("ABCD", [f"option {letter} " for letter in "ABCD"], strict=True))
        for end in ("full", "reduced"):
            parsed = row[f"{end}_answer"]
            written = f"{parsed}. {letters[parsed]}" if parsed in letters else parsed
            assert said[end] == written
            logs = row[f"{end}_option_logprobs"]
            if row["dataset"] == "scenes-open":
                assert said[f"p_{end}"] is said[f"mass_{end}"] is None
                continue
            total = sum(map(math.exp, logs))
            assert said[f"p_{end}"] == [round(1e4 * math.exp(log) / total) for log in logs]
            assert said[f"mass_{end}"] == round(1e4 * total)
        assert (question["image"] >= 0) == (row["dataset"] == "scenes-letters")
        assert (said["runs"] is not None) == (row["dataset"] == "scenes-letters")


def test_filters_follow_the_order_of_the_report(results, audit, tmp_path):
    write(results, audit, tmp_path / "f")
    names = dict(part(tmp_path / "f", "samples-index")["names"])
    assert names["dataset"] == list(DATASETS)
    assert [name for name in names["method"] if name != "floor"] == list(audit.methods)
    assert names["keep"] == ["0.5", "0.25", "16\xa0tokens", "own count"]
    assert names["class"] == [name for name in changes.CLASSES.values() if name in names["class"]]


def test_the_search_finds_questions_answers_and_ids(results, audit, tmp_path):
    write(results, audit, tmp_path / "f")
    search = part(tmp_path / "f", "samples-search")
    questions = part(tmp_path / "f", "questions-0")
    for text, id, asked in zip(search["questions"], questions["id"], questions["question"], strict=True):
        assert id in text
        assert asked.lower() in text
    assert any("cannot  tell" in text for text in search["rows"])


def test_rows_and_questions_come_in_chunks(results, audit, tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "CHUNK", 30)
    side = write(results, audit, tmp_path / "f")
    parts = [part(tmp_path / "f", f"samples-{i}") for i in range(-(-side.shown // 30))]
    assert [len(p["full"]) for p in parts[:-1]] == [30] * (len(parts) - 1)
    assert sum(len(p["full"]) for p in parts) == side.shown
    assert part(tmp_path / "f", "samples-index")["chunk"] == 30
    assert not (tmp_path / "f" / f"samples-{len(parts)}.js").exists()


def test_the_same_tables_give_the_same_files_and_other_rows_another_stamp(results, audit, tmp_path):
    first, again = (write(results, audit, tmp_path / name) for name in ("a", "b"))
    assert first.stamp == again.stamp != write(results, audit, tmp_path / "c", most=10).stamp
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_twenty_thousand_rows_have_an_index_of_a_few_bytes_each(results, audit, tmp_path):
    side = write(results, audit, tmp_path / "f")
    index = part(tmp_path / "f", "samples-index")
    rows = {name: value for name, value in index.items() if name != "names"}
    assert len(json.dumps(rows, separators=(",", ":"))) / side.shown < 60  # 20 000 of them: 1.2 MB


# ---- one row ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "expected"),
    [([], []), ([0], [0, 1]), ([0, 5, 6, 11], [0, 1, 4, 2, 4, 1]), ([2, 3], [2, 2]), (range(4), [0, 4])],
)
def test_runs_alternate_dropped_and_kept(kept, expected):
    assert encode.runs(list(kept)) == expected


@pytest.mark.parametrize(
    ("logprobs", "options", "expected"),
    [
        ([math.log(0.3), math.log(0.1)], 2, [7500, 2500]),
        ([-1000.0, -1001.0], 2, [7311, 2689]),
        ([0.0, -math.inf], 2, [10000, 0]),
        ([-math.inf, -math.inf], 2, None),
        ([math.nan, 0.0], 2, None),
        ([None, 0.0], 2, None),
        ([0.0, 0.0], 3, None),
        ([0.0], 1, None),
        (None, 0, None),
    ],
)
def test_shares_are_known_for_each_option_or_not_at_all(logprobs, options, expected):
    assert encode.shares(logprobs, options) == expected


@pytest.mark.parametrize(
    ("tokens", "size", "expected"),
    [
        (144, [96, 96], 12),
        (144, [100, 96], 12),
        (144, [120, 96], 0),
        (140, [96, 96], 0),
        (144, None, 0),
        (0, [9, 9], 0),
    ],
)
def test_an_overlay_is_drawn_only_where_tokens_and_image_are_square(tokens, size, expected):
    assert encode.grid_side(tokens, size) == expected


def test_what_was_said_is_shown_where_it_says_more():
    names = {"A": "a cat", "yes": "yes"}
    assert encode.said("A", " A. ", names) == ""
    assert encode.said("A", "a. a cat.", names) == ""
    assert encode.said("yes", "Yes", names) == ""
    assert encode.said("A", "I think A", names) == "I think A"
    assert encode.said(None, "Hm?", names) == "Hm?"
    assert encode.answer(None, names) is None


def test_right_answers_are_named_and_counted():
    assert encode.right({"target": "A", "targets": ["A"]}, {"A": "a cat"}) == "A. a cat"
    assert encode.right({"targets": list("aabcdef")}, {}) == "a / b / c / d and 2 more"
    assert encode.right({}, {}) == ""


def test_long_texts_are_cut_and_say_so():
    assert encode.cut("x" * 4003) == "x" * 4000 + " … (3 more letters)"
    assert encode.cut("x" * 4000) == "x" * 4000


def test_a_yes_or_no_question_has_the_options_that_the_model_chose_from():
    changed = {"sample_id": "7", "option_labels": ["yes", "no"], "image_hash": "i"}
    doc = {
        "question": "Is it?",
        "prompt": "Is it?\nAnswer yes or no.",
        "options": [],
        "option_labels": [],
        "target": "no",
    }
    asked = encode.question(changed, doc, (3, Picture(b"", 20, 10)))
    assert (asked["labels"], asked["texts"], asked["right"]) == (["yes", "no"], ["yes", "no"], "no")
    assert (asked["prompt"], asked["image"], asked["size"]) == (doc["prompt"], 3, [20, 10])
    assert encode.question(changed, {}, None)["question"] == encode.MISSING


# ---- pictures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_image_is_no_picture(content):
    assert picture(content) is None


def test_pictures_are_written_once_and_only_where_they_may_be(results, audit, flips, tmp_path):
    side = write(results, audit, tmp_path / "f")
    shown = {row["image_hash"] for row in flips if row["dataset"] == "scenes-letters"}
    assert side.pictures == len(shown) == len(list((tmp_path / "f").glob("image-*.jpg")))
    assert write(results, audit, tmp_path / "none", thumbnails=()).pictures == 0
    assert not list((tmp_path / "none").glob("*.jpg"))
    assert not list(pictures(tmp_path / "absent.parquet", ["x"]))


def test_only_so_many_pictures_are_copied(results, audit, tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "PICTURES", 2)
    assert write(results, audit, tmp_path / "f").pictures == 2
    rows, questions = part(tmp_path / "f", "samples-0"), part(tmp_path / "f", "questions-0")
    assert sum(image >= 0 for image in questions["image"]) >= 2
    assert sum(runs is not None for runs in rows["runs"]) < len(rows["runs"])
