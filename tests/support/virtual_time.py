"""A clock that tests turn by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(order=True)
class _Timer:
    due: float
    order: int
    callback: Callable[[], object] | None = field(compare=False)

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """Stands still until it is advanced; then everything that falls due runs in order, each at its own time."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._timers: list[_Timer] = []

    def now(self) -> datetime:
        """The start time plus all that was advanced."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait for the clock to be advanced that far; zero only lets others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: woken.done() or woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> _Timer:
        """Call back when the clock is advanced that far."""
        timer = _Timer(self._elapsed + max(seconds, 0.0), next(self._order), callback)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def timers(self) -> int:
        """Calls that are still due."""
        return sum(timer.callback is not None for timer in self._timers)

    async def advance(self, seconds: float = 0.0) -> None:
        """Pass time; between two timers everything that can run runs until it waits again."""
        target = self._elapsed + seconds
        await settle()
        while self._timers and self._timers[0].due <= target:
            timer = heapq.heappop(self._timers)
            if timer.callback is None:
                continue
            self._elapsed = max(self._elapsed, timer.due)
            timer.callback()
            await settle()
        self._elapsed = target

    def step(self, seconds: float) -> None:
        """Pass time without running anything, as a process does that was stopped for a while."""
        self._elapsed += seconds


async def settle() -> None:
    """Let every task run until all of them wait for something other than their turn."""
    ready = asyncio.get_running_loop().__dict__.get("_ready")
    if ready is None:
        raise RuntimeError("this event loop does not show its ready callbacks")
    await asyncio.sleep(0)
    while ready:  # noqa: ASYNC110  (there is no event for "nothing is ready")
        await asyncio.sleep(0)
