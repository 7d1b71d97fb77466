"""The clocks."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

from llmbatch.engine.clock import SystemClock
from support.virtual_time import VirtualClock


async def test_virtual_time_runs_what_is_due_in_order_and_at_its_own_time():
    """Advancing far passes through every moment in which something happens."""
    clock = VirtualClock()
    seen: list[tuple[str, float]] = []

    async def tick(name: str, seconds: float) -> None:
        for _ in range(2):
            await clock.sleep(seconds)
            seen.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(tick("slow", 5)), asyncio.create_task(tick("quick", 2))]
    await clock.advance(60)

    assert seen == [("quick", 2.0), ("quick", 4.0), ("slow", 5.0), ("slow", 10.0)]
    assert clock.now() - VirtualClock().now() == timedelta(seconds=60)
    assert all(task.done() for task in tasks)


async def test_the_system_clock_is_aware_and_calls_back():
    """The real clock tells UTC and its timers fire, or do not when cancelled."""
    clock = SystemClock()
    called = asyncio.Event()
    clock.call_later(0, called.set)
    cancelled = clock.call_later(0, lambda: called.clear())
    cancelled.cancel()
    await called.wait()
    await clock.sleep(0)

    assert clock.now().tzinfo is UTC
    assert called.is_set()
    assert clock.monotonic() <= clock.monotonic()
