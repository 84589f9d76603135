"""The documentation of the methods is what the registry and the docstrings say."""

import subprocess
import sys
from pathlib import Path

import pytest

from lofi.methods.catalogue import FIRST_LINE, describe, document, entries, escaped, module_docstring
from lofi.methods.registry import METHODS

# Baselines and lofi's own: no paper describes them.
WITHOUT_PAPER = {"full", "random", "grid_1d", "grid_2d", "pool", "lofi_adaptive", "lofi_llm"}


def test_the_page_is_the_generated_one(repository: Path) -> None:
    page = (repository / "docs" / "methods.md").read_text(encoding="utf-8")
    assert page == document(), "run `python -m lofi.methods.catalogue > docs/methods.md`"


@pytest.mark.parametrize("name", METHODS)
def test_every_docstring_names_the_method_its_paper_and_what_it_keeps(name: str) -> None:
    docstring = module_docstring(name)
    first, _, rest = docstring.partition("\n")
    found = FIRST_LINE.fullmatch(first)
    assert found, first
    assert (found["paper"] is None) == (name in WITHOUT_PAPER)
    assert rest.startswith("\n"), "a blank line after the first"
    # Deviations are found by their paragraph: anywhere else they would be lost.
    assert docstring.count("Deviations:") == docstring.count("\n\nDeviations: ") <= 1


def test_every_method_is_on_the_page_with_its_parameters() -> None:
    page = document()
    for entry in entries():
        assert page.count(f"| `{entry.name}` |") == 1
        assert page.count(f"[`{entry.name}`](../lofi/methods/{entry.file})") == 1
        for key, param in entry.params.items():
            assert f"- `{key}`" in page
            assert escaped(param.rule) in page
        assert entry.deviations is None or escaped(entry.deviations) in page


def test_a_docstring_is_taken_apart() -> None:
    text = "Some, second stage (arXiv 2401.01234, version 2): keeps tokens: the best.\n\nHow.\n\nDeviations: a\nb.\n\nMore."
    assert describe(text) == ("Some, second stage", "2401.01234", "keeps tokens: the best.", "a\nb.")
    assert describe("Some (arXiv 2401.01234), first stage: x.") == ("Some, first stage", "2401.01234", "x.", None)
    assert describe("A mean: used (arXiv 2401.01234) as it is.")[1] is None
    for wrong in ("Keeps tokens.", "Some (arXiv 24): x.", "Some: no full stop", ""):
        with pytest.raises(ValueError, match="must begin"):
            describe(wrong)


def test_it_runs_without_torch() -> None:
    code = "import sys, lofi.methods.catalogue as c; c.document(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
