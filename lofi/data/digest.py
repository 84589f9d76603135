"""The one content hash of questions, prompts and images: 128 bits of SHA-256, as 32 hex digits."""

import hashlib
import json
from typing import Any


def digest(content: bytes) -> str:
    """The hash of bytes."""
    return hashlib.sha256(content).hexdigest()[:32]


def digest_text(text: str) -> str:
    """The hash of a text."""
    return digest(text.encode())


def digest_values(values: Any) -> str:
    """The hash of plain values (numbers, texts, lists, dicts), whatever the order of their keys."""
    return digest_text(json.dumps(values, sort_keys=True, ensure_ascii=False, default=str))
