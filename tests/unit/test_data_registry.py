"""Cards: complete, consistent with their twins, and light to import."""

import dataclasses
import subprocess
import sys
from string import Formatter

import pytest

from lofi.data.prompts import BUILDERS
from lofi.data.registry import Card, card_from, dataset_names, get_card
from lofi.errors import UserError
from lofi.scoring.registry import SCORERS

TWINS = {"digits-pope": "pope", "digits-sqa": "scienceqa_img", "digits-vqa": "vqav2_val"}
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


def templates(card: Card) -> list[str]:
    return [*card.prompts.values(), card.sample_id, card.group, card.cluster]


def test_the_six_datasets_are_there() -> None:
    assert set(dataset_names()) >= {*TWINS, *TWINS.values()}
    assert list(dataset_names()) == sorted(dataset_names())


@pytest.mark.parametrize("name", dataset_names())
def test_card_is_complete(name: str) -> None:
    card = get_card(name)
    assert card.name == name
    assert card.scorer in SCORERS
    assert card.text
    assert card.licence
    assert card.max_new_tokens > 0
    assert card.revision == "" or (len(card.revision) == 40 and int(card.revision, 16) >= 0)
    assert "lmms_eval" in card.prompts
    known = {*card.columns, "row", "options"}
    for template in templates(card):
        for _, field, spec, _ in Formatter().parse(template):
            assert field is None or field in known, template
            assert not spec or spec in BUILDERS or spec == "06d", template


@pytest.mark.parametrize(("digits", "twin"), TWINS.items())
def test_digits_differ_from_their_twin_in_their_source_only(digits: str, twin: str) -> None:
    mine, original = dataclasses.asdict(get_card(digits)), dataclasses.asdict(get_card(twin))
    differ = {key for key in mine if mine[key] != original[key]}
    assert differ <= {"name", "title", "text", "source", "aliases", "revision", "licence", "n_questions", "n_images"}
    assert get_card(digits).generated == digits
    assert get_card(twin).generated == ""


def test_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'pope'"):
        get_card("popes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taks": "mcq"}, "did you mean 'task'"),
        ({"task": "essay"}, "not one of yesno, mcq, open"),
        ({"category": "topic"}, "add topic to `columns`"),
        ({"options": ["A", "q"]}, "add A to `columns`"),
        ({"prompts": {}}, "at least one style"),
    ],
)
def test_mistakes_in_a_card_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        card_from("mine", MINIMAL | change)


def test_missing_entries_are_named() -> None:
    with pytest.raises(UserError, match="lacks split, scorer"):
        card_from("mine", {key: value for key, value in MINIMAL.items() if key not in ("split", "scorer")})


def test_import_is_light() -> None:
    heavy = "{'torch', 'datasets', 'pandas', 'pyarrow', 'transformers', 'PIL', 'numpy'}"
    code = f"import sys, lofi.data.registry as r; r.get_card('pope'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
