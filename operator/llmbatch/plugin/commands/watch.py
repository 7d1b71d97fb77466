"""``kubectl llmbatch watch``: jobs as they go on, on a screen of their own or as a line a change."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Protocol

import typer

from llmbatch.api import BatchJob
from llmbatch.kube.errors import Unreadable
from llmbatch.plugin.connection import Connection, connected, left_out, missing
from llmbatch.plugin.exits import Exit, Stop, run, say
from llmbatch.plugin.jobs import board
from llmbatch.plugin.jobs.watched import Watched
from llmbatch.plugin.listwatch import LONGEST_PAUSE, Change, follow
from llmbatch.plugin.options import (
    AllNamespaces,
    Context,
    Format,
    Kubeconfig,
    Namespace,
    Output,
    Selector,
    Timeout,
    Where,
    job_name,
)
from llmbatch.plugin.terminal.printing import Look, fitted, look_of, yaml_text
from llmbatch.plugin.terminal.screen import Screen, usable

TICK_SECONDS = 1.0
"""How often the time left is looked at while nothing changes."""
LONG_SECONDS, RESTS = 0.05, 5
"""After a drawing that took longer, there is a rest of so many times as long; the next tick shows what it missed."""

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[JOB...]", help="BatchJobs, by name. Default: all.", show_default=False)
]
Wake = Change[BatchJob] | Exception | None


def watch(
    jobs: Names = None,
    all_namespaces: AllNamespaces = False,
    selector: Selector = "",
    timeout: Timeout = None,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Follow jobs: progress, rate, time left, cost.

    Ends when all named jobs have finished, with exit code 0 when all are Complete and 1 when any has failed or was
    cancelled. Without names it goes on until Ctrl-C. In a pipe, and with -o json or yaml, each change is printed.
    """
    if jobs and all_namespaces:
        raise typer.BadParameter("name jobs, or ask for all namespaces; not both")
    wanted = frozenset(job_name(job) for job in jobs or ())
    run(
        _watch(Where(namespace, context, kubeconfig), wanted, all_namespaces, selector, timeout, output),
        unread=Exit.UNREAD,
    )


class View(Protocol):
    """Shows jobs to a person or a program."""

    ticks: bool
    """Whether it changes by time alone."""

    def changed(self, job: BatchJob) -> None:
        """A job is new or changed."""
        ...

    def broken(self, why: str) -> None:
        """The connection is lost, and made again."""
        ...

    def show(self) -> None:
        """Show how things are now."""
        ...

    def leave(self) -> None:
        """Give the terminal back until there is something to show again."""
        ...


class Live:
    """The live table."""

    ticks = True

    def __init__(self, screen: Screen, watched: Watched, look: Look, *, namespaces: bool) -> None:
        self._screen = screen
        self._watched = watched
        self._look = look
        self._namespaces = namespaces
        self._trouble = ""
        self._trouble_ends = 0.0
        self._rests_until = 0.0

    def changed(self, job: BatchJob) -> None:
        """Any news means that the connection is there."""
        self._trouble = ""

    def broken(self, why: str) -> None:
        """Say so below the table, which is as it was last known; until news come, or no more tries fail."""
        self._trouble = f"reconnecting: {why}"
        self._trouble_ends = time.monotonic() + 2 * LONGEST_PAUSE

    def show(self) -> None:
        """Draw, if anything would look different. A table of thousands of jobs is drawn less often than it changes."""
        begun = time.monotonic()
        if not self._watched.synced or begun < self._rests_until:
            return
        width, height = self._screen.size
        look = Look(width, self._look.colour, self._look.ascii)
        rows = self._watched.rows(begun)
        trouble = [fitted(self._trouble, look)] if self._trouble and begun < self._trouble_ends else []
        if unreadable := self._watched.unreadable:
            trouble.append(fitted(left_out(unreadable, "jobs"), look))
        self._screen.draw([*board.board(rows, look, height - len(trouble), namespaces=self._namespaces), *trouble])
        ended = time.monotonic()
        self._rests_until = ended + RESTS * (ended - begun) if ended - begun > LONG_SECONDS else 0.0

    def leave(self) -> None:
        """Back to what was there before."""
        self._screen.leave()


class Lines:
    """A line, or a piece of JSON or YAML, a change."""

    ticks = False

    def __init__(self, watched: Watched, form: Format, *, namespaces: bool) -> None:
        self._watched = watched
        self._form = form
        self._namespaces = namespaces
        self._told: dict[str, tuple[object, ...]] = {}
        self._left_out = 0

    def changed(self, job: BatchJob) -> None:
        """Print it, if it says anything new."""
        key = board.news_key(job)
        if self._told.get(job.metadata.uid) == key:
            return
        self._told[job.metadata.uid] = key
        row = self._watched.row(job, time.monotonic())
        if self._form is Format.JSON:
            text = json.dumps(board.data_of(row)) + "\n"
        elif self._form is Format.YAML:
            text = f"---\n{yaml_text(board.data_of(row))}"
        else:
            text = board.news(row, datetime.now(UTC), namespaces=self._namespaces) + "\n"
        sys.stdout.write(text)
        sys.stdout.flush()

    def broken(self, why: str) -> None:
        """Say so beside the lines."""
        say(f"reconnecting: {why}")

    def show(self) -> None:
        """Lines are printed when they come; what cannot be printed is told beside them."""
        if len(self._watched.unreadable) > self._left_out:
            self._left_out = len(self._watched.unreadable)
            say(left_out(self._watched.unreadable, "jobs"))

    def leave(self) -> None:
        """Lines are left where they are."""


