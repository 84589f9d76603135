"""Passwords and tokens where they would be stored and shown: in configs, in cards, on the command line."""

import re

from lofi.errors import UserError

IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/@\"']+@", re.IGNORECASE)
HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


def refuse_credentials(text: str, place: str) -> None:
    """Refuse a text that holds a URL with a user or a password, or a token of the hub; the message repeats neither."""
    if IN_URL.search(text):
        raise UserError(
            f"{place} has a URL with a user name or a password in it, which would be stored with every result; give a "
            "local folder, or a hub id and HF_TOKEN in the environment"
        )
    if HUB_TOKEN.search(text):
        raise UserError(
            f"{place} has what looks like a token of the hub, which would be stored with every result; revoke it, "
            "remove it, and set HF_TOKEN in the environment"
        )
