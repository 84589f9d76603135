"""The manifest of a report: the config, and everything else that its numbers came from, as names and values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lofi.errors import UserError
from lofi.strict_yaml import read_mapping

FORMAT = 1
_FIX = "give the manifest.json out of the folder beside a report"

# Of a kind (packages, models, tables, ...) the names, and what each of them was.
Facts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Manifest:
    """How one report was made."""

    command: str
    generated: str | None  # the date on the page
    commit: str  # of lofi; empty outside a checkout, with `+` where files differed from it
    config: Mapping[str, Any]  # of the sweep, with every default filled in
    facts: Facts

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False) + "\n"


def read(path: Path) -> Manifest:
    """The manifest in a file, which may come from somebody else."""
    if not path.is_file():
        raise UserError(f"{path} is no file; {_FIX}")
    content = dict(read_mapping(path, "the manifest of a report"))
    if "format" not in content:
        raise UserError(f"{path} is no manifest of a report; {_FIX}")
    if (found := content.pop("format")) != FORMAT:
        raise UserError(f"{path} has the format {found!r}, and this lofi reads {FORMAT}; {_FIX}, of this version")
    kinds = {"command": str, "generated": str | None, "commit": str, "config": dict, "facts": dict}
    for name, kind in kinds.items():
        if name not in content or not isinstance(content[name], kind):
            raise UserError(f"{path} is no manifest, because its {name} is missing or of another kind; {_FIX}")
    facts = content["facts"]
    values = [value for named in facts.values() for value in (named.values() if isinstance(named, dict) else [None])]
    if not all(isinstance(value, str) for value in values):
        raise UserError(f"{path} is no manifest, because its facts are no names with texts; {_FIX}")
    return Manifest(**{name: content[name] for name in kinds})
