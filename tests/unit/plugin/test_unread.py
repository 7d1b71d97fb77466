"""What a command does when nobody reads its output any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

import pytest
import typer

from llmbatch.plugin.cli import app
from llmbatch.plugin.exits import Exit, leave, tell
from support.api_server import ApiServer
from support.requests import a_file, a_line


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server that keeps what it is given."""
    with ApiServer(tmp_path) as running:
        yield running


@contextmanager
def unread() -> Iterator[TextIO]:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        yield stream


def code_of(*arguments: str | Path, stream: TextIO) -> int | str | None:
    """The exit code of a command whose two streams go there."""
    with redirect_stdout(stream), redirect_stderr(stream), pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments], prog_name="kubectl llmbatch")
    return ended.value.code


def test_a_submit_is_made_whole_though_nobody_reads_of_it(server: ApiServer, tmp_path: Path):
    """`submit … | grep -q created` submits: the reader leaves after the first line, and the job is still made."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(a_file(a_line("a")))

    with unread() as stream:
        code = code_of("submit", file, "--to", "configmap", "--kubeconfig", server.kubeconfig, stream=stream)

    assert code == 0
    assert [len(server.names(plural)) for plural in ("configmaps", "batchfiles", "batchjobs")] == [1, 1, 1]


def test_each_job_is_cancelled_though_nobody_reads_of_it(server: ApiServer):
    """`cancel a b c 2>&1 | true` cancels three jobs and not one."""
    for name in ("a", "b", "c"):
        server.put("batchjobs", name, spec={"inputFileRef": {"name": "questions"}})

    with unread() as stream:
        code = code_of("cancel", "a", "b", "c", "-o", "json", "--kubeconfig", server.kubeconfig, stream=stream)

    assert code == 0
    assert [server.get("batchjobs", name)["spec"].get("cancel") for name in ("a", "b", "c")] == [True] * 3


@pytest.mark.parametrize(("work", "code"), [(Exit.NO, Exit.NO), (None, Exit.UNREAD)])
def test_an_answer_that_was_known_is_given_and_another_is_not_made_up(work: Exit | None, code: Exit):
    """A reader that leaves at the end does not change the code; one that leaves before hears nothing of success."""

    def print_then_answer() -> Exit | None:
        sys.stdout.write("half")
        if work is None:
            sys.stdout.flush()
        return work

    with unread() as stream, redirect_stdout(stream), pytest.raises(typer.Exit) as ended:
        leave(print_then_answer, unread=Exit.UNREAD)

    assert ended.value.exit_code == code


def test_what_is_told_later_goes_nowhere():
    """After the first line that nobody read the next ones are no error either."""
    with unread() as stream:
        tell("one", stream)
        tell("two", stream)
