"""The pages about families and the Python interface say what is so: one is generated, the examples of the other run."""

import doctest
import re
from pathlib import Path

import torch

from lofi.models import catalogue
from lofi.models.families import ENCODERS, FAMILIES
from lofi.models.obstacles import OBSTACLES

TIME = re.compile(r"\d+\.\d+(e-\d+)?")


class Checker(doctest.OutputChecker):
    """Times differ from machine to machine; what stands where they stand does not."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return want == got or (want.startswith("(0.0") and TIME.sub("time", want) == TIME.sub("time", got))


def run_examples(text: str, name: str) -> int:
    """Run all examples of a page in one namespace; how many there are."""
    torch.manual_seed(0)
    examples = doctest.DocTestParser().get_doctest(text.replace("```", ""), {}, name, name, 0)
    runner = doctest.DocTestRunner(Checker(), verbose=False)
    report: list[str] = []
    runner.run(examples, out=report.append)
    assert not report, "".join(report)
    return len(examples.examples)


def test_the_examples_of_the_interface_run(repository: Path) -> None:
    text = (repository / "docs" / "api.md").read_text(encoding="utf-8")
    assert run_examples(text, "docs/api.md") == text.count("\n>>> ")


def test_the_examples_of_the_readme_run(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n( *>>> import lofi\n.*?)```", text, flags=re.DOTALL)
    assert run_examples(example, "README.md") == example.count(">>> ")


def test_the_page_of_the_families_is_the_generated_one(repository: Path) -> None:
    page = (repository / "docs" / "families.md").read_text(encoding="utf-8")
    assert page == catalogue.document(), "run `python -m lofi.models.catalogue > docs/families.md`"


def test_every_family_encoder_and_reason_is_on_the_page() -> None:
    page = catalogue.document()
    for family in FAMILIES:
        assert page.count(f"\n| `{family}` | `") == 1
    for encoder in ENCODERS:
        assert page.count(f"\n| `{encoder}` | ") == 1
    reasons = {each.reason for each in catalogue.refusals()}
    assert reasons == {each.reason for each in OBSTACLES}, "a reason that no family gives has no test"
