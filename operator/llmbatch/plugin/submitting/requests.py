"""The file of requests on the user's machine: opened, checked, and told about where it is wrong."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from llmbatch.api.batchfile import FileError
from llmbatch.domain.requests.validation import ENOUGH_ERRORS, InputCheck, InputLimits, InputReport
from llmbatch.plugin.terminal.printing import Column, Table

STDIN = "-"
CHUNK_BYTES = 1024 * 1024


@contextmanager
def opened(path: str, *, again: bool = False) -> Iterator[BinaryIO]:
    """The file, or standard input for ``-``; ``again``: it can be read from the beginning more than once.

    What cannot be rewound is then kept in a file that has no name and goes with the process.
    """
    with _stream(path) as stream:
        if not again or stream.seekable():
            yield stream
            return
        with tempfile.TemporaryFile() as kept:
            shutil.copyfileobj(stream, kept, CHUNK_BYTES)
            kept.seek(0)
            yield kept


@contextmanager
def _stream(path: str) -> Iterator[BinaryIO]:
    if path == STDIN:
        yield sys.stdin.buffer
        return
    if os.path.isdir(path):
        raise IsADirectoryError(None, "it is a directory; name a file of JSON lines", path)
    with open(path, "rb") as file:
        yield file


def checked(stream: BinaryIO, models: Sequence[str] | None, limits: InputLimits, *, kept_errors: int) -> InputReport:
    """The operator's own validation of all that is in the stream; None for ``models``: any, the same in all lines."""
    check = InputCheck(models, limits, kept_errors=kept_errors)
    while chunk := stream.read(CHUNK_BYTES):
        check.feed(chunk)
    return check.finish()


def title(path: str) -> str:
    """What to call the file in messages."""
    return "standard input" if path == STDIN else path


def errors_table(errors: Sequence[FileError]) -> Table:
    """Where the lines are wrong."""
    columns = (Column("LINE", right=True), Column("KEY"), Column("CODE"), Column("MESSAGE", least=20))
    rows = [(str(error.line or "-"), error.key or "-", error.code, error.message) for error in errors]
    return Table(columns, rows)


def how_many(report: InputReport) -> str:
    """The number of errors in words; counting ends at ENOUGH_ERRORS."""
    least = "at least " if report.error_count >= ENOUGH_ERRORS else ""
    return f"{least}{report.error_count} error{'s' if report.error_count != 1 else ''}"
