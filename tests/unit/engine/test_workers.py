"""The workers, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable

import pytest

from llmbatch.domain.errors import LLMBatchError
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.engine.workers import Requeue, Workers
from support.virtual_time import VirtualClock, settle

A, B = (Key("BatchJob", "default", name) for name in "ab")


class Lost(BaseException):
    """What ends the process."""


class Bench:
    """A queue, workers and a record of the runs."""

    def __init__(self, handle: Callable[[Bench, Key], Awaitable[Requeue | None]], n: int = 2) -> None:
        self.clock = VirtualClock()
        self.queue = WorkQueue(self.clock, jitter=random.Random(1))
        self.runs: list[tuple[Key, float]] = []
        self.observed: list[tuple[Key, float, str]] = []

        async def recorded(key: Key) -> Requeue | None:
            self.runs.append((key, self.clock.monotonic()))
            return await handle(self, key)

        self.workers = Workers(self.queue, recorded, n, clock=self.clock, on_run=self._observe)

    def _observe(self, key: Key, seconds: float, error: BaseException | None) -> None:
        self.observed.append((key, seconds, type(error).__name__))

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.workers.run())


async def finish(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_requeue_brings_the_key_back():
    """What a run answers decides when the same key runs next."""

    async def handle(bench: Bench, key: Key) -> Requeue | None:
        return Requeue(30) if len(bench.runs) < 3 else None

    bench = Bench(handle)
    task = bench.start()
    bench.queue.add(A)
    await bench.clock.advance(1000)

    assert bench.runs == [(A, 0.0), (A, 30.0), (A, 60.0)]
    await finish(task)


async def test_a_failed_run_is_repeated_with_backoff_and_success_resets_it(caplog: pytest.LogCaptureFixture):
    """An exception costs its key a growing delay, not the worker."""

    async def handle(bench: Bench, key: Key) -> None:
        if len(bench.runs) < 4:
            raise ValueError("sk-secret")

    bench = Bench(handle, n=1)
    task = bench.start()
    bench.queue.add(A)
    await bench.clock.advance(60)

    times = [time for _, time in bench.runs]
    assert [0.75 <= gap / want <= 1 for gap, want in zip(gaps(times), (1, 2, 4), strict=True)] == [True] * 3
    assert bench.queue.failures(A) == 0
    assert [error for _, _, error in bench.observed] == ["ValueError"] * 3 + ["NoneType"]
    assert all("sk-secret" not in record.getMessage() for record in caplog.records)
    await finish(task)


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


async def test_an_error_of_ours_is_logged_with_its_message_and_no_traceback(caplog: pytest.LogCaptureFixture):
    """A failure that the operator understands says what happened in one line."""

    async def handle(bench: Bench, key: Key) -> None:
        raise LLMBatchError("the account is closed")

    bench = Bench(handle)
    task = bench.start()
    bench.queue.add(A)
    with caplog.at_level(logging.WARNING):
        await settle()

    [record] = caplog.records
    assert "the account is closed" in record.getMessage()
    assert record.exc_info is None
    assert record.__dict__["fields"] == {"kind": "BatchJob", "namespace": "default", "name": "a"}
    await finish(task)


async def test_a_fatal_error_ends_all_runs_at_once():
    """Lost leadership leaves run and cancels what is under way."""
    ended: list[str] = []

    async def handle(bench: Bench, key: Key) -> None:
        if key == B:
            await bench.clock.sleep(1)
            raise Lost
        try:
            await bench.clock.sleep(1000)
        except asyncio.CancelledError:
            ended.append("a cancelled")
            raise

    bench = Bench(handle)
    task = bench.start()
    bench.queue.add(A)
    bench.queue.add(B)
    await bench.clock.advance(1)

    assert task.done()
    assert isinstance(task.exception(), Lost)
    assert ended == ["a cancelled"]


async def test_stop_waits_for_runs_under_way_and_starts_no_more():
    """A clean stop lets runs end."""
    ended: list[Key] = []

    async def handle(bench: Bench, key: Key) -> None:
        await bench.clock.sleep(5)
        ended.append(key)

    bench = Bench(handle, n=1)
    task = bench.start()
    bench.queue.add(A)
    bench.queue.add(B)
    await settle()
    stopping = asyncio.create_task(bench.workers.stop(8))
    await bench.clock.advance(5)
    await stopping
    await task

    assert ended == [A]
    assert bench.clock.monotonic() == 5


async def test_stop_cancels_what_takes_too_long():
    """A clean stop takes no longer than it was given."""

    async def handle(bench: Bench, key: Key) -> None:
        await bench.clock.sleep(1000)

    bench = Bench(handle)
    task = bench.start()
    bench.queue.add(A)
    await settle()
    stopping = asyncio.create_task(bench.workers.stop(8))
    await bench.clock.advance(7.9)
    assert not stopping.done()
    await bench.clock.advance(0.1)

    assert stopping.done()
    assert task.done()
    assert bench.observed == [(A, 8.0, "CancelledError")]


async def test_a_cancellation_inside_a_run_does_not_end_the_worker():
    """Only a cancelled worker stops; a run that was cancelled from within is repeated."""

    async def handle(bench: Bench, key: Key) -> None:
        if len(bench.runs) == 1:
            raise asyncio.CancelledError

    bench = Bench(handle, n=1)
    task = bench.start()
    bench.queue.add(A)
    await bench.clock.advance(2)

    assert len(bench.runs) == 2
    await finish(task)


async def test_workers_run_different_keys_at_once():
    """N workers have N keys under way."""

    async def handle(bench: Bench, key: Key) -> None:
        await bench.clock.sleep(10)

    bench = Bench(handle, n=2)
    task = bench.start()
    bench.queue.add(A)
    bench.queue.add(B)
    await settle()

    assert bench.queue.running == 2
    await finish(task)
