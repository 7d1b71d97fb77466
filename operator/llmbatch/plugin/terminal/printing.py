"""What commands print: tables that fit the terminal, JSON and YAML; readable without colour, plain when piped."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, TextIO

from rich.cells import cell_len, set_cell_size

Style = Literal["", "bold", "dim", "red", "green", "yellow", "cyan"]
CODES: Mapping[Style, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
GAP = "   "
"""Between two columns, as kubectl has it."""
NONE = "-"
# What JSON leaves as it is, though a terminal may obey it: C1 controls, and marks that turn the text's direction.
_OBEYED = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text and how it looks; several pieces side by side where ``then`` goes on."""

    text: str
    style: Style = ""
    then: Cell | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column; on a narrow terminal it may be cut to ``least`` cells, and those of the highest ``rank`` go first."""

    title: str
    right: bool = False
    least: int | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of as many cells as there are columns."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Cell]]


@dataclass(frozen=True, slots=True)
class Look:
    """How to print: ``width`` cells a line (None: never cut), with colour or not, in any letters or in ASCII alone."""

    width: int | None = None
    colour: bool = False
    ascii: bool = False


def look_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Look:
    """How to print to a stream: cut and coloured on a terminal alone, and never coloured where NO_COLOR is set."""
    plain = (stream.encoding or "").lower().replace("-", "") not in ("utf8", "utf16", "utf32")
    if not stream.isatty():
        return Look(ascii=plain)
    colour = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return Look(shutil.get_terminal_size().columns, colour, plain)


def show(
    form: str, data: Callable[[], object], table: Callable[[], Table], *, empty: str = "", to: TextIO | None = None
) -> None:
    """Print ``data`` as ``json`` or ``yaml``, or else the table; ``empty`` is told where that has no row."""
    out: TextIO = sys.stdout if to is None else to
    if form == "json":
        out.write(json_text(data()))
    elif form == "yaml":
        out.write(yaml_text(data()))
    else:
        made = table()
        if made.rows:
            out.writelines(line + "\n" for line in lines(made, look_of(out)))
        elif empty:
            sys.stderr.write(empty + "\n")


def json_text(data: object) -> str:
    """Indented JSON that no terminal takes for a command."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def yaml_text(data: object) -> str:
    """A YAML document; a list is a stream of documents."""
    import yaml

    class Blocks(yaml.SafeDumper):
        """Writes text of several lines as the lines that it is, wherever YAML can."""

    def text_of(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Blocks.add_representer(str, text_of)
    documents = data if isinstance(data, list) else [data]

    def dumped(*, letters: bool) -> str:
        many = len(documents) > 1
        options: dict[str, Any] = {"explicit_start": many, "sort_keys": False, "width": 120, "allow_unicode": letters}
        return yaml.dump_all(documents, Dumper=Blocks, **options)

    text = dumped(letters=True)
    return dumped(letters=False) if _OBEYED.search(text) else text


def printable(text: str) -> str:
    """The text on one line and without anything that a terminal would obey: what it says was written by others."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x0A}


class Shown:
    """Bytes of others on a terminal, a piece at a time: letters and new lines, and nothing that it would obey."""

    def __init__(self, terminal: BinaryIO, encoding: str) -> None:
        self._terminal = terminal
        self._encoding = encoding
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def write(self, piece: bytes) -> None:
        """Write what these bytes make whole letters of."""
        text = self._decoder.decode(piece).translate(_CONTROLS)
        self._terminal.write(_OBEYED.sub("\N{REPLACEMENT CHARACTER}", text).encode(self._encoding, "replace"))


def lines(table: Table, look: Look) -> list[str]:
    """The table's lines, the header first."""
    rows = [[_cell(given) for given in row] for row in table.rows]
    natural = [
        max([cell_len(column.title), *(_length(row[at]) for row in rows)]) for at, column in enumerate(table.columns)
    ]
    shown = _widths(table.columns, natural, look.width)
    header = [Cell(column.title, "bold") for column in table.columns]
    return [_line(table.columns, row, shown, look) for row in (header, *rows)]


def _cell(given: str | Cell) -> Cell:
    return given if isinstance(given, Cell) else Cell(given)


def _pieces(cell: Cell | None) -> list[Cell]:
    found = []
    while cell is not None:
        found.append(Cell(printable(cell.text), cell.style))
        cell = cell.then
    return found


def _length(cell: Cell) -> int:
    return sum(cell_len(piece.text) for piece in _pieces(cell))


def _widths(columns: Sequence[Column], natural: Sequence[int], width: int | None) -> dict[int, int]:
    """The width of each column that is shown, by its place."""
    shown = dict(enumerate(natural))
    if width is None:
        return shown
    least = {at: min(wide, columns[at].least or wide) for at, wide in shown.items()}
    while _total(least) > width and len(least) > 1 and (optional := [at for at in least if columns[at].rank]):
        del least[max(optional, key=lambda at: (columns[at].rank, at))]
    shown = {at: natural[at] for at in least}
    for floor in (least, dict.fromkeys(least, 1)):
        while _total(shown) > width and (longer := [at for at in shown if shown[at] > floor[at]]):
            shown[max(longer, key=shown.__getitem__)] -= 1
    while _total(shown) > width and len(shown) > 1:
        shown.popitem()
    return shown


def _total(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _line(columns: Sequence[Column], row: Sequence[Cell], shown: Mapping[int, int], look: Look) -> str:
    made = [_padded(row[at], wide, look, right=columns[at].right) for at, wide in shown.items()]
    return GAP.join(made).rstrip()


def _padded(cell: Cell, wide: int, look: Look, *, right: bool) -> str:
    pieces = _cut(_pieces(cell), wide, "~" if look.ascii else "…")
    blank = " " * (wide - sum(cell_len(piece.text) for piece in pieces))
    text = "".join(styled(piece.text, piece.style, look) for piece in pieces)
    return blank + text if right else text + blank


def _cut(pieces: Sequence[Cell], wide: int, mark: str) -> list[Cell]:
    """The pieces within so many cells; where something is left out, its place is marked."""
    if sum(cell_len(piece.text) for piece in pieces) <= wide:
        return list(pieces)
    kept: list[Cell] = []
    left = max(wide - 1, 0)
    for piece in pieces:
        text = piece.text if cell_len(piece.text) <= left else set_cell_size(piece.text, left)
        kept.append(Cell(text, piece.style))
        left -= cell_len(text)
    return [*kept, Cell(mark)] if wide else []


def fitted(text: str, look: Look) -> str:
    """One line of text, cut where it is wider than the terminal."""
    wide = cell_len(printable(text)) if look.width is None else min(look.width, cell_len(printable(text)))
    return _padded(Cell(text), wide, look, right=False)


def styled(text: str, style: Style, look: Look) -> str:
    """The text in its style, where colour is wanted."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if look.colour and style and text else text
