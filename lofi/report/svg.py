"""A drawing as inline SVG: text as text, ids and styles of its own, and few letters, because a report has many.

matplotlib repeats every style at every mark, names groups that nothing refers to, and writes six decimals.
"""

import io
import re
import zlib
from collections import Counter

from markupsafe import Markup, escape
from matplotlib.figure import Figure as Canvas

TOKEN = re.compile(r"<[^>]*>|[^<]+")
ATTRIBUTE = re.compile(r'\s([\w:-]+)="([^"]*)"')
NUMBER = re.compile(r"-?\d+\.\d+")
SPACES = re.compile(r"\s*([MLQCZmlqcz])\s*|\s+")
PLACES = ("d", "x", "y", "points")  # attributes in units of the drawing, where a hundredth is enough


def inline(canvas: Canvas, name: str, title: str, description: str) -> Markup:
    """The drawing with a title for screen readers and no dates; `name` tells its ids from those of other drawings."""
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.S)
    head, tokens = text[: text.index(">") + 1], TOKEN.findall(text[text.index(">") + 1 :])
    own = f"f{zlib.crc32(name.encode()):x}"
    box = re.search(r'viewBox="([^"]*)"', head)
    opening = (
        f'<svg id="{own}" viewBox="{box.group(1) if box else "0 0 100 100"}" role="img" '
        f'aria-labelledby="{own}-title {own}-desc" version="1.1" '
        f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{own}-title">{escape(title)}</title><desc id="{own}-desc">{escape(description)}</desc>'
    )
    return Markup(opening + "".join(_without_bare_groups(_short(tokens, own))))


def _short(tokens: list[str], own: str) -> list[str]:
    """Every tag with its own ids, with a class where another has the same style, and with short numbers."""
    tags = [token for token in tokens if token.startswith("<")]
    referred = {id for tag in tags for id in re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', tag) for id in id if id}
    counted = Counter(value for tag in tags for key, value in ATTRIBUTE.findall(tag) if key == "style")
    classes = {style: f"s{i}" for i, style in enumerate(style for style, n in counted.items() if n > 1)}
    rules = "".join(f"#{own} .{name}{{{style}}}" for style, name in classes.items()).replace("url(#", f"url(#{own}-")
    said = [token for token in tokens if token.strip()]
    found = [_tag(token, own, referred, classes) if token.startswith("<") else token for token in said]
    end = next((i for i, token in enumerate(found) if token == "</style>"), None)
    if end is not None:
        found[end] = f"{rules}</style>"
    return found


def _tag(tag: str, own: str, referred: set[str], classes: dict[str, str]) -> str:
    """One tag, written short."""

    def attribute(match: re.Match[str]) -> str:
        key, value = match.groups()
        if key == "id":
            return f' id="{own}-{value}"' if value in referred else ""
        if key == "style" and value in classes:
            return f' class="{classes[value]}"'
        if key == "transform" and value.startswith("rotate(-0 "):
            return ""
        if key in PLACES:
            value = SPACES.sub(lambda m: m.group(1) or " ", NUMBER.sub(_rounded, value)).strip()
        return f' {key}="{value}"'.replace("url(#", f"url(#{own}-").replace('href="#', f'href="#{own}-')

    return ATTRIBUTE.sub(attribute, tag)


def _rounded(match: re.Match[str]) -> str:
    text = f"{float(match.group()):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _without_bare_groups(tokens: list[str]) -> list[str]:
    """Leave out the groups that say nothing."""
    kept: list[str] = []
    said: list[bool] = []
    for token in tokens:
        speaks = token not in ("<g>", "<g/>")
        if token.startswith(("<g>", "<g ")) and not token.endswith("/>"):
            said.append(speaks)
        elif token == "</g>":
            speaks = said.pop()
        if speaks:
            kept.append(token)
    return kept
