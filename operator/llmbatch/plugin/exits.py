"""Exit codes that scripts can rely on, and the one line that tells a person what went wrong."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NoReturn, TextIO

import typer

from llmbatch.plugin.terminal.printing import printable
from llmbatch.plugin.terminal.signals import until_told_to_end


class Exit(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    NO = 1
    """The job failed, the input is invalid, or the answer is no."""
    USAGE = 2
    NOT_FOUND = 3
    FORBIDDEN = 4
    """Not authenticated, not allowed, or a key that is refused."""
    UNREACHABLE = 5
    """The API server, the provider or the bucket does not answer, or has no time."""
    TIMED_OUT = 124
    INTERRUPTED = 130
    UNREAD = 141
    """Whoever read the output left before the answer was known; as shells count a broken pipe."""


class Stop(Exception):
    """Ends the command: one line for a person, and an exit code for a script."""

    def __init__(self, message: str, code: Exit = Exit.NO) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def run(work: Coroutine[Any, Any, Exit | None], *, unread: Exit = Exit.DONE) -> NoReturn:
    """``leave`` for a command that waits for others."""
    leave(lambda: asyncio.run(until_told_to_end(work)), unread=unread)


def leave(work: Callable[[], Exit | None], *, unread: Exit = Exit.DONE) -> NoReturn:
    """Do a command's work and leave with its exit code; what went wrong is one line on stderr.

    ``unread`` is the code where whoever read the output left in the middle of the work. Only what does nothing but
    print is done then.
    """
    code = unread
    try:
        with unread_is_well(sys.stdout):
            code = work() or Exit.DONE
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except Exception as error:
        stop = explained(error)
        say(f"error: {stop.message}")
        code = stop.code
    raise typer.Exit(int(code))


@contextmanager
def unread_is_well(stream: TextIO) -> Iterator[None]:
    """For writing what need not be read: where the reader has left, as ``head`` does, the work goes on without it."""
    try:
        yield
    except BrokenPipeError:
        # The interpreter must not try to flush the rest either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def tell(text: str, stream: TextIO) -> None:
    """Write a line at once, for whoever may read it."""
    with unread_is_well(stream):
        stream.write(text + "\n")
        stream.flush()


def say(message: str) -> None:
    """Tell a person something, on stderr; what could move the terminal's cursor is taken out."""
    tell(printable(message), sys.stderr)


def explained(error: Exception) -> Stop:
    """The error as this program ends on it; one that is not known goes on as it is, since it is our own fault."""
    if isinstance(error, Stop):
        return error
    from llmbatch.domain.errors import LLMBatchError

    if isinstance(error, LLMBatchError):
        return Stop(error.message, code_of(error))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        code = Exit.NOT_FOUND if isinstance(error, FileNotFoundError) else Exit.NO
        return Stop(f"{place}{error.strerror or type(error).__name__}", code)
    raise error


def code_of(error: Exception) -> Exit:
    """The exit code of an error of our tree."""
    from llmbatch.domain import errors
    from llmbatch.kube import errors as kube

    table: tuple[tuple[tuple[type[Exception], ...], Exit], ...] = (
        ((kube.NoConfiguration,), Exit.USAGE),
        ((kube.Gone, errors.NotFound, errors.SourceNotFound), Exit.NOT_FOUND),
        ((kube.Forbidden, kube.Unauthenticated, errors.Unauthorized, errors.CredentialsError), Exit.FORBIDDEN),
        ((errors.SourceDenied, errors.OutputDenied), Exit.FORBIDDEN),
        ((kube.Invalid, kube.Conflict, kube.InvalidObject, errors.Refused), Exit.NO),
        ((errors.OutputConflict, errors.OutputTooLarge, errors.SourceChanged), Exit.NO),
    )
    return next((code for kinds, code in table if isinstance(error, kinds)), Exit.UNREACHABLE)