async def _watch(
    where: Where, wanted: frozenset[str], all_namespaces: bool, selector: str, limit: timedelta | None, form: Format
) -> Exit:
    watched = Watched(wanted)
    async with connected(where) as connection:
        namespace = None if all_namespaces else connection.namespace
        with _view(watched, form, namespaces=all_namespaces) as view:
            try:
                async with asyncio.timeout(None if limit is None else limit.total_seconds()):
                    await _show_changes(connection, namespace, selector, watched, view)
            except TimeoutError:
                raise Stop("the jobs have not finished in time", Exit.TIMED_OUT) from None
    for name in sorted(watched.deleted & wanted):
        say(f"BatchJob {name} was deleted before it finished")
    return watched.exit


@contextmanager
def _view(watched: Watched, form: Format, *, namespaces: bool) -> Iterator[View]:
    """The view that fits where the output goes. What the live table showed last is left on the terminal."""
    if form is not Format.TABLE or not usable(sys.stdout, os.environ):
        yield Lines(watched, form, namespaces=namespaces)
        return
    look = look_of(sys.stdout)
    try:
        with Screen(sys.stdout) as screen:
            yield Live(screen, watched, look, namespaces=namespaces)
    finally:
        if watched.jobs:
            rows = watched.rows(time.monotonic())
            for line in board.board(rows, look_of(sys.stdout), len(rows) + 3, namespaces=namespaces):
                sys.stdout.write(line + "\n")


async def _show_changes(
    connection: Connection, namespace: str | None, selector: str, watched: Watched, view: View
) -> None:
    wakes: asyncio.Queue[Wake] = asyncio.Queue()
    follower = asyncio.create_task(_follow(connection, namespace, selector, watched, view, wakes), name="follow-jobs")
    with _signals(view, wakes):
        try:
            async for change in taken(wakes, TICK_SECONDS if view.ticks else None):
                if change and (job := watched.take(change, time.monotonic())):
                    view.changed(job)
                if watched.absent:
                    raise missing(BatchJob, connection.namespace, ", ".join(watched.absent))
                if wakes.empty():
                    view.show()
                if watched.over:
                    return
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)


async def _follow(
    connection: Connection,
    namespace: str | None,
    selector: str,
    watched: Watched,
    view: View,
    wakes: asyncio.Queue[Wake],
) -> None:
    # One name is asked for by itself, which is all that some users may do.
    name = next(iter(watched.wanted)) if len(watched.wanted) == 1 else None

    def broken(error: Exception) -> None:
        view.broken(str(error))
        wakes.put_nowait(None)

    def unreadable(error: Unreadable) -> None:
        watched.refuse(error)
        wakes.put_nowait(None)

    followed = follow(
        connection, BatchJob, namespace, name=name, selector=selector, on_break=broken, on_unreadable=unreadable
    )
    try:
        async for change in followed:
            wakes.put_nowait(change)
    except Exception as error:
        wakes.put_nowait(error)


async def taken(wakes: asyncio.Queue[Wake], tick: float | None) -> AsyncIterator[Change[BatchJob] | None]:
    """What wakes the view, and None each time that nothing has for a while. Raises what the follower ended on."""
    while True:
        wake = None
        with suppress(TimeoutError):
            # Not wait_for: before Python 3.12 that loses a Ctrl-C which comes together with a change.
            async with asyncio.timeout(tick):
                wake = await wakes.get()
        if isinstance(wake, Exception):
            raise wake
        yield wake


@contextmanager
def _signals(view: View, wakes: asyncio.Queue[Wake]) -> Iterator[None]:
    """Draw anew when the terminal changes its size or is ours again, and give it back when we are stopped (Ctrl-Z)."""
    loop = asyncio.get_running_loop()
    stoppable = signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN

    def stop() -> None:
        view.leave()
        # Without the handler a signal does what it does by default: here is where we stop.
        loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)
        loop.add_signal_handler(signal.SIGTSTP, stop)

    for number in (signal.SIGWINCH, signal.SIGCONT):
        loop.add_signal_handler(number, wakes.put_nowait, None)
    if stoppable:
        loop.add_signal_handler(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        for number in (signal.SIGWINCH, signal.SIGCONT, *([signal.SIGTSTP] if stoppable else [])):
            loop.remove_signal_handler(number)
