"""The golden cases of one family: what the harnesses returned for made-up input.

`LOFI_GOLDEN` names another folder that holds `scoring/`, with other cases of the same families.
"""

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("LOFI_GOLDEN", Path(__file__).parent / "data")) / "scoring"


def cases(name: str) -> list[dict[str, Any]]:
    """Every case of a family; a file of none is an error."""
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    found = [json.loads(line) for line in lines if line]
    assert found, f"{name}.jsonl holds no case"
    return found
