"""The work queue: which resource to reconcile next."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import OrderedDict
from collections.abc import Callable

from llmbatch.engine.clock import Timer, TimerClock
from llmbatch.engine.fairness import FairOrder
from llmbatch.engine.key import Key

__all__ = ["Key", "QueueShutDown", "WorkQueue"]

COMPACT_ABOVE = 64
"""Dead heap entries that are tolerated on top of one for each live one."""


class QueueShutDown(Exception):
    """There is no more work to get."""


class WorkQueue:
    """Keys to reconcile: each at most once in the queue and at most once under way.

    A key that is added while it runs runs again after ``done``. Delays are in seconds; a restart derives them anew
    from the resources, so nothing here is kept. Belongs to one event loop. ``observe_wait`` is told how many seconds
    a key was ready before it was taken.

    At most ``max_running`` keys are under way. Namespaces take turns, and each may use every place that no other one
    wants; beyond that, up to twice as many, a namespace is let in that has none under way: hosts that hang hold up
    their own tenant alone.
    """

    def __init__(
        self,
        clock: TimerClock,
        *,
        base_delay: float = 1.0,
        max_delay: float = 300.0,
        jitter: random.Random | None = None,
        observe_wait: Callable[[float], None] = lambda seconds: None,
        max_running: int | None = None,
    ) -> None:
        self._clock = clock
        self._base_delay = base_delay
        self._max_delay = max_delay
        self._jitter = jitter or random.Random()
        self._observe_wait = observe_wait
        self._ready = FairOrder()
        self._most = max_running
        self._running: dict[Key, float] = {}
        self._again: dict[Key, set[str]] = {}
        """Keys that run again, with the versions whose events asked for that; an empty one where anything else did."""
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._failures: dict[Key, int] = {}
        self._getters: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._closed = False

    def add(self, key: Key, version: str = "") -> None:
        """Run the key as soon as a worker is free; this takes the place of any delay.

        ``version`` is that of the resource whose event asks for it: see ``answered``.
        """
        if self._closed:
            return
        self._due.pop(key, None)
        if key in self._running:
            self._again.setdefault(key, set()).add(version)
        elif key not in self._ready:
            self._make_ready(key)

    def answered(self, key: Key, version: str) -> None:
        """The run under way wrote this version itself: an event of it is its echo, and asks for nothing."""
        asked = self._again.get(key, set())
        asked.discard(version)
        if not asked:
            self._again.pop(key, None)

    def is_running(self, key: Key) -> bool:
        """Whether a run of the key is under way."""
        return key in self._running

    def add_after(self, key: Key, seconds: float) -> None:
        """Run the key after ``seconds``, or when it is due already if that is earlier."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if self._closed or key in self._ready or key in self._again or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        if len(self._heap) > 2 * len(self._due) + COMPACT_ABOVE:
            self._compact()
        else:
            heapq.heappush(self._heap, (due, next(self._order), key))
        self._arm()

    def add_rate_limited(self, key: Key) -> float:
        """Run the key after its backoff, which doubles with every call until ``forget``; answers the delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # The exponent is bounded because 2.0 ** 1024 overflows, and a key may fail for weeks.
        delay = min(self._max_delay, self._base_delay * 2.0 ** min(failures, 64))
        delay *= self._jitter.uniform(0.75, 1.0)
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """The key went well: its next failure starts with the shortest backoff."""
        self._failures.pop(key, None)

    def failures(self, key: Key) -> int:
        """Failures of the key in a row."""
        return self._failures.get(key, 0)

    def discard(self, key: Key) -> None:
        """The resource is gone: drop everything that is kept of it. A run under way is not touched."""
        self._again.pop(key, None)
        self._ready.discard(key)
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """Wait for the next key; the caller calls ``done`` when its run has ended. Raises QueueShutDown."""
        while not self._may_take():
            if self._closed:
                raise QueueShutDown
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters[waiting] = None
            try:
                await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self._wake()  # this wake-up was for a key that somebody else must take now
                raise
            finally:
                self._getters.pop(waiting, None)
        key, since = self._ready.take()
        now = self._running[key] = self._clock.monotonic()
        self._observe_wait(now - since)
        return key

    def done(self, key: Key) -> None:
        """The run of the key has ended; it is ready again if it was added meanwhile."""
        if self._running.pop(key, None) is not None:
            self._ready.ended(key)
        if self._again.pop(key, None) is not None:
            self._make_ready(key)
        elif self._may_take():
            self._wake()

    def shutdown(self) -> None:
        """Hand out nothing more and take nothing more; every ``get`` raises QueueShutDown."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for kept in (self._ready, self._again, self._due, self._heap):
            kept.clear()
        for waiting in self._getters:
            if not waiting.done():
                waiting.set_result(None)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker, or for their own run to end."""
        return len(self._ready) + len(self._again)

    @property
    def waiting(self) -> int:
        """Keys that wait for their time."""
        return len(self._due)

    @property
    def running(self) -> int:
        """Keys under way."""
        return len(self._running)

    @property
    def oldest_age(self) -> float:
        """Seconds that the key that waits longest has waited for a worker; 0 when none waits."""
        oldest = self._ready.oldest()
        return self._clock.monotonic() - oldest if oldest is not None else 0.0

    @property
    def longest_run(self) -> float:
        """Seconds that the longest run under way has taken so far; 0 when none is."""
        return self._clock.monotonic() - min(self._running.values()) if self._running else 0.0

    def _may_take(self) -> bool:
        if not self._ready:
            return False
        if self._most is None or len(self._running) < self._most:
            return True
        return self._ready.next_is_first() and len(self._running) < 2 * self._most

    def _make_ready(self, key: Key) -> None:
        self._ready.add(key, self._clock.monotonic())
        self._wake()

    def _wake(self) -> None:
        while self._getters:
            waiting, _ = self._getters.popitem(last=False)
            if not waiting.done():
                waiting.set_result(None)
                return

    def _arm(self) -> None:
        """Keep the one timer on the earliest live entry of the heap."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap:
            return
        due = self._heap[0][0]
        if self._timer:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._clock.call_later(max(0.0, due - self._clock.monotonic()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        # A loop's timer may fire a clock tick early; what is due within a millisecond is due.
        horizon = self._clock.monotonic() + 0.001
        while self._heap and self._heap[0][0] <= horizon:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                self.add(key)
        self._arm()

    def _compact(self) -> None:
        self._heap = [(due, next(self._order), key) for key, due in self._due.items()]
        heapq.heapify(self._heap)
