"""What is not sure: a batch that a provider does not know, a key that is refused, a create nobody answered."""

from __future__ import annotations

import pytest

from llmbatch.api.base import rfc3339
from llmbatch.api.batchjob import Phase
from llmbatch.domain.errors import NotSent, QuotaExceeded, Unauthorized, Unavailable
from support.job_bench import INTERVAL, LAG, RUN, Bench, Killed, Process, Provider

EAST = "team/east"


async def a_running_job() -> tuple[Bench, Process, Provider]:
    """A job whose batch runs on one deployment."""
    bench = Bench()
    east = bench.deployment("east")
    bench.file(EAST)
    bench.job()
    process = bench.start()
    await process.running()
    return bench, process, east


async def pass_time(bench: Bench, process: Process, seconds: float) -> None:
    """Look at the job and sweep all accounts for that long."""
    for _ in range(int(seconds / INTERVAL)):
        bench.clock.step(INTERVAL)
        await process.round()


async def test_a_batch_that_vanishes_ends_its_job_though_it_was_seen_before():
    """What was last told of a batch counts no more when the provider has denied it for long enough."""
    bench, process, east = await a_running_job()
    await pass_time(bench, process, LAG)
    east.held.clear()

    await pass_time(bench, process, LAG + 60)

    assert bench.stored().status.phase is Phase.FAILED
    assert bench.stored().status.conditions[-1].reason == "BatchNotFound"
    assert east.count("create") == 1


async def test_a_batch_that_an_old_job_misses_for_a_moment_is_followed_on():
    """Two answers of 404 some seconds apart end no job that has run for hours."""
    bench, process, east = await a_running_job()
    await pass_time(bench, process, 2 * LAG)
    kept = dict(east.held)
    east.held.clear()
    await pass_time(bench, process, LAG / 2)

    east.held |= kept
    await pass_time(bench, process, LAG)

    assert not bench.stored().status.phase.finished


async def test_a_cancel_that_is_answered_with_404_ends_after_the_lag():
    """A job that is cancelled, and whose batch vanished, does not wait for ever."""
    bench, process, east = await a_running_job()
    east.held.clear()
    job = bench.stored()
    bench.cluster.stored[RUN] = job.model_copy(update={"spec": job.spec.model_copy(update={"cancel": True})})

    await pass_time(bench, process, LAG + 60)

    assert bench.stored().status.phase.finished


async def test_a_job_that_goes_while_its_batch_is_not_yet_shown_waits_for_the_cancel():
    """A 404 right after a create is a lag: the batch would run on if the cancel counted as accepted."""
    bench, process, east = await a_running_job()
    kept = dict(east.held)
    east.held.clear()
    bench.cluster.edit(RUN, deletion_timestamp=bench.clock.now())
    await pass_time(bench, process, 30)
    assert RUN in bench.cluster.stored

    east.held |= kept
    await process.until(lambda job: job is None)

    assert [batch.state.value for batch in east.held.values()] == ["cancelling"]


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
async def test_a_job_in_doubt_finds_its_batch_before_it_goes(policy):
    """The batch is cancelled, or with Retain left to the next job of the name; it is not forgotten."""
    bench = Bench()
    east = bench.deployment("east")
    east.lose.append("answer")
    bench.file(EAST)
    bench.job(deletionPolicy=policy)
    process = bench.start()
    while not east.held:
        await process.round()
    bench.cluster.edit(RUN, deletion_timestamp=bench.clock.now())

    await process.until(lambda job: job is None)

    assert [batch.state.value for batch in east.held.values()] == [
        "cancelling" if policy == "Delete" else "in_progress"
    ]
    bench.job(metadata={"uid": "uid-of-next", "creationTimestamp": rfc3339(bench.clock.now())})
    adopted = (await process.running()).status.batch_id in list(east.held)[:1]
    assert adopted is (policy == "Retain")


async def test_a_batch_whose_job_went_while_it_was_made_is_cancelled():
    """Nobody would ever see it: it would run, and cost, to its end."""
    bench = Bench()
    east = bench.deployment("east")
    bench.file(EAST)
    bench.job()
    process = bench.start()
    east.on_create = lambda: bench.cluster.stored.pop(RUN)

    await process.until(lambda job: job is None)

    assert [batch.state.value for batch in east.held.values()] == ["cancelling"]


async def test_a_key_that_was_refused_and_mended_gives_a_new_grace():
    """A create that was refused for its key counts no more when another one was refused for another reason."""
    bench = Bench()
    east = bench.deployment("east")
    bench.file(EAST)
    bench.job()
    process = bench.start()
    east.refuse += [Unauthorized("no"), QuotaExceeded("full")]

    await process.until(lambda job: east.count("create") == 2)
    await process.until(lambda job: job is not None and job.status.shards and job.status.shards[0].retry_time)

    assert bench.stored().status.shards[0].unauthorized_since is None


async def test_a_key_that_is_refused_for_too_long_ends_the_job():
    """The provider lists for this key but takes no batch, for longer than a rotation takes."""
    bench = Bench()
    east = bench.deployment("east")
    bench.file(EAST)
    bench.job()
    process = bench.start()
    east.refuse += [Unauthorized("no")] * 100

    await process.until(lambda job: job is not None and job.status.phase.finished, rounds=400)

    assert bench.stored().status.conditions[-1].reason == "Unauthorized"


