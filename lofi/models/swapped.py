"""Attention functions of our own, in the library's layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def attending_by(config: Any, name: str) -> Iterator[None]:
    """While the block lasts, the layers of this config attend by the registered function of this name."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
