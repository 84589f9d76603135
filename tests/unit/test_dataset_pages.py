"""The page about datasets and scorers is the generated one, and leaves nothing out."""

from pathlib import Path

import pytest

from lofi.data.registry import dataset_names, get_card
from lofi.data.templates import BUILDERS
from lofi.dataset_pages import document, entries, quoted
from lofi.scoring.differences import DIFFERENCES
from lofi.scoring.registry import SCORERS


@pytest.fixture(scope="module")
def page() -> str:
    return document()


def test_the_page_is_the_generated_one(repository: Path, page: str) -> None:
    written = (repository / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert written == page, "run `python -m lofi.dataset_pages > docs/datasets.md`"


@pytest.mark.parametrize("name", dataset_names())
def test_every_dataset_is_on_the_page_with_its_prompts_and_traps(name: str, page: str) -> None:
    card = get_card(name)
    assert page.partition("\n## Scorers\n")[0].count(f"\n| `{name}` | ") == (1 if card.generated else 2)
    section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    assert card.text.strip() in section
    for style in card.prompts:
        scorer = card.scorer_of(style)
        assert f"`{style}` (scorer `{scorer}`, version {SCORERS[scorer].version})" in section
        for task in card.tasks:
            assert quoted(card.template(style, task)) in section
    for trap in card.traps:
        assert f"\n- {trap}\n" in section
    assert card.generated or f"| `{card.source}`" in page


def test_every_scorer_builder_and_difference_is_on_the_page(page: str) -> None:
    for name in SCORERS:
        assert page.count(f"\n| `{name}` | {SCORERS[name].version} | ") == 1
    for name, build in BUILDERS.items():
        assert f"| `{{column:{name}}}` | {(build.__doc__ or '').splitlines()[0]} |" in page
    for each in DIFFERENCES:
        assert page.count(f"- **{each.name}** ") == 1
        assert each.why in page


def test_what_the_page_links_to_is_there(repository: Path, page: str) -> None:
    for name in ("own_dataset.md", "scoring.md"):
        assert f"({name})" in page
        assert (repository / "docs" / name).is_file()


def test_line_breaks_and_spaces_of_a_prompt_can_be_seen() -> None:
    assert quoted("Sei 狗.\n ") == '`"Sei 狗.\\n "`'
    assert [entry.cells["answered by"] for entry in entries() if entry.card.name == "mmmu_val"] == [
        "letters, else generation"
    ]
