"""Does a vision-language model still give the same answers when visual tokens are dropped."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Part of every cell key. Raise it whenever a change in lofi changes stored numbers.
NUMERICS_VERSION = 7


def __getattr__(name: str) -> Any:
    """What users call from their own code, imported when it is first asked for, because it needs torch."""
    modules = {"reduce": "lofi.reduction", "load": "lofi.pretrained", "score": "lofi.answers"}
    if name not in modules:
        raise AttributeError(f"module 'lofi' has no attribute {name!r}")
    return getattr(import_module(modules[name]), name)