async def test_a_listing_of_another_account_proves_nothing():
    """The key was changed to that of another account while a create was in doubt: both listings must be of one."""
    bench = Bench()
    bench.deployment("east").lose.append("answer")
    bench.file(EAST)
    bench.job()
    process = bench.start()
    first = bench.provider("east")
    while not first.held:
        await process.round()
    hidden = dict(first.held)
    first.held.clear()
    await process.round()
    await process.round()
    bench.secrets[EAST] = "other"
    bench.clock.step(30)
    await process.round()
    await process.round()
    first.held |= hidden
    bench.secrets[EAST] = "east"

    await process.running()

    assert len(bench.batches()) == 1


async def test_one_refused_connection_leaves_a_deployment_ready():
    """A connection that was not made may be made a moment later; twice in a row is told."""
    bench, process, east = await a_running_job()
    account = next(iter(process.accounts._accounts.values()))
    east.error = NotSent("connection refused")
    bench.clock.step(10 * INTERVAL)
    await process.accounts.sweep(account.key)
    assert account.healthy

    bench.clock.step(10 * INTERVAL)
    await process.accounts.sweep(account.key)

    assert account.healthy is False


async def test_after_a_restart_one_listing_tells_all_jobs():
    """A thousand jobs do not ask for a batch each."""
    bench = Bench()
    east = bench.deployment("east")
    bench.file(EAST)
    jobs = [bench.job(f"run-{at}") for at in range(5)]
    process = bench.start()
    for job in jobs:
        await process.running(job)
    east.calls.clear()

    process = bench.start()
    for job in jobs:
        await process.reconcile(job)
    await process.sweep()
    for job in jobs:
        await process.reconcile(job)

    assert (east.count("list"), east.count("get")) == (1, 0)


async def test_an_account_that_cannot_be_asked_is_told_after_a_restart():
    """The wait for the first listing ends with its failure, too."""
    bench, _, east = await a_running_job()
    east.error = Unavailable("down")
    process = bench.start()

    await process.until(
        lambda job: job is not None and any(found.reason == "ProviderError" for found in job.status.conditions)
    )


@pytest.mark.parametrize("moment", range(8))
async def test_a_restored_batch_is_not_made_again_wherever_the_process_dies(moment):
    """A running job that lost its annotations gets them back from status; a process may die at any moment."""
    bench, _, east = await a_running_job()
    bench.cluster.edit(RUN, annotations={}, finalizers=[])
    try:
        await pass_time(bench, bench.start(kill_at=moment), 30)
    except Killed:
        await pass_time(bench, bench.start(), 30)

    assert bench.stored().metadata.annotations["llmbatch.dev/batch-id"] in east.held
    assert len(bench.batches()) == 1


async def test_a_restart_writes_nothing_of_a_job_that_waits():
    """That the account is listed first is over in a moment, and no news."""
    bench = Bench()
    bench.deployment("east", limits={"maxActiveBatches": 1})
    bench.file(EAST)
    other = bench.job("other")
    process = bench.start()
    await process.running(other)
    bench.job()
    await process.until(lambda job: job is not None and bool(job.status.conditions))
    bench.cluster.writes.clear()

    process = bench.start()
    for _ in range(3):
        await process.round()
        await process.round(other)

    assert bench.cluster.writes == []
    assert bench.stored().status.conditions[0].reason == "NoHeadroom"


async def test_a_batch_that_is_listed_without_an_id_is_not_made_again():
    """It is paid, and says by its metadata whose it is; the job tells where to look, and adopts it once it can."""
    bench = Bench()
    east = bench.deployment("east")
    east.lose.append("answer")
    bench.file(EAST)
    bench.job()
    process = bench.start()
    while not east.held:
        await process.round()
    east.unreadable |= set(east.held)

    await pass_time(bench, process, 2 * LAG)

    assert east.count("create") == 1
    told = next(found for found in bench.stored().status.conditions if found.type == "Reconciling")
    assert "llmbatch-uid" in told.message
    east.unreadable.clear()
    assert (await process.running()).status.batch_id in east.held
    assert east.count("create") == 1


async def test_one_batch_that_cannot_be_read_is_told_on_its_own_job():
    """The account stays healthy, and its other jobs are followed."""
    bench, process, east = await a_running_job()
    east.unreadable |= set(east.held)

    await pass_time(bench, process, 600)

    told = next(found for found in bench.stored().status.conditions if found.type == "Reconciling")
    assert "cannot be read as a batch" in told.message
    assert all(account.healthy for account in process.accounts._accounts.values())
    east.unreadable.clear()
    await pass_time(bench, process, 120)
    assert "in_progress" in next(c.message for c in bench.stored().status.conditions if c.type == "Reconciling")


async def test_a_listing_that_breaks_off_takes_nothing_back_of_what_the_last_one_could_not_read():
    """What is known is what the last whole listing showed: one that failed shows no absence."""
    bench = Bench()
    east = bench.deployment("east")
    east.lose.append("answer")
    bench.file(EAST)
    bench.job()
    process = bench.start()
    while not east.held:
        await process.round()
    east.unreadable |= set(east.held)

    for _ in range(6):
        await pass_time(bench, process, LAG)
        east.error = Unavailable("it failed")
        await pass_time(bench, process, 4 * INTERVAL)
        east.error = None

    assert east.count("create") == 1
