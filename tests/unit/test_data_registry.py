"""Cards: complete, consistent with their twins, and light to import."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lofi.data.entries import FORM_OF
from lofi.data.registry import Card, card_from, dataset_names, get_card
from lofi.errors import UserError
from lofi.scoring.figures import METRICS
from lofi.scoring.registry import SCORERS

TWINS = {"digits-pope": "pope", "digits-sqa": "scienceqa_img", "digits-vqa": "vqav2_val"}
BENCHMARKS = (
    *("ai2d", "chartqa", "docvqa_val", "gqa", "hallusionbench", "mmbench_cn_dev", "mmbench_en_dev", "mme", "mmmu_val"),
    *("mmstar", "ocrbench", "pope", "realworldqa", "scienceqa_img", "seedbench_image", "textvqa_val"),
    *("textvqa_val_ocr", "vizwiz_val", "vqav2_val"),
)
# Styles whose rule is not of the same harness: it has none of its own, and this is what its figures are made with.
BORROWED = {
    ("vqav2_val", "llava_official"): "vqav2",
    ("vizwiz_val", "llava_official"): "textvqa",
    ("textvqa_val_ocr", "llava_official"): "textvqa",
    ("mme", "llava_official"): "mme",
    ("mmbench_en_dev", "llava_official"): "mmbench",
    ("mmbench_cn_dev", "llava_official"): "mmbench",
}
MINIMAL = {
    "title": "T",
    "source": "a/b",
    "split": "test",
    "columns": ["q", "a", "image"],
    "image": "image",
    "question": "q",
    "target": "a",
    "sample_id": "{row:06d}",
    "task": "open",
    "scorer": "vqav2",
    "max_new_tokens": 16,
    "prompts": {"plain": "{q}"},
}
JOIN = {"config": "images", "split": "test", "on": "a", "key": "id", "image": "image"}


def test_every_benchmark_and_generated_dataset_is_there() -> None:
    assert set(dataset_names()) == {*BENCHMARKS, *TWINS}
    assert list(dataset_names()) == sorted(dataset_names())


@pytest.mark.parametrize("name", dataset_names())
def test_card_is_complete(name: str) -> None:
    card = get_card(name)
    assert card.name == name
    assert card.text
    assert card.licence
    assert 0 < card.n_images <= card.n_questions
    assert "lmms_eval" in card.prompts
    assert set(card.metrics) <= set(METRICS)
    assert all(trap.endswith(".") and "\n" not in trap for trap in card.traps)
    assert card.traps or card.generated


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_rule_goes_with_the_prompt(name: str) -> None:
    card = get_card(name)
    for style in card.prompts:
        scorer = card.scorer_of(style)
        assert SCORERS[scorer].harness == style or BORROWED.get((name, style)) == scorer, style


def test_every_entry_has_a_form() -> None:
    assert FORM_OF.keys() == {field.name for field in dataclasses.fields(Card)} - {"name"}


@pytest.mark.parametrize(("digits", "twin"), TWINS.items())
def test_digits_differ_from_their_twin_in_their_source_only(digits: str, twin: str) -> None:
    mine, original = dataclasses.asdict(get_card(digits)), dataclasses.asdict(get_card(twin))
    differ = {key for key in mine if mine[key] != original[key]}
    own = {"name", "title", "text", "source", "aliases", "revision", "licence", "n_questions", "n_images", "traps"}
    assert differ <= own
    assert get_card(digits).generated == digits
    assert get_card(twin).generated == ""


def test_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'pope'"):
        get_card("popes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taks": "mcq"}, "unknown entry of dataset mine 'taks': did you mean 'task'"),
        ({"task": "essay"}, "task 'essay' is not one of yesno, mcq, open"),
        ({"task": {"q": "open"}}, "`task` has no `by`"),
        ({"task": {"by": "kind", "x": "open"}}, "`task` has no `by`, or not one of `columns`"),
        ({"category": "topic"}, "add topic to `columns`"),
        ({"options": ["A", "q"]}, "add A to `columns`"),
        ({"where": {"kind": ["image"]}}, "add kind to `columns`"),
        ({"python_lists": ["b"]}, "add b to `columns`"),
        ({"image": ["image", "image_2"]}, "add image_2 to `columns`"),
        ({"prompts": {}}, "at least one style"),
        ({"prompts": {"plain": "{topic}"}}, "names 'topic', which is no column; it may name q, a, row, options"),
        ({"prompts": {"plain": "{image}"}}, "names 'image', which is no column"),
        ({"prompts": {"plain": "{q:stripped}"}}, "unknown builder of template '{q:stripped}' 'stripped'.* 'strip'"),
        ({"prompts": {"plain": "{q"}}, "template '{q' is not well formed"),
        ({"group": "{base}"}, "template '{base}' names 'base'"),
        ({"prompts": {"plain": {"mcq": "{q}"}}}, "prompt style plain has none for the task open"),
        ({"scorer": {"lmms_eval": "vqav2"}}, "`scorer` has none for prompt style plain"),
        ({"columns": "q, a, image"}, "columns is 'q, a, image'; it must be a list of texts"),
        ({"aliases": "c/d"}, "aliases is 'c/d'; it must be a list of texts"),
        ({"split": 2024}, "split is 2024; it must be a text; put numbers and yes or no in quotes"),
        ({"where": {"a": "image"}}, "where is {'a': 'image'}; it must be a mapping of columns to lists"),
        ({"where": {"a": []}}, "where is {'a': \\[\\]}; it must be a mapping of columns to lists"),
        ({"max_new_tokens": "16"}, "max_new_tokens is '16'; it must be a whole number"),
        ({"max_new_tokens": True}, "max_new_tokens is True; it must be a whole number"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; an answer needs at least 1"),
        ({"grouped": "yes"}, "grouped is 'yes'; it must be true or false"),
        ({"config": 1}, "config is 1; it must be a text, or null"),
        ({"prompts": {"plain": ["{q}"]}}, "it must be a mapping of prompt styles to templates"),
        ({"scorer": ["vqav2"]}, "scorer is \\['vqav2'\\]; it must be a text, or a mapping of texts to texts"),
        ({"image": 1}, "image is 1; it must be the name of a column, or a list of names"),
        (
            {"join": {**JOIN, "left": "id"}, "image": ""},
            "join is .*; it must be a mapping with the texts config, split",
        ),
        ({"join": {key: JOIN[key] for key in ("config", "split")}, "image": ""}, "join is .*; it must be a mapping"),
        ({"join": JOIN}, "both `image` and `join`"),
        ({"image": ""}, "neither `image` nor `join`"),
        ({"join": {**JOIN, "on": "ref"}, "image": ""}, "add ref to `columns`"),
        ({"revision": "4db1276"}, "revision '4db1276' is not a whole commit of 40 hex digits"),
    ],
)
def test_mistakes_in_a_card_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        card_from("mine", MINIMAL | change)
    assert "\n" not in str(caught.value)
    assert "mine" in str(caught.value)


def own_card(folder: Path, **changes: object) -> Path:
    """A card in a file."""
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | changes))
    return path


def test_a_source_beside_the_card_is_named_from_there(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for source, place in {
        "photos": tmp_path / "photos",
        "./later": tmp_path / "later",
        "questions.csv": tmp_path / "questions.csv",
        "owner/name": Path("owner/name"),
        "/data/photos": Path("/data/photos"),
    }.items():
        get_card.cache_clear()
        assert Path(get_card(str(own_card(tmp_path, source=source))).source) == place


def test_a_card_may_be_like_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("like: pope\ntitle: Mine\nsplit: mine\n")
    assert get_card(str(path)) == dataclasses.replace(get_card("pope"), name="mine", title="Mine", split="mine")
    path.write_text("like: popes\n")
    get_card.cache_clear()
    with pytest.raises(UserError, match="did you mean 'pope'"):
        get_card(str(path))


def test_a_file_that_is_no_card_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("- pope\n")
    with pytest.raises(
        UserError, match=r"mine\.yaml holds list at its top; it must be a mapping with the entries of a dataset"
    ):
        get_card(str(path))
    with pytest.raises(UserError, match="cannot be read"):
        get_card(str(tmp_path / "other.yaml"))


def test_missing_entries_are_named() -> None:
    with pytest.raises(UserError, match="lacks split, scorer"):
        card_from("mine", {key: value for key, value in MINIMAL.items() if key not in ("split", "scorer")})


def test_import_is_light() -> None:
    heavy = "{'torch', 'datasets', 'pandas', 'pyarrow', 'transformers', 'PIL', 'numpy'}"
    code = f"import sys, lofi.data.registry as r; r.get_card('pope'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
