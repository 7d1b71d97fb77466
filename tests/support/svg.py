"""A picture of a terminal's screen, as SVG that any browser shows without the terminal's font."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple
from xml.sax.saxutils import escape

from pyte.screens import Char

from support.terminal import TwoScreens

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE = 8.4, 19, 14
MARGIN, BAR_HEIGHT = 16, 34
BACKGROUND, FRAME, TEXT = "#16181d", "#2a2e37", "#d7dae0"
COLOURS = {"red": "#ef6f6c", "green": "#7fc97f", "brown": "#e3b341", "cyan": "#5fb3d4", "blue": "#6f9cf0"}
"""By pyte's names, in which yellow is brown."""
DIM = "#8a909c"
BLOCKS = {"█": 1.0, "▒": 0.8, "░": 0.35}
"""Drawn as areas, which leave no gaps in any font, with this opacity."""
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SHAPE = re.compile(r'data-shape="([0-9a-f]+)"')


class Run(NamedTuple):
    """Neighbouring cells that look the same."""

    column: int
    text: str
    fill: str
    bold: bool


def picture(screen: TwoScreens, *, title: str) -> str:
    """The screen down to its last line with anything on it, in a window with a title."""
    rows = [list(_runs(screen, at)) for at in range(screen.lines)]
    while rows and not any(run.text.strip() for run in rows[-1]):
        rows.pop()
    width = screen.columns * CELL_WIDTH + 2 * MARGIN
    height = len(rows) * CELL_HEIGHT + BAR_HEIGHT + 2 * MARGIN
    text = "\n".join("".join(run.text for run in row).rstrip() for row in rows)
    body = "\n".join(drawn for at, row in enumerate(rows) for run in row for drawn in _drawn(run, at))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img"'
        f' aria-label="{escape(title)}" data-shape="{shape(text)}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{width:g}" height="{height:g}" rx="9" fill="{BACKGROUND}"/>\n'
        f'<path d="M0 {BAR_HEIGHT}V9a9 9 0 0 1 9-9h{width - 18:g}a9 9 0 0 1 9 9v{BAR_HEIGHT - 9}z" fill="{FRAME}"/>\n'
        f'<g font-family="{FONT}" font-size="{FONT_SIZE}">\n'
        f'<text x="{width / 2:g}" y="22" text-anchor="middle" fill="{DIM}">{escape(title)}</text>\n'
        f"{body}\n</g>\n</svg>\n"
    )


def shape(text: str) -> str:
    """The same for two screens that differ in numbers and bars alone, as two runs of the same do."""
    same = re.sub(r"[█▒░]+", "#", text)
    same = re.sub(r"batch_[0-9a-f-]+", "batch", same)
    same = re.sub(r"[0-9]+-[0-9]+-[0-9]+T[0-9:]+Z", "time", same)
    same = re.sub(r"[0-9]+([.,/:][0-9]+)*(s|m|h)?([0-9]+s|[0-9]+m)?", "0", same)
    return hashlib.sha256(re.sub(r"\s+", " ", same).encode()).hexdigest()[:16]


def is_same(old: str, new: str) -> bool:
    """Whether a picture shows what another one did, but for numbers."""
    before, after = SHAPE.search(old), SHAPE.search(new)
    return bool(before and after and before[1] == after[1])


def _runs(screen: TwoScreens, row: int) -> Iterator[Run]:
    cells = [(at, screen.buffer[row][at]) for at in range(screen.columns)]
    for (fill, bold, block), group in groupby(cells, lambda cell: _look(cell[1])):
        found = list(group)
        text = "".join(cell.data for _, cell in found)
        if block or text.strip():
            yield Run(found[0][0], text, fill, bold)


def _look(cell: Char) -> tuple[str, bool, str]:
    block = cell.data if cell.data in BLOCKS else ""
    return COLOURS.get(cell.fg, TEXT), cell.bold, block


def _drawn(run: Run, row: int) -> Iterator[str]:
    lead = len(run.text) - len(run.text.lstrip())
    x = MARGIN + (run.column + lead) * CELL_WIDTH
    y = BAR_HEIGHT + MARGIN + row * CELL_HEIGHT
    text = run.text.strip()
    if text[0] in BLOCKS:
        wide = len(text) * CELL_WIDTH
        yield (
            f'<rect x="{x:g}" y="{y + 3}" width="{wide:g}" height="{CELL_HEIGHT - 6}" fill="{run.fill}"'
            f' opacity="{BLOCKS[text[0]]}"/>'
        )
        return
    # A word at a time: columns stay where they are, whatever font there is.
    for found in re.finditer(r"\S+(?: \S+)*", text):
        weight = ' font-weight="bold"' if run.bold else ""
        place = x + found.start() * CELL_WIDTH
        wide = len(found[0]) * CELL_WIDTH
        yield (
            f'<text x="{place:g}" y="{y + FONT_SIZE:g}" textLength="{wide:g}" fill="{run.fill}"{weight}>'
            f"{escape(found[0])}</text>"
        )
