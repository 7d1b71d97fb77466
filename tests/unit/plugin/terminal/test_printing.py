"""Tables fit the terminal, and nothing that others wrote is obeyed by it."""

from __future__ import annotations

import io
import json

import pytest
import yaml
from rich.cells import cell_len

from llmbatch.plugin.terminal.printing import (
    Cell,
    Column,
    Look,
    Table,
    json_text,
    lines,
    look_of,
    printable,
    show,
    yaml_text,
)

COLUMNS = (Column("NAME", least=8), Column("REQUESTS", right=True), Column("MESSAGE", least=10), Column("AGE", rank=1))
LONG = "the provider did not take the batch, which is tried again"
TABLE = Table(COLUMNS, [("run-1", "3", LONG, "5m"), ("a-rather-long-name", "1200", "ok", "2d")])


class Terminal(io.TextIOWrapper):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def a_terminal(encoding: str = "utf-8") -> Terminal:
    """One whose letters are encoded so."""
    return Terminal(io.BytesIO(), encoding=encoding)


def test_a_piped_table_is_never_cut_and_has_no_colour_and_no_boxes():
    """Scripts get every character, in columns of plain text."""
    assert lines(TABLE, Look()) == [
        "NAME                 REQUESTS   MESSAGE                                                     AGE",
        f"run-1                       3   {LONG}   5m",
        "a-rather-long-name       1200   ok                                                          2d",
    ]


@pytest.mark.parametrize("width", [90, 70, 50, 44, 30, 20, 10, 3])
def test_a_table_is_never_wider_than_the_terminal(width: int):
    """However narrow the terminal, no line of a table is broken by it."""
    for line in lines(TABLE, Look(width)):
        assert cell_len(line) <= width


def test_a_narrow_terminal_cuts_what_may_be_cut_and_marks_the_place():
    """Numbers stay whole; text that is cut ends in a mark; the least important column goes."""
    assert lines(TABLE, Look(45)) == [
        "NAME           REQUESTS   MESSAGE         AGE",
        "run-1                 3   the provider…   5m",
        "a-rather-lo…       1200   ok              2d",
    ]
    assert lines(TABLE, Look(34)) == [
        "NAME         REQUESTS   MESSAGE",
        "run-1               3   the provi…",
        "a-rather-…       1200   ok",
    ]


def test_the_mark_of_a_cut_is_ascii_where_nothing_else_can_be_shown():
    """A terminal of another alphabet gets no question marks."""
    assert "the provider~" in lines(TABLE, Look(45, ascii=True))[1]


def test_colour_takes_no_room():
    """A styled table has the same shape as a plain one."""
    table = Table([Column("A"), Column("B")], [(Cell("yes", "green"), "x"), (Cell("n", "red", Cell("o", "dim")), "y")])

    assert lines(table, Look(40, colour=True))[1:] == ["\x1b[32myes\x1b[0m   x", "\x1b[31mn\x1b[0m\x1b[2mo\x1b[0m    y"]
    assert lines(table, Look(40))[1:] == ["yes   x", "no    y"]


def test_wide_letters_keep_columns_straight():
    """A letter of two cells counts as two."""
    made = lines(Table([Column("A"), Column("B")], [("日本", "x"), ("abc", "y")]), Look())

    assert made[1:] == ["日本   x", "abc    y"]


def test_what_others_wrote_moves_no_cursor():
    """Escape sequences, line breaks and marks of direction in a message are shown as blanks."""
    assert printable("red\x1b[31m\r\nnext\u202eback\x9b") == "red [31m  next back "
    assert "\x1b" not in "".join(lines(Table([Column("M")], [("\x1b[2J",)]), Look(80)))


def test_json_and_yaml_hold_nothing_that_a_terminal_obeys_and_lose_nothing():
    """The structured forms can be read back, and are safe to look at."""
    data = {"message": "\x1b[31m\x9b2J \u202e ü"}

    for text, read in ((json_text(data), json.loads), (yaml_text(data), yaml.safe_load)):
        assert read(text) == data
        assert not {"\x1b", "\x9b", "\u202e"} & set(text)


def test_a_list_in_yaml_is_a_stream_of_documents():
    """What is printed of several objects can be applied again."""
    assert list(yaml.safe_load_all(yaml_text([{"a": 1}, {"b": 2}]))) == [{"a": 1}, {"b": 2}]


def test_a_pipe_and_no_color_are_honoured():
    """Colour is for terminals whose user wants it."""
    assert look_of(io.StringIO(), {}).width is None
    assert look_of(a_terminal(), {}).colour
    assert not look_of(a_terminal(), {"NO_COLOR": "1"}).colour
    assert not look_of(a_terminal(), {"TERM": "dumb"}).colour


def test_an_old_terminal_gets_ascii():
    """Bars and marks are drawn in letters that the terminal has."""
    assert look_of(a_terminal("iso-8859-1"), {}).ascii
    assert not look_of(a_terminal(), {}).ascii


def test_an_empty_table_says_so_beside_the_output(capsys: pytest.CaptureFixture[str]):
    """Where there is nothing, standard output is empty and a person is told."""
    show("table", list, lambda: Table(COLUMNS, []), empty="no jobs in namespace team")

    assert capsys.readouterr() == ("", "no jobs in namespace team\n")


@pytest.mark.parametrize(("form", "begin"), [("json", "{"), ("yaml", "a: 1"), ("table", "NAME")])
def test_each_form_prints_its_own(form: str, begin: str):
    """One switch chooses how an answer is printed."""
    out = io.StringIO()
    show(form, lambda: {"a": 1}, lambda: TABLE, to=out)

    assert out.getvalue().startswith(begin)
