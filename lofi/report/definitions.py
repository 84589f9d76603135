"""The definitions that every page links to: their text, and their names by anchor."""

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


@cache
def written() -> Markup:
    """All definitions as they stand on their page."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    return Markup(environment.get_template("definitions.html.j2").render())


@cache
def names() -> dict[str, str]:
    """What is defined at each anchor: `{"neg-flip": "negative flip (lost)", …}`."""
    found = re.findall(r'<dt id="def-([^"]+)">(.*?)(?: <code>.*?</code>)?</dt>', written())
    return {anchor: Markup(name).unescape() for anchor, name in found}
