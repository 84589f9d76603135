"""The documentation of the families, from their descriptions, the library's own configurations and the registry.

`python -m lofi.models.catalogue` prints `docs/families.md`.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lofi.methods.registry import METHODS, Reducer, Value, check_params
from lofi.methods.schedule import Fitted, Searched
from lofi.models.facts import Facts, facts_of
from lofi.models.families import ENCODERS, FAMILIES, TESTED_TRANSFORMERS, Family, encoder_type
from lofi.models.obstacles import obstacle

FOLDER = Path(__file__).parent
POSITIONS = {"1d": "`kept` or `reindexed`", "mrope": "rows and columns: always `kept`"}


@dataclass(frozen=True)
class Refusal:
    """A method, with a parameter where that matters, which some families cannot run."""

    method: str
    params: Mapping[str, Value]
    families: tuple[str, ...]
    reason: str  # what it needs

    @property
    def cells(self) -> dict[str, str]:
        """Its row, by the heading of the column."""
        chosen = [f"`{key}: {value}`" for key, value in self.params.items()]
        return {
            "method": " with ".join([f"`{self.method}`", *chosen]),
            "cannot run on": ", ".join(f"`{family}`" for family in self.families),
            "because it needs": self.reason,
        }


@cache
def configuration(model_type: str) -> dict[str, Any]:
    """What the library builds of that family where nothing is said."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config: dict[str, Any] = CONFIG_MAPPING[model_type]().to_dict()
    return config


def refusals() -> list[Refusal]:
    """Every method that cannot run somewhere, in the order of the registry, once for each reason."""
    found = []
    for name, reducer in METHODS.items():
        for params in _variants(reducer):
            families = defaultdict(list)
            for model_type in FAMILIES:
                families[_reason(name, params, facts_of(configuration(model_type), model_type))].append(model_type)
            families.pop("", None)
            found += [Refusal(name, params, tuple(each), reason) for reason, each in families.items()]
    return found


def _variants(reducer: Reducer) -> Iterator[dict[str, Value]]:
    """The defaults, and the parameter with which a method needs more."""
    yield {}
    if reducer.cls_when is not None:
        key, value = reducer.cls_when
        yield {key: value}


def _reason(name: str, params: Mapping[str, Value], model: Facts) -> str:
    """What stands against a method with these parameters, unless its defaults are refused already."""
    refused = params and obstacle(name, check_params(name, {}), model)
    return "" if refused else obstacle(name, check_params(name, params), model)


def family_cells(family: Family) -> dict[str, str]:
    """One family's row, by the heading of the column."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CLASSES

    kind = encoder_type(family, configuration(family.model_type)["vision_config"], family.model_type)
    return {
        "family": f"`{family.model_type}`",
        "library class": f"`{CLASSES[family.model_type]}`",
        "encoder": f"`{kind}`",
        "CLS": "yes" if ENCODERS[kind].cls else "no",
        "projector": f"`{family.projector}`",
        "tokens": _first_line(family.groups),
        "images": _first_line(family.images),
        "positions": POSITIONS[family.positions],
    }


def encoder_cells(kind: str) -> dict[str, str]:
    """One encoder's row, by the heading of the column."""
    encoder = ENCODERS[kind]
    return {
        "encoder": f"`{kind}`",
        "tokens before the patches": "one, CLS" if encoder.cls else "none",
        "saliency": "attention of the CLS query" if encoder.cls else "attention received from all patches",
        "built like CLIP's": "yes" if encoder.blocks else "",
        "has a text half": "yes" if encoder.tower else "",
    }


@cache
def _geometry() -> dict[str, str]:
    """The first line of the docstring of each function of `geometry`, read without importing it."""
    tree = ast.parse((FOLDER / "geometry.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: (ast.get_docstring(node) or "").partition("\n")[0] for node in functions}


def _first_line(function: str) -> str:
    """What a function of `geometry` says of itself, without the shape that it returns."""
    line = _geometry()[function].removesuffix(".")
    return line.partition(") ")[2] if line.startswith("(") else line


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table in Markdown, with the keys of the rows as headings."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def named(names: Sequence[str]) -> str:
    """Names as a list in a sentence."""
    *others, last = [f"`{name}`" for name in names]
    return f"{', '.join(others)} and {last}" if others else last


def document() -> str:
    """All of `docs/families.md`."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    families = FAMILIES.values()
    text: str = environment.get_template("families.md.j2").render(
        named=named,
        version=TESTED_TRANSFORMERS,
        families=table([family_cells(family) for family in families]),
        encoders=table([encoder_cells(kind) for kind in ENCODERS]),
        refusals=table([refusal.cells for refusal in refusals()]),
        mrope=[family.model_type for family in families if family.positions == "mrope"],
        sliding=[family.model_type for family in families if family.rotary_by_layer],
        both_ways=[family.model_type for family in families if family.both_ways],
        deepstack=[family.model_type for family in families if family.deepstack],
        cut=[family.model_type for family in families if not family.whole_tiles],
        fitted=[name for name, reducer in METHODS.items() if isinstance(reducer.schedule, Fitted | Searched)],
    )
    return text


if __name__ == "__main__":
    print(document(), end="")
