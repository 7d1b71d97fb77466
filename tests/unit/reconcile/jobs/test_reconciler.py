"""One reconcile after the other: what a job does when others write it, and when its clean-up goes wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from llmbatch.domain.errors import NoAnswer
from llmbatch.kube.errors import Conflict
from llmbatch.reconcile.jobs.reconciler import OVERTAKEN_AT_MOST, Overtaken
from support.job_bench import RUN, Bench, Process


async def a_running_job() -> tuple[Bench, Process]:
    """A job whose batch runs on one deployment."""
    bench = Bench()
    bench.deployment("east")
    bench.file("team/east")
    bench.job()
    process = bench.start()
    await process.running()
    return bench, process


async def test_a_job_that_others_write_all_the_time_is_not_decided_upon_without_a_pause():
    """A few times at once, then with the queue's backoff; once it went well the count begins anew."""
    bench, process = await a_running_job()
    bench.cluster.edit(RUN, finalizers=[])
    written = bench.cluster.patch_metadata

    async def overtaken(*args: Any, **more: Any) -> Any:
        raise Conflict("it changed", status=409)

    bench.cluster.patch_metadata = overtaken
    for _ in range(OVERTAKEN_AT_MOST):
        again = await process.reconcile()
        assert again is not None
        assert again.after < 1
    with pytest.raises(Overtaken):
        await process.reconcile()
    bench.cluster.patch_metadata = written
    await process.reconcile()

    assert bench.stored().metadata.finalizers
    assert not process.jobs._overtaken


async def test_a_deletion_that_waits_says_for_what_and_says_it_once():
    """A provider that is away holds up the deletion for ten minutes; the job tells, in one write."""
    bench, process = await a_running_job()
    bench.cluster.edit(RUN, deletion_timestamp=bench.clock.now())
    bench.provider("east").error = NoAnswer("no answer")
    process = bench.start()
    bench.cluster.writes.clear()

    for _ in range(5):
        await process.reconcile()
        bench.clock.step(3)

    told = {found.type: (found.reason, found.message) for found in bench.stored().status.conditions}
    assert told["Reconciling"] == ("DeletionWaits", "no answer")
    assert told["Submitted"][0] == "Submitted"
    assert bench.cluster.writes == [("status", RUN)]


@pytest.mark.parametrize(("late", "gone"), [(False, False), (True, True)])
async def test_a_clean_up_that_the_operator_itself_cannot_do_is_given_up_in_time(late, gone):
    """A mistake of ours does not hold a deletion for ever: past its time the job is let go, and that is told."""
    bench, process = await a_running_job()
    bench.cluster.edit(RUN, deletion_timestamp=bench.clock.now())
    if late:
        bench.clock.step(timedelta(minutes=10).total_seconds())
    bench.providers["east"].cancel_batch = None  # type: ignore[assignment]

    if gone:
        await process.reconcile()
    else:
        with pytest.raises(TypeError):
            await process.reconcile()

    assert (RUN not in bench.cluster.stored) == gone
    assert len(bench.given_up.told) == gone


async def test_how_many_requests_a_job_has_is_told_before_it_runs():
    """The file says it: so many results are expected, whatever a provider counts later."""
    bench = Bench()
    bench.file()
    bench.job()
    process = bench.start()

    await process.reconcile()

    assert bench.stored().status.progress == "0/1"
