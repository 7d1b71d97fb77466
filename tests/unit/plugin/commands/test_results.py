"""Results on the user's machine: files that are whole or not there, and what a failed line says."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from llmbatch.plugin.commands.errors import FailedRequest, failed_request, table
from llmbatch.plugin.commands.results import absent, written
from llmbatch.plugin.exits import Stop
from llmbatch.plugin.options import Format
from llmbatch.plugin.terminal.printing import Look, Shown, lines, show
from llmbatch.storage.sink import ERRORS
from support.plugin import invoked


def test_a_file_appears_when_all_of_it_is_there(tmp_path: Path):
    """Until then an older one of that name stays as it was, and keeps its permissions after."""
    target = tmp_path / "answers.jsonl"
    target.write_bytes(b"old")
    target.chmod(0o600)

    with written(str(target)) as stream:
        stream.write(b"new" * 1_000_000)
        assert target.read_bytes() == b"old"

    assert target.read_bytes() == b"new" * 1_000_000
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["answers.jsonl"]


def test_a_file_that_breaks_off_leaves_nothing(tmp_path: Path):
    """Neither a part of it nor what it was written to before it had its name."""

    def break_off() -> None:
        with written(str(tmp_path / "answers.jsonl")) as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()

    assert os.listdir(tmp_path) == []


def test_a_link_is_followed(tmp_path: Path):
    """What the link leads to is replaced, and the link stays one."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)

    with written(str(link)) as stream:
        stream.write(b"new")

    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path):
    """What is no file of bytes, as a pipe or a device, stays what it is and gets the results.

    A pipe of the test's own: a fault here must not be able to replace a device of the machine.
    """
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with written(str(pipe)) as stream:
            stream.write(b"new")
        assert os.read(reader, 100) == b"new"
    finally:
        os.close(reader)

    assert pipe.is_fifo()


def test_a_pipe_whose_reader_left_is_an_error(tmp_path: Path):
    """What was named as the place of the results has not got them: that is no success."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    def leave() -> None:
        with written(str(pipe)) as stream:
            os.close(reader)
            stream.write(b"new")

    with pytest.raises(Stop, match="its reader left"):
        leave()


def test_a_name_may_be_as_long_as_any(tmp_path: Path):
    """Nothing longer is made of it on the way."""
    target = tmp_path / ("a" * 255)

    with written(str(target)) as stream:
        stream.write(b"new")

    assert os.listdir(tmp_path) == [target.name]


@pytest.mark.parametrize("where", ["", "folder/"])
def test_what_names_no_file_is_refused(where: str):
    """As a value of the option, before anything is asked for."""
    assert "-o names a file" in invoked("results", "run-1", "-o", where, code=2).err


def test_a_terminal_gets_nothing_that_it_would_obey():
    """Escapes of both kinds are made visible, letters stay whole wherever a piece ends, and lines end."""
    terminal = io.BytesIO()
    shown = Shown(terminal, "utf-8")
    for piece in ("ä\x1b[2J\x9b2J\r\u202e\n".encode()[at : at + 1] for at in range(17)):
        shown.write(piece)

    assert terminal.getvalue().decode() == "ä\ufffd[2J\ufffd2J\ufffd\ufffd\n"


def test_one_long_line_does_not_blow_up_the_table():
    """Ids and codes are cut like messages: each row is padded to the width of the widest."""
    failed = [FailedRequest("a" * 100_000, "b" * 100_000, 400, "c" * 100_000), *[FailedRequest("a", "b", 400, "")] * 9]

    assert max(map(len, lines(table(failed), Look()))) < 750


@pytest.mark.parametrize(("where", "error"), [("", IsADirectoryError), ("missing/answers.jsonl", FileNotFoundError)])
def test_a_place_that_cannot_be_written_is_told_by_its_name(tmp_path: Path, where, error):
    """A folder, or a file in a folder that is not there."""
    with pytest.raises(error) as raised, written(str(tmp_path / where)):
        pass

    assert raised.value.filename in (f"{tmp_path}/", f"{tmp_path}/missing", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"response": {"status_code": 200, "body": {}}, "error": None}, None),
        ({"response": {"status_code": 200, "body": {"error": {"code": "x"}}}}, None),
        (
            {"response": {"status_code": 400, "body": {"error": {"code": "bad", "message": "No."}}}, "error": None},
            ("bad", 400, "No."),
        ),
        (
            {"response": {"status_code": 400, "body": {"error": {"type": "invalid", "code": None, "message": "No."}}}},
            ("invalid", 400, "No."),
        ),
        ({"response": None, "error": {"code": "batch_expired", "message": "Late."}}, ("batch_expired", None, "Late.")),
        ({"response": {"status_code": 500, "body": None}}, ("http_500", 500, "")),
        ({"response": {"status_code": 500, "body": "text"}}, ("http_500", 500, "")),
        ({"response": None, "error": "words"}, ("-", None, "words")),
        ({"response": {"status_code": True}, "error": {}}, ("-", None, "")),
    ],
)
def test_a_result_line_says_whether_and_why_it_failed(line: dict[str, Any], told):
    """An error of its own, or an HTTP status from 400 on; code and message from wherever the provider put them."""
    found = failed_request(json.dumps({"custom_id": "a", **line}).encode())

    assert found == (FailedRequest("a", *told) if told else None)


@pytest.mark.parametrize("line", [b"{", b"\xff", None, b"[" * 100_000])
def test_a_line_that_cannot_be_read_counts_as_failed(line):
    """Whatever a provider wrote, the list goes on."""
    found = failed_request(line)

    assert found is not None
    assert found.code == "unreadable_line"


@pytest.mark.parametrize("form", list(Format))
def test_half_of_a_surrogate_pair_is_shown_in_every_form(form: Format, capsys):
    """A cut emoji in a provider's words ends no listing: no output of ours can hold it, so it is a question mark."""
    found = failed_request(
        b'{"custom_id":"a","response":{"status_code":400,"body":{"error":{"message":"No \\ud83d"}}}}'
    )

    assert found is not None
    show(form, lambda: [found.message], lambda: table([found]), empty="")
    assert "No ?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("failed", "said"), [(0, "no request failed"), (2, "2 requests that failed are in output"), (None, "if any")]
)
def test_an_absent_file_of_errors_is_no_claim_that_none_failed(failed: int | None, said: str):
    """Some providers put refused requests among the answers, and a job that is gone tells no counts."""
    assert said in absent("run-1", ERRORS, "the provider", failed)


@pytest.mark.parametrize("line", [b"", b" \t"])
def test_a_blank_line_is_nothing(line):
    """As everywhere, blank lines are left out."""
    assert failed_request(line) is None
