"""Leader election in virtual time, over a Lease kept in memory with the API server's optimistic concurrency."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest

from llmbatch.kube.errors import AlreadyExists, Conflict, Unreachable
from llmbatch.kube.lease import Elector, LeadershipLost, NoElection, StoredLease
from support.virtual_time import VirtualClock, settle


class MemoryLeases:
    """One Lease; ``down`` makes it unreachable, ``hangs`` makes calls never end, ``deaf`` does writes unanswered."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.stored: StoredLease | None = None
        self.down = False
        self.hangs = False
        self.deaf = False
        self.holders: list[str] = []

    async def read(self) -> StoredLease | None:
        await self._reach()
        return self.stored

    async def create(self, spec: Mapping[str, Any]) -> StoredLease:
        await self._reach()
        if self.stored:
            raise AlreadyExists("the lease exists")
        return self._store(spec)

    async def replace(self, version: str, spec: Mapping[str, Any]) -> StoredLease:
        await self._reach()
        if not self.stored or version != self.stored.version:
            raise Conflict("the lease changed")
        return self._store(spec)

    async def _reach(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            raise Unreachable("the API server is unreachable")

    def _store(self, spec: Mapping[str, Any]) -> StoredLease:
        self.stored = StoredLease(str(int(self.stored.version) + 1 if self.stored else 1), dict(spec))
        if not self.holders or self.holders[-1] != spec["holderIdentity"]:
            self.holders.append(spec["holderIdentity"])
        if self.deaf:
            raise Unreachable("no answer")
        return self.stored


class Candidate:
    """An elector under way, with the virtual time at which it began to lead."""

    def __init__(self, name: str, leases: MemoryLeases, clock: VirtualClock) -> None:
        self.elector = Elector(leases, name, clock, rng=random.Random(name))
        self.started: list[float] = []
        self.task = asyncio.create_task(self.elector.run(lambda: self.started.append(clock.monotonic())))

    async def kill(self) -> None:
        """As SIGKILL does: nothing more is written."""
        self.task.cancel()
        await settle()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def leases(clock: VirtualClock) -> MemoryLeases:
    return MemoryLeases(clock)


async def test_one_of_two_leads_and_goes_on_leading(leases: MemoryLeases, clock: VirtualClock):
    """The first to come holds the lease for as long as it renews; the other waits."""
    first = Candidate("first", leases, clock)
    await settle()
    second = Candidate("second", leases, clock)
    await clock.advance(600)

    assert (len(first.started), len(second.started)) == (1, 0)
    first.elector.guard()
    with pytest.raises(LeadershipLost):
        second.elector.guard()
    assert leases.stored is not None
    assert leases.stored.spec["leaseTransitions"] == 0
    await first.kill()
    await second.kill()


async def test_the_other_takes_over_within_20_seconds_of_a_kill(leases: MemoryLeases, clock: VirtualClock):
    """A lease that is not renewed is free after its duration, and no sooner."""
    first = Candidate("first", leases, clock)
    await settle()
    second = Candidate("second", leases, clock)
    await clock.advance(61)
    await first.kill()
    await clock.advance(20)

    assert len(second.started) == 1
    assert second.started[0] - 61 >= 15 - 2
    assert leases.stored is not None
    assert leases.stored.spec["leaseTransitions"] == 1
    await second.kill()


async def test_the_other_takes_over_within_5_seconds_of_a_release(leases: MemoryLeases, clock: VirtualClock):
    """A lease that is given back is free at once, and who gave it back does not act any more."""
    first = Candidate("first", leases, clock)
    await settle()
    second = Candidate("second", leases, clock)
    await clock.advance(60)
    await first.kill()
    await first.elector.release()
    with pytest.raises(LeadershipLost):
        first.elector.guard()
    await clock.advance(5)

    assert len(second.started) == 1
    assert leases.holders == ["first", "", "second"]
    await second.kill()


async def test_a_process_that_was_stopped_does_not_act_when_it_goes_on(leases: MemoryLeases, clock: VirtualClock):
    """The guard goes by the monotonic clock, not by what the election has noticed so far."""
    first = Candidate("first", leases, clock)
    await clock.advance(60)
    clock.step(10.1)

    with pytest.raises(LeadershipLost):
        first.elector.guard()
    await first.kill()


@pytest.mark.parametrize("fault", ["down", "hangs"])
async def test_a_leader_that_cannot_renew_ends_before_another_can_lead(
    leases: MemoryLeases, clock: VirtualClock, fault: str
):
    """With no API server in reach the run ends at the renewal deadline, 5 seconds before the lease is free."""
    first = Candidate("first", leases, clock)
    await clock.advance(60)
    setattr(leases, fault, True)
    await clock.advance(7.9)
    assert first.elector.leading
    assert not first.task.done()
    await clock.advance(2.2)

    assert isinstance(first.task.exception(), LeadershipLost)
    assert not first.elector.leading


async def test_a_short_outage_is_survived(leases: MemoryLeases, clock: VirtualClock):
    """An API server that restarts within the deadline costs nothing."""
    first = Candidate("first", leases, clock)
    await clock.advance(60)
    leases.down = True
    await clock.advance(7)
    leases.down = False
    await clock.advance(60)

    assert first.elector.leading
    assert leases.holders == ["first"]
    await first.kill()


async def test_a_renewal_without_answer_is_looked_for(leases: MemoryLeases, clock: VirtualClock):
    """A write that was done but not answered does not make the leader think that somebody else was quicker."""
    first = Candidate("first", leases, clock)
    await clock.advance(60)
    leases.deaf = True
    await clock.advance(5)
    leases.deaf = False
    await clock.advance(60)

    assert first.elector.leading
    await first.kill()


async def test_a_lease_taken_by_another_ends_the_leader(leases: MemoryLeases, clock: VirtualClock):
    """Whoever finds another holder in the lease stops at once."""
    first = Candidate("first", leases, clock)
    await clock.advance(60)
    assert leases.stored is not None
    leases._store({**leases.stored.spec, "holderIdentity": "thief"})
    await clock.advance(5)

    assert isinstance(first.task.exception(), LeadershipLost)
    assert leases.holders[-1] == "thief"


async def test_a_wrong_wall_clock_does_not_matter(leases: MemoryLeases, clock: VirtualClock):
    """A lease whose times lie years back is still held while its record changes."""
    leases.stored = StoredLease(
        "1", {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "2001-01-01T00:00:00.000000Z"}
    )
    first = Candidate("first", leases, clock)
    for second in range(1, 11):
        await clock.advance(10)
        assert leases.stored is not None
        spec = {**leases.stored.spec, "renewTime": f"2001-01-01T00:00:{second:02}.000000Z"}
        leases._store(spec)
    assert first.started == []

    await clock.advance(20)

    assert len(first.started) == 1
    await first.kill()


async def test_a_lease_that_nobody_holds_is_taken_at_once(leases: MemoryLeases, clock: VirtualClock):
    """An empty holder is nobody, whatever duration the record names."""
    leases.stored = StoredLease("1", {"holderIdentity": "", "leaseDurationSeconds": 15})
    first = Candidate("first", leases, clock)
    await clock.advance(0)

    assert first.started == [0.0]
    await first.kill()


async def test_of_many_at_once_one_leads(leases: MemoryLeases, clock: VirtualClock):
    """Whoever is second to write is refused by the version."""
    many = [Candidate(f"c{n}", leases, clock) for n in range(10)]
    await clock.advance(30)

    assert sum(candidate.elector.leading for candidate in many) == 1
    assert len(leases.holders) == 1
    for candidate in many:
        await candidate.kill()


async def test_work_that_fails_ends_the_run_and_loss_cancels_the_work(leases: MemoryLeases, clock: VirtualClock):
    """What runs beside the renewals ends with them, and its error is not lost."""
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def failing() -> None:
        raise RuntimeError("no work")

    first = asyncio.create_task(Elector(leases, "first", clock).run(work))
    await clock.advance(60)
    leases.down = True
    await clock.advance(12)
    assert isinstance(first.exception(), LeadershipLost)
    assert cancelled.is_set()
    leases.down = False
    leases.stored = None

    second = asyncio.create_task(Elector(leases, "second", clock).run(failing))
    await clock.advance(1)
    assert isinstance(second.exception(), RuntimeError)


async def test_without_an_election_everything_is_allowed():
    """A process that is known to be alone starts at once."""
    started = asyncio.Event()
    alone = NoElection()
    task = asyncio.create_task(alone.run(started.set))
    await settle()
    alone.guard()
    await alone.release()

    assert started.is_set()
    assert not task.done()
    task.cancel()


def test_deadlines_in_the_wrong_order_are_refused(leases: MemoryLeases, clock: VirtualClock):
    """A renewal deadline that is not below the duration would let two lead at once."""
    with pytest.raises(ValueError, match="renew_deadline"):
        Elector(leases, "x", clock, lease_duration=10, renew_deadline=10)
