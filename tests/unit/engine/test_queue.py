"""The work queue, in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from llmbatch.engine.queue import Key, QueueShutDown, WorkQueue
from support.virtual_time import VirtualClock, settle

A, B, C = (Key("BatchJob", "default", name) for name in "abc")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def queue(clock: VirtualClock) -> WorkQueue:
    return WorkQueue(clock, jitter=random.Random(1))


async def test_keys_come_out_in_the_order_they_were_added(queue: WorkQueue):
    """The queue is first in, first out."""
    for key in (B, A, C):
        queue.add(key)

    assert [await queue.get() for _ in range(3)] == [B, A, C]


async def test_a_key_added_twice_is_handed_out_once(queue: WorkQueue):
    """Adding what is already ready changes nothing."""
    queue.add(A)
    queue.add(A)

    assert queue.depth == 1
    assert await queue.get() == A
    assert queue.depth == 0


async def test_a_key_added_while_it_runs_runs_again_after_done(queue: WorkQueue):
    """One key never runs twice at a time, and no change that came during its run is lost."""
    queue.add(A)
    await queue.get()
    queue.add(A)
    second = asyncio.create_task(queue.get())
    await settle()
    assert not second.done()

    queue.done(A)

    assert await second == A


async def test_a_key_that_was_not_added_meanwhile_does_not_run_again(queue: WorkQueue):
    """Done alone hands nothing out."""
    queue.add(A)
    await queue.get()
    queue.done(A)

    assert (queue.depth, queue.running) == (0, 0)


async def test_a_delayed_key_comes_when_it_is_due(queue: WorkQueue, clock: VirtualClock):
    """A delay is kept to the second."""
    queue.add_after(A, 30)
    await clock.advance(29.9)
    assert (queue.depth, queue.waiting) == (0, 1)

    await clock.advance(0.1)

    assert (queue.depth, queue.waiting) == (1, 0)


@pytest.mark.parametrize("delays", [(30, 10), (10, 30)])
async def test_of_two_delays_the_earlier_wins(queue: WorkQueue, clock: VirtualClock, delays: tuple[int, int]):
    """A later delay never puts off an earlier one, and an earlier one takes the place of a later one."""
    for delay in delays:
        queue.add_after(A, delay)
    await clock.advance(10)
    assert await queue.get() == A
    queue.done(A)

    await clock.advance(100)

    assert queue.depth == 0


async def test_an_add_takes_the_place_of_a_delay(queue: WorkQueue, clock: VirtualClock):
    """A key that is added now does not come again when its old delay ends."""
    queue.add_after(A, 30)
    queue.add(A)
    assert await queue.get() == A
    queue.done(A)

    await clock.advance(100)

    assert (queue.depth, queue.waiting) == (0, 0)


async def test_a_delay_of_a_key_that_is_ready_is_dropped(queue: WorkQueue, clock: VirtualClock):
    """The run that comes first decides anew when the next one is due."""
    queue.add(A)
    queue.add_after(A, 5)

    assert queue.waiting == 0


async def test_a_delay_set_while_running_counts_after_it(queue: WorkQueue, clock: VirtualClock):
    """A worker that requeues its own key before done gets it back in time."""
    queue.add(A)
    await queue.get()
    queue.add_after(A, 5)
    queue.done(A)

    await clock.advance(5)

    assert await queue.get() == A


async def test_backoff_doubles_up_to_its_bound_and_starts_again_after_forget(clock: VirtualClock):
    """Failures wait 1, 2, 4 … 300 seconds, less at most a quarter; success resets them."""
    queue = WorkQueue(clock, jitter=random.Random(7))
    delays = []
    for _ in range(2000):
        delays.append(queue.add_rate_limited(A))
        await clock.advance(delays[-1])
        await queue.get()
        queue.done(A)
    expected = [min(300.0, 2.0 ** min(n, 64)) for n in range(2000)]
    assert all(0.75 * want <= got <= want for got, want in zip(delays, expected, strict=True))
    assert len({round(delay / want, 6) for delay, want in zip(delays, expected, strict=True)}) > 1000

    queue.forget(A)

    assert queue.failures(A) == 0
    assert queue.add_rate_limited(A) <= 1.0


async def test_discard_drops_everything_of_a_key(queue: WorkQueue, clock: VirtualClock):
    """A deleted resource is neither run nor remembered."""
    queue.add_rate_limited(A)
    queue.discard(A)
    queue.add(B)
    queue.discard(B)
    queue.add(C)
    await queue.get()
    queue.add(C)
    queue.discard(C)
    queue.done(C)

    await clock.advance(10)

    assert (queue.depth, queue.waiting, queue.running, queue.failures(A)) == (0, 0, 0, 0)


async def test_thirty_thousand_delays_cost_one_timer(queue: WorkQueue, clock: VirtualClock):
    """Delays are entries of a heap, not timers or tasks, and moving them does not make the heap grow."""
    keys = [Key("BatchJob", "default", f"job-{n}") for n in range(30_000)]
    for delay in (3000.0, 2000.0, 1000.0, 500.0):
        for key in keys:
            queue.add_after(key, delay)
    for key in keys[: len(keys) // 2]:
        queue.add(key)

    assert clock.timers == 1
    assert len(queue._heap) <= 2 * len(keys) + 65
    await clock.advance(500)
    assert queue.depth == len(keys)


async def test_cancelled_getter_passes_its_key_on(queue: WorkQueue):
    """A worker that is cancelled just as a key arrives leaves it to another worker."""
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await settle()
    queue.add(A)
    first.cancel()
    await settle()

    assert first.cancelled()
    assert second.done()
    assert second.result() == A


async def test_shutdown_ends_every_get(queue: WorkQueue, clock: VirtualClock):
    """After shutdown nothing is handed out, taken or timed."""
    waiting = asyncio.create_task(queue.get())
    queue.add_after(A, 5)
    await settle()
    queue.shutdown()
    queue.add(B)
    queue.add_after(B, 1)

    with pytest.raises(QueueShutDown):
        await waiting
    with pytest.raises(QueueShutDown):
        await queue.get()
    assert (queue.depth, queue.waiting, clock.timers) == (0, 0, 0)


async def test_the_queue_tells_how_far_behind_it_is(clock: VirtualClock):
    """Age of the head, length of the longest run and the wait of what was taken are told in seconds."""
    waits: list[float] = []
    queue = WorkQueue(clock, observe_wait=waits.append)
    queue.add(A)
    await clock.advance(3)
    queue.add(B)
    await clock.advance(2)
    assert queue.oldest_age == 5.0

    await queue.get()
    await clock.advance(4)

    assert waits == [5.0]
    assert (queue.oldest_age, queue.longest_run) == (6.0, 4.0)


def keys_of(namespace: str, count: int) -> list[Key]:
    return [Key("BatchJob", namespace, str(n)) for n in range(count)]


async def take_all(queue: WorkQueue, workers: int) -> list[Key]:
    """What so many workers take at once, in order; the rest of them go on waiting."""
    taken: list[Key] = []

    async def work() -> None:
        taken.append(await queue.get())

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    await settle()
    for task in tasks:
        task.cancel()
    await settle()
    return taken


async def test_a_namespace_uses_every_place_that_nobody_else_wants(clock: VirtualClock):
    """However few namespaces have work, no worker is idle beside keys that wait."""
    queue = WorkQueue(clock, max_running=4)
    noisy = keys_of("noisy", 6)
    for key in noisy:
        queue.add(key)

    assert await take_all(queue, 8) == noisy[:4]
    assert queue.depth == 2

    queue.done(noisy[1])

    assert await take_all(queue, 8) == [noisy[4]]


async def test_a_flood_does_not_hold_up_the_single_key_of_another_namespace(clock: VirtualClock):
    """It is taken at once, though every place is taken and hundreds of keys were ready before it."""
    queue = WorkQueue(clock, max_running=2)
    noisy, quiet = keys_of("noisy", 300), keys_of("quiet", 2)
    for key in noisy:
        queue.add(key)
    assert await take_all(queue, 4) == noisy[:2]

    for key in quiet:
        queue.add(key)

    assert await take_all(queue, 4) == [quiet[0]]


async def test_the_places_beyond_are_not_without_end(clock: VirtualClock):
    """Many namespaces at once have at most twice as many keys under way."""
    queue = WorkQueue(clock, max_running=2)
    for at in range(6):
        queue.add(Key("BatchJob", f"team-{at}", "run"))

    assert len(await take_all(queue, 6)) == 4


async def test_namespaces_take_turns(clock: VirtualClock):
    """Of those that wait the one with the fewest keys under way comes next, and none twice before another."""
    queue = WorkQueue(clock)
    for key in [*keys_of("a", 3), *keys_of("b", 2), *keys_of("c", 1)]:
        queue.add(key)

    assert [(await queue.get()).namespace for _ in range(6)] == ["a", "b", "c", "a", "b", "a"]


async def test_the_key_of_a_namespace_that_waits_longest_comes_first(clock: VirtualClock):
    """Within a namespace keys keep their order, also when one of them was discarded."""
    queue = WorkQueue(clock, max_running=1)
    first, gone, last = keys_of("noisy", 3)
    for key in (first, gone, last):
        queue.add(key)
    assert await queue.get() == first

    queue.discard(gone)
    queue.add_after(last, 5)
    queue.done(first)

    assert (queue.depth, queue.waiting) == (1, 0)
    assert await queue.get() == last


async def test_the_oldest_age_is_that_of_any_namespace(clock: VirtualClock):
    """A key that waits behind the others of its namespace counts as what it is."""
    queue = WorkQueue(clock, max_running=1)
    first, second = keys_of("noisy", 2)
    queue.add(first)
    queue.add(second)
    await queue.get()
    await clock.advance(3)
    queue.add(Key("BatchJob", "quiet", "run"))
    await clock.advance(1)

    assert queue.oldest_age == 4


@pytest.mark.parametrize("most", [None, 1, 3])
async def test_random_use_neither_loses_nor_doubles_work(clock: VirtualClock, most: int | None):
    """Whatever the order of calls, each key runs once at a time and everything added is run in the end."""
    rng = random.Random(3)
    queue = WorkQueue(clock, jitter=rng, max_running=most)
    keys = [Key("BatchJob", f"team-{n % 3}", str(n)) for n in range(20)]
    running: set[Key] = set()
    wanted: set[Key] = set()

    async def worker() -> None:
        while True:
            key = await queue.get()
            assert key not in running
            running.add(key)
            assert most is None or len(running) <= 2 * most
            wanted.discard(key)
            await clock.sleep(rng.random() * 3)
            running.discard(key)
            queue.done(key)

    tasks = [asyncio.create_task(worker()) for _ in range(4)]
    for _ in range(2000):
        key = rng.choice(keys)
        wanted.add(key)
        match rng.randrange(3):
            case 0:
                queue.add(key)
            case 1:
                queue.add_after(key, rng.random() * 10)
            case _:
                queue.add_rate_limited(key)
        await clock.advance(rng.random() * 0.5)
    await clock.advance(1000)

    assert wanted == set()
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()


async def test_the_echo_of_an_own_write_runs_nothing(clock: VirtualClock):
    """The event of a write comes before the answer to it: once that is there, it asked for nothing."""
    queue = WorkQueue(clock)
    queue.add(A)
    await queue.get()

    queue.add(A, "7")
    queue.answered(A, "7")
    queue.done(A)

    assert queue.depth == 0


@pytest.mark.parametrize("other", ["6", "8", ""])
async def test_another_change_beside_an_echo_runs_again(clock: VirtualClock, other: str):
    """What somebody else wrote meanwhile, or anything else that asked, is not taken back with it."""
    queue = WorkQueue(clock)
    queue.add(A)
    await queue.get()

    queue.add(A, "7")
    queue.add(A, other)
    queue.answered(A, "7")
    queue.done(A)

    assert await queue.get() == A
