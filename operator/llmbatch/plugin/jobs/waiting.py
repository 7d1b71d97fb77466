"""Waiting for a job's end, with one line that tells how far it is."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TextIO

from llmbatch.api import BatchJob
from llmbatch.api.reasons import ConditionType
from llmbatch.domain.conditions import condition, holds
from llmbatch.plugin.connection import Connection
from llmbatch.plugin.exits import Exit, Stop, say, unread_is_well
from llmbatch.plugin.jobs.board import Row, news, news_key
from llmbatch.plugin.jobs.progress import Pace
from llmbatch.plugin.listwatch import follow
from llmbatch.plugin.terminal.printing import fitted, look_of


async def finished(connection: Connection, job: BatchJob, *, within: timedelta | None) -> BatchJob:
    """The job once it has finished, with its progress told on stderr meanwhile.

    Raises Stop (TIMED_OUT) when the time is over, and (NOT_FOUND) where it is deleted; the job itself goes on.
    """
    name = job.metadata.name
    goes_on = f"BatchJob {name} goes on: kubectl llmbatch watch {name} -n {job.metadata.namespace}"
    line = ProgressLine(sys.stderr, lambda: datetime.now(UTC))
    try:
        async with asyncio.timeout(None if within is None else within.total_seconds()):
            return await _until_finished(connection, job, line.show)
    except TimeoutError:
        line.end()
        raise Stop(f"not finished in time; {goes_on}", Exit.TIMED_OUT) from None
    except asyncio.CancelledError:
        line.end()
        say(goes_on)
        raise
    finally:
        line.end()


async def _until_finished(connection: Connection, job: BatchJob, show: Callable[[BatchJob], None]) -> BatchJob:
    name, there = job.metadata.name, False
    async with aclosing(follow(connection, BatchJob, job.metadata.namespace, name=name)) as changes:
        async for change in changes:
            seen = change.resource
            if seen is not None and seen.metadata.uid == job.metadata.uid:
                there = change.type != "gone"
                if not there:
                    break
                show(seen)
                if holds(seen.status.conditions, ConditionType.FINISHED):
                    return seen
            elif change.type == "synced" and not there:
                break
    raise Stop(f"BatchJob {name} was deleted before it finished", Exit.NOT_FOUND)


def verdict(job: BatchJob) -> Exit:
    """Tell how a finished job ended, and the exit code that stands for it."""
    failed = condition(job.status.conditions, ConditionType.FAILED)
    ended = condition(job.status.conditions, ConditionType.FINISHED)
    name = job.metadata.name
    if failed is not None and failed.status == "True":
        say(f"error: BatchJob {name} {job.status.phase.value} ({failed.reason}): {failed.message}")
        return Exit.NO
    told = f" ({ended.reason}): {ended.message}" if ended else ""
    say(f"BatchJob {name} {job.status.phase.value}{told}; its results: kubectl llmbatch results {name}")
    return Exit.DONE


class ProgressLine:
    """One line that is written over on a terminal; elsewhere a line for each change that matters."""

    def __init__(self, stream: TextIO, now: Callable[[], datetime]) -> None:
        self._stream = stream
        self._now = now
        self._over = stream.isatty()
        self._pace = Pace()
        self._last: tuple[object, ...] = ()

    def show(self, job: BatchJob) -> None:
        """Tell how far the job is, if that is news."""
        self._pace.see(job)
        if news_key(job) == self._last:
            return
        self._last = news_key(job)
        text = news(Row(job, self._pace.rate, self._pace.left(job)), self._now(), namespaces=False)
        if self._over:
            # Of this very stream, since stdout may be a pipe. The last column is left free: a terminal that holds a
            # line back there would lose its end.
            width = max(1, os.get_terminal_size(self._stream.fileno()).columns - 1)
            cut = fitted(text, replace(look_of(self._stream), width=width))
            text = f"\r{cut}\x1b[K"
        else:
            text += "\n"
        with unread_is_well(self._stream):
            self._stream.write(text)
            self._stream.flush()

    def end(self) -> None:
        """Leave the line behind, once."""
        if self._over and self._last:
            self._stream.write("\n")
            self._stream.flush()
            self._last = ()
