"""The picture of a screen shows what is on it, and is the same for two runs that differ in numbers alone."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pyte
import pytest

from support.svg import BLOCKS, CELL_WIDTH, COLOURS, MARGIN, is_same, picture
from support.terminal import TwoScreens

SVG = "{http://www.w3.org/2000/svg}"


def drawn(text: str) -> ElementTree.Element:
    """The picture of a screen after a program wrote this."""
    return ElementTree.fromstring(picture(screen_of(text), title="a <title>"))


def screen_of(text: str) -> TwoScreens:
    """A small screen after a program wrote this."""
    screen = TwoScreens(40, 5)
    pyte.Stream(screen).feed(text)
    return screen


def texts(svg: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """The pieces of text by what they say."""
    return {element.text or "": element for element in svg.iter(f"{SVG}text")}


def test_text_stands_where_it_stood_in_its_colour():
    """Columns keep their places whatever font there is, and letters that XML reserves are themselves."""
    found = texts(drawn("a & b   \x1b[31;1mno\x1b[0m"))

    assert list(found) == ["a <title>", "a & b", "no"]
    assert float(found["no"].attrib["x"]) == pytest.approx(MARGIN + 8 * CELL_WIDTH)
    assert found["no"].attrib["fill"] == COLOURS["red"]
    assert found["no"].attrib["font-weight"] == "bold"


def test_bars_are_areas():
    """A bar has no gaps, in its length and colour."""
    areas = [element for element in drawn("\x1b[32m████\x1b[0m░░").iter(f"{SVG}rect") if "opacity" in element.attrib]

    assert [float(area.attrib["width"]) for area in areas] == pytest.approx([4 * CELL_WIDTH, 2 * CELL_WIDTH])
    assert [float(area.attrib["opacity"]) for area in areas] == [BLOCKS["█"], BLOCKS["░"]]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("██░░  50%   1200/2400   3.1/s   1m20s", "█░░░  25%   600/2400   13/s   45s", True),
        ("2026-03-01T12:00:00Z batch_0a1b-2c", "2027-11-30T01:02:03Z batch_ffff-00", True),
        ("east InProgress", "east Succeeded", False),
        ("east", "east west", False),
    ],
)
def test_numbers_alone_make_no_other_picture(before: str, after: str, same: bool):
    """Drawing again what has not changed leaves no difference in the repository."""
    old, new = (picture(screen_of(text), title="t") for text in (before, after))

    assert is_same(old, new) is same
