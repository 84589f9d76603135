"""Every benchmark from a made folder in the hub's format through the real `prepare`: only the path is another."""

from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from lofi.data.docs import Doc, Docs, load_docs, read_images
from lofi.data.images import open_image
from lofi.data.prepare import prepare
from lofi.data.registry import dataset_names, get_card
from lofi.scoring.answers import OK, Question
from lofi.scoring.registry import get_scorer
from tests.datasets.expected import BASES, CHANGES
from tests.datasets.folders import write_dataset
from tests.datasets.pictures import ERRORS, PICTURES
from tests.datasets.rows import rows_of

NAMES = [name for name in dataset_names() if not get_card(name).generated]


@pytest.fixture(scope="module", params=NAMES)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    hub = write_dataset(request.param, folder / "hub")
    prepare(get_card(request.param), folder / "out", prompt_style="lmms_eval", source=str(hub))
    return request.param, folder / "out"


def expected_of(name: str) -> list[dict[str, Any]]:
    """The docs of a made dataset by their rows, without hashes; rows that are not taken are left out."""
    changes = [*[{}] * len(PICTURES), *CHANGES[name]]
    found = []
    for i, change in enumerate(changes):
        if change is None:
            continue
        fields = BASES[name](i) | change
        defaults = {"group_id": fields["sample_id"], "figure_id": None, "category": None, "l2_category": None}
        defaults |= {"task_type": "open", "options": (), "option_labels": (), "targets": (fields["target"],)}
        found.append(defaults | {"image_error": ERRORS.get(i)} | fields)
    return found


def by_row(name: str, docs: Docs) -> list[Doc]:
    """The docs in the order of their rows."""
    order = [fields["sample_id"] for fields in expected_of(name)]
    assert sorted(order) == sorted(doc.sample_id for doc in docs.rows)
    return sorted(docs.rows, key=lambda doc: order.index(doc.sample_id))


def test_every_field_of_every_row(prepared: tuple[str, Path]) -> None:
    name, folder = prepared
    card, docs = get_card(name), load_docs(folder)
    for doc, fields in zip(by_row(name, docs), expected_of(name), strict=True):
        alone = doc.sample_id if doc.image_hash == _hash(b"") else doc.image_hash
        said = asdict(doc)
        assert {key: said[key] for key in fields} == fields
        assert doc.cluster_id == fields.get("cluster_id", alone)
        assert (doc.split, doc.max_new_tokens) == (card.split, card.max_new_tokens)
    assert 8 <= len(docs.rows) <= 20


def test_images_are_the_bytes_of_their_rows(prepared: tuple[str, Path]) -> None:
    name, folder = prepared
    docs = by_row(name, load_docs(folder))
    for doc, picture in zip(docs, PICTURES, strict=False):
        assert doc.image_hashes == (doc.image_hash,) == (_hash(picture or b""),)
    contents = read_images(folder, [each for doc in docs for each in doc.image_hashes])
    assert {_hash(content): content for content in contents.values()} == contents
    shown = {doc.image_hash for doc in docs if doc.image_error is None}
    for each in shown:
        assert open_image(contents[each]).mode == "RGB"


def test_rows_that_show_several_images_keep_them_all(prepared: tuple[str, Path]) -> None:
    name, folder = prepared
    several = [doc for doc in load_docs(folder).rows if len(doc.image_hashes) > 1]
    assert len(several) == (1 if name in ("mmmu_val", "seedbench_image") else 0)
    for doc in several:
        assert doc.image_hash not in doc.image_hashes
        assert len(read_images(folder, doc.image_hashes)) == 2


def test_the_right_answer_is_right_under_every_scorer_of_the_card(prepared: tuple[str, Path]) -> None:
    name, folder = prepared
    card = get_card(name)
    for scorer in {card.scorer_of(style) for style in card.prompts}:
        for doc in load_docs(folder).rows:
            question = Question(doc.target, doc.targets, doc.options, doc.option_labels, doc.category, doc.l2_category)
            answer = get_scorer(scorer).rule(doc.target, question)
            assert answer.status == OK, (scorer, doc)
            assert answer.correct, (scorer, doc)


@pytest.mark.parametrize("style", ["llava_official", "vlmevalkit"])
def test_other_styles_change_nothing_but_the_prompt(prepared: tuple[str, Path], style: str, tmp_path: Path) -> None:
    name, folder = prepared
    card = get_card(name)
    if style not in card.prompts:
        return
    prepare(card, tmp_path / "out", prompt_style=style, source=str(write_dataset(name, tmp_path / "hub")))
    of_prompt = {"prompt": "", "prompt_hash": ""}
    for doc, other in zip(load_docs(folder).rows, load_docs(tmp_path / "out").rows, strict=True):
        assert asdict(doc) | of_prompt == asdict(other) | of_prompt


def test_every_benchmark_has_a_made_folder() -> None:
    assert set(NAMES) == BASES.keys() == CHANGES.keys()
    assert all(8 <= len(rows_of(name)) <= 20 for name in NAMES)


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]
