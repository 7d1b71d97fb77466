"""Finding hosts in threads, with virtual time for those that are waiting."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from llmbatch.engine.resolver import Resolver
from support.virtual_time import VirtualClock, settle


class Names:
    """What the system knows: names that begin with `slow` are not answered for until the end of the test."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.missing: set[str] = set()
        self.end = threading.Event()

    def __call__(self, host: str) -> Sequence[str]:
        self.asked[host] += 1
        if host.startswith("slow"):
            self.end.wait()
        if host in self.missing:
            raise OSError("no such name")
        return ["192.0.2.1"]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.end.set()


def a_resolver(clock: VirtualClock, names: Names, **bounds: Any) -> Resolver:
    return Resolver(clock, look_up=names, **bounds)


async def give_up(clock: VirtualClock, resolver: Resolver, host: str) -> None:
    """Wait in vain for a host."""
    waiting = asyncio.create_task(resolver.resolve(host))
    await settle()
    await clock.advance(5)
    with pytest.raises(TimeoutError):
        await waiting


async def test_a_host_is_looked_up_once_for_all_who_ask_at_a_time(clock: VirtualClock, names: Names):
    """Many connections to one host are one question."""
    resolver = a_resolver(clock, names)

    found = await asyncio.gather(*(resolver.resolve("east") for _ in range(5)))

    assert found == [["192.0.2.1"]] * 5
    assert names.asked["east"] == 1
    await resolver.resolve("east")
    assert names.asked["east"] == 2


async def test_hosts_that_are_known_are_found_while_others_are_stuck(clock: VirtualClock, names: Names):
    """Names that are never answered for take up all threads but those of hosts that were found before."""
    resolver = a_resolver(clock, names, at_once=2)
    await resolver.resolve("east")
    for host in ("slow-1", "slow-2", "other"):
        await give_up(clock, resolver, host)

    assert names.asked["other"] == 0
    assert await resolver.resolve("east") == ["192.0.2.1"]


async def test_a_host_that_is_stuck_is_not_asked_for_again_for_a_while(clock: VirtualClock, names: Names):
    """Nobody waits for it again, and however often it is asked for, it takes up one thread."""
    resolver = a_resolver(clock, names)
    await give_up(clock, resolver, "slow")
    with pytest.raises(OSError, match="a moment ago"):
        await resolver.resolve("slow")

    await clock.advance(31)
    await give_up(clock, resolver, "slow")

    assert names.asked["slow"] == 1


@pytest.mark.parametrize(("known", "seconds"), [(False, 30), (True, 2)])
async def test_a_name_that_is_missing_is_looked_for_again_in_time(
    clock: VirtualClock, names: Names, known: bool, seconds: float
):
    """A host that was there before is missed for a moment only: it may be the resolver that failed."""
    resolver = a_resolver(clock, names)
    if known:
        await resolver.resolve("east")
    names.missing.add("east")
    with pytest.raises(OSError, match="cannot be resolved"):
        await resolver.resolve("east")
    names.missing.clear()

    await clock.advance(seconds - 0.1)
    with pytest.raises(OSError, match="a moment ago"):
        await resolver.resolve("east")
    await clock.advance(0.2)

    assert await resolver.resolve("east") == ["192.0.2.1"]


async def test_not_all_the_world_can_wait(clock: VirtualClock, names: Names):
    """Above a bound, hosts are refused at once; those that are known have a bound of their own."""
    resolver = a_resolver(clock, names, waiting=1)
    await resolver.resolve("east")
    await give_up(clock, resolver, "slow")

    with pytest.raises(OSError, match="too many"):
        await resolver.resolve("west")
    assert await resolver.resolve("east") == ["192.0.2.1"]


async def test_who_is_cancelled_does_not_end_the_search_for_others(clock: VirtualClock, names: Names):
    """A reconcile that is given up takes nothing from another."""
    resolver = a_resolver(clock, names)
    first, second = (asyncio.create_task(resolver.resolve("slow")) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    names.end.set()

    assert await second == ["192.0.2.1"]
    assert first.cancelled()


async def test_addresses_are_what_the_system_finds():
    """Numbers in odd forms are addresses too."""
    assert await Resolver(VirtualClock()).resolve("2130706433") == ["127.0.0.1"]
