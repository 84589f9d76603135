"""Drawings as inline SVG: short, with ids of their own, and with every mark that matplotlib drew."""

import io
import re
from collections import Counter
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure as Canvas

from lofi.report.drawing import SETTINGS, canvas, finish, legend
from tests.unit.report_setup import HOSTILE

MARKS = ("path", "use", "text", "image", "rect")


def drawing(label: str = "label") -> Canvas:
    """Lines with marks, intervals, a legend, a picture and text at an angle."""
    made, ((left, right),) = canvas(1, 2, 3.0)
    for shift in range(4):
        left.plot(range(12), [x / 7 + shift for x in range(12)], marker="os^D"[shift], label=f"line {shift}")
        left.vlines(range(12), -1, [x / 7 for x in range(12)], alpha=0.5)
    right.imshow([[0.1, 0.2], [0.3, 0.4]])
    right.text(0.5, 0.5, label, rotation=30, parse_math=False, in_layout=False)
    legend(made, left)
    return made


def counted(svg: str) -> Counter[str]:
    return Counter(element.tag.split("}")[-1] for element in ElementTree.fromstring(svg).iter())


def test_it_is_half_as_long_with_the_same_marks() -> None:
    plain = io.StringIO()
    with matplotlib.rc_context(SETTINGS):
        drawing().savefig(plain, format="svg", metadata={"Date": None})
    svg = finish(drawing(), "fig", "A title", "A caption").svg
    assert len(svg) < len(plain.getvalue()) / 2
    before, after = counted(plain.getvalue()), counted(svg)
    assert {mark: after[mark] for mark in MARKS} == {mark: before[mark] for mark in MARKS}


def test_what_it_refers_to_is_in_it_and_in_no_other_drawing() -> None:
    one, two = (finish(drawing(), name, "A title", "A caption").svg for name in ("fig-one", "fig-two"))
    for svg in (one, two):
        ids = re.findall(r' id="([^"]*)"', svg)
        assert len(set(ids)) == len(ids)
        referred = set(re.findall(r'url\(#([^)"]*)\)|href="#([^"]*)"', svg))
        assert referred
        assert {one or two for one, two in referred} <= set(ids)
        assert set(re.findall(r'class="([^"]*)"', svg)) <= set(re.findall(r" \.(s\d+)\{", svg))
    assert not set(re.findall(r' id="([^"]*)"', one)) & set(re.findall(r' id="([^"]*)"', two))


def test_equal_drawings_are_equal_letter_by_letter() -> None:
    assert finish(drawing(), "fig", "A title", "A caption").svg == finish(drawing(), "fig", "A title", "A caption").svg


def test_texts_are_read_as_they_are() -> None:
    label = f'{HOSTILE} id="x" x="1.23456" url(#y) </text><g>'
    svg = finish(drawing(label), "fig", f"Title {label}", f"Caption {label}").svg
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert texts.count(label) == 1
    assert f"Title {label}" in texts
    assert f"Caption {label}" in texts
    assert counted(svg)["script"] == counted(svg)["img"] == 0
