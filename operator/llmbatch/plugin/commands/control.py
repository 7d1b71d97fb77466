"""``kubectl llmbatch cancel``, ``suspend`` and ``resume``: patches of a job's spec, with a word on what will happen."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated, NamedTuple

import typer

from llmbatch.api import BatchJob
from llmbatch.api.batchjob import Phase
from llmbatch.plugin.connection import Connection, connected
from llmbatch.plugin.exits import Exit, explained, run, say, unread_is_well
from llmbatch.plugin.jobs.board import Row, data_of
from llmbatch.plugin.jobs.waiting import finished
from llmbatch.plugin.options import Context, Format, JobNames, Kubeconfig, Namespace, Output, Timeout, Where, job_name
from llmbatch.plugin.terminal.printing import json_text, yaml_text

Wait = Annotated[bool, typer.Option("--wait", help="Wait until the jobs have ended.")]


class Decision(NamedTuple):
    """What is done about a job: the patch of its spec (None: nothing), and what a person is told."""

    spec: dict[str, bool] | None
    told: str
    refused: bool = False


def cancel(
    jobs: JobNames,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Cancel jobs: the provider is told, and what is done by then is collected. This cannot be taken back.

    With --wait, ends when all of them have ended, however that was.
    """
    run(_decide(Where(namespace, context, kubeconfig), jobs, cancelling, output, wait=wait, limit=timeout))


def suspend(
    jobs: JobNames,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Hold jobs that are not submitted yet. A batch that runs already goes on."""
    run(_decide(Where(namespace, context, kubeconfig), jobs, suspending, output))


def resume(
    jobs: JobNames,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Let suspended jobs go on."""
    run(_decide(Where(namespace, context, kubeconfig), jobs, resuming, output))


def cancelling(job: BatchJob) -> Decision:
    """To end a job."""
    phase = job.status.phase
    if phase is Phase.CANCELLED:
        return Decision(None, "was cancelled before")
    if phase.finished:
        return Decision(None, f"has ended already: {phase.value}", refused=True)
    if job.spec.cancel:
        return Decision(None, "is being cancelled already")
    if job.status.batch_id is None:
        return Decision({"cancel": True}, "will be cancelled before it is submitted")
    where = "collected" if job.spec.output else "left at the provider, counted and priced"
    return Decision(
        {"cancel": True},
        f"will be cancelled: batch {job.status.batch_id} is ended, and what is done by then is {where}",
    )


def suspending(job: BatchJob) -> Decision:
    """To hold a job."""
    if job.status.phase.finished:
        return Decision(None, f"has ended already: {job.status.phase.value}", refused=True)
    if job.spec.suspend:
        return Decision(None, "is suspended already")
    if job.status.batch_id is None:
        return Decision({"suspend": True}, "is suspended: it is not submitted until it is resumed")
    return Decision(
        {"suspend": True},
        f"is suspended, but batch {job.status.batch_id} runs already and goes on; only another attempt is held "
        "(to end it: kubectl llmbatch cancel)",
    )


def resuming(job: BatchJob) -> Decision:
    """To let a job go on."""
    if job.status.phase.finished:
        return Decision(None, f"has ended already: {job.status.phase.value}", refused=True)
    if not job.spec.suspend:
        return Decision(None, "is not suspended")
    return Decision({"suspend": False}, "goes on")


async def _decide(
    where: Where,
    jobs: Sequence[str],
    decide: Callable[[BatchJob], Decision],
    form: Format,
    *,
    wait: bool = False,
    limit: timedelta | None = None,
) -> Exit:
    """One job after the other; one that cannot be changed does not keep the others from it."""
    worst = Exit.DONE
    changed: list[BatchJob] = []
    async with connected(where) as connection:
        for name in dict.fromkeys(map(job_name, jobs)):
            try:
                job, refused = await _apply(connection, name, decide)
            except Exception as error:
                stop = explained(error)
                say(f"error: {stop.message}")
                worst = worst or stop.code
            else:
                worst = worst or (Exit.NO if refused else Exit.DONE)
                changed += [] if refused else [job]
        if wait:
            changed = await _ended(connection, changed, limit)
    if form is not Format.TABLE:
        told = [data_of(Row(job)) for job in changed]
        with unread_is_well(sys.stdout):
            sys.stdout.write(json_text(told) if form is Format.JSON else yaml_text(told))
    return worst


async def _apply(connection: Connection, name: str, decide: Callable[[BatchJob], Decision]) -> tuple[BatchJob, bool]:
    """The job as it is then, and whether the wish was refused."""
    job = await connection.get(BatchJob, name)
    decision = decide(job)
    if decision.spec is not None:
        # With its uid: nothing is decided about another job that has taken the name meanwhile.
        patch = {"metadata": {"uid": job.metadata.uid}, "spec": decision.spec}
        job = await connection.patch(BatchJob, name, patch)
    say(f"BatchJob {name} {decision.told}")
    return job, decision.refused


async def _ended(connection: Connection, jobs: Sequence[BatchJob], limit: timedelta | None) -> list[BatchJob]:
    """The jobs when they have ended, cancelled or finished just before. Raises Stop when the time for all is over."""
    begun = time.monotonic()
    found = []
    for job in jobs:
        left = None if limit is None else limit - timedelta(seconds=time.monotonic() - begun)
        ended = await finished(connection, job, within=left)
        counts = ended.status.request_counts
        done = f", with {counts.completed} of {counts.total} requests answered" if counts else ""
        say(f"BatchJob {job.metadata.name} has ended: {ended.status.phase.value}{done}")
        found.append(ended)
    return found
