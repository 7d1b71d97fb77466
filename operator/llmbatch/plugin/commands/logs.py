"""``kubectl llmbatch logs``: what happened to a job, as one timeline; never any content."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer

from llmbatch.api import BatchJob
from llmbatch.api.base import rfc3339
from llmbatch.kube.errors import Forbidden, KubeError
from llmbatch.kube.transport import Target
from llmbatch.plugin.connection import Connection, Manifest, connected, missing
from llmbatch.plugin.exits import Exit, Stop, run, say
from llmbatch.plugin.jobs.timeline import Entry, of_event, timeline, when
from llmbatch.plugin.listwatch import Change, follow
from llmbatch.plugin.options import Context, Format, JobName, Kubeconfig, Namespace, Output, Where, job_name
from llmbatch.plugin.terminal.printing import GAP, Look, json_text, look_of, printable, styled, yaml_text

EVENTS_SECONDS = 5.0
"""How often Events are read while the job's status does not change."""
LAST_EVENT_SECONDS = 1.0
"""The Event about a job's end is made just after its status is written."""
TIME_WIDTH, SOURCE_WIDTH = 20, 9


def logs(
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has finished.")] = False,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Tell what happened to a job, oldest first: its conditions, attempts and Events, and what it waits for now.

    Kubernetes keeps Events for about an hour; conditions and the last ten attempts stay with the job.
    """
    work = _follow if follow else _tell
    run(work(Where(namespace, context, kubeconfig), job_name(job), output))


async def _tell(where: Where, name: str, form: Format) -> Exit:
    async with connected(where) as connection:
        job = await connection.kube.get(BatchJob, connection.namespace, name)
        events = await _events(connection, name, say)
    if job is not None:
        entries = timeline(job, [event for event in events if _regards(event, job)])
    elif events:
        say(f"BatchJob {name} is gone; these Events are left")
        entries = sorted(map(of_event, events), key=when)
    else:
        raise missing(BatchJob, connection.namespace, name)
    if form is Format.JSON:
        sys.stdout.write(json_text([entry.data() for entry in entries]))
    else:
        _write(entries, form)
    return Exit.DONE


async def _follow(where: Where, name: str, form: Format) -> Exit:
    told: set[Entry] = set()
    trouble = _Once()
    async with connected(where) as connection:
        async for job in _states(connection, name):
            events = await _events(connection, name, trouble)
            fresh = [entry for entry in timeline(job, filter(_of(job), events)) if entry not in told]
            told.update(fresh)
            _write([_dated(entry) for entry in fresh], form)
    return Exit.DONE


async def _states(connection: Connection, name: str) -> AsyncIterator[BatchJob]:
    """The job each time that it has changed, and now and then, until a moment after it has finished."""
    latest: BatchJob | None = None
    changes: asyncio.Queue[Change[BatchJob] | Exception] = asyncio.Queue()
    follower = asyncio.create_task(_changes(connection, name, changes), name="follow-job")
    try:
        while latest is None or not latest.status.phase.finished:
            change = None
            with suppress(TimeoutError):
                # Not wait_for: before Python 3.12 that loses a Ctrl-C which comes together with a change.
                async with asyncio.timeout(EVENTS_SECONDS):
                    change = await changes.get()
            if isinstance(change, Exception):
                raise change
            if change and change.type == "gone":
                raise Stop(f"BatchJob {name} was deleted", Exit.NOT_FOUND)
            latest = change.resource if change and change.resource else latest
            if latest is not None:
                yield latest
            elif change:
                raise missing(BatchJob, connection.namespace, name)
        await asyncio.sleep(LAST_EVENT_SECONDS)
        yield latest
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


async def _changes(connection: Connection, name: str, changes: asyncio.Queue[Change[BatchJob] | Exception]) -> None:
    def broken(error: KubeError) -> None:
        say(f"reconnecting: {error.message}")

    try:
        async for change in follow(connection, BatchJob, connection.namespace, name=name, on_break=broken):
            changes.put_nowait(change)
    except Exception as error:
        changes.put_nowait(error)


async def _events(connection: Connection, name: str, tell: Callable[[str], None]) -> list[Manifest]:
    """The Events about jobs of that name; none, with a word about it, for who may not read them."""
    selector = f"regarding.kind={BatchJob.KIND},regarding.name={name}"
    try:
        listed = await connection.stored_list(
            Target("events.k8s.io/v1", "events", connection.namespace), {"fieldSelector": selector}
        )
    except Forbidden:
        tell("Events may not be read here; this is from the job's status alone")
        return []
    return list(listed["items"])


class _Once:
    """Tells a person something, once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            say(message)


def _of(job: BatchJob) -> Callable[[Manifest], bool]:
    return lambda event: _regards(event, job)


def _regards(event: Manifest, job: BatchJob) -> bool:
    """Whether it is about this job, and not about one that had its name before."""
    return event["regarding"].get("uid") == job.metadata.uid


def _dated(entry: Entry) -> Entry:
    """What is so now was seen now."""
    if entry.time is not None:
        return entry
    return Entry(datetime.now(UTC), entry.source, entry.what, entry.reason, entry.message, entry.warning)


def _write(entries: Sequence[Entry], form: Format) -> None:
    """A line an entry, or a document. It is never cut: a message is what one reads it for."""
    look = look_of(sys.stdout)
    for entry in entries:
        if form is Format.JSON:
            text = json.dumps(entry.data()) + "\n"
        else:
            text = f"---\n{yaml_text(entry.data())}" if form is Format.YAML else _line(entry, look) + "\n"
        sys.stdout.write(text)
    sys.stdout.flush()


def _line(entry: Entry, look: Look) -> str:
    time = rfc3339(entry.time) if entry.time else "now"
    reason = "" if entry.reason in ("", entry.what) else f" ({entry.reason})"
    what = printable(entry.what + reason)
    parts = [
        styled(time.ljust(TIME_WIDTH), "dim", look),
        entry.source.ljust(SOURCE_WIDTH),
        styled(what, "red" if entry.warning else "bold", look),
    ]
    message = printable(entry.message)
    return GAP.join(parts) + (f": {message}" if message else "")
