"""How late the event loop is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

PERIOD = 0.5


class Clock(Protocol):
    """The time that it is measured by."""

    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


async def watch_loop_lag(clock: Clock, observe: Callable[[float], None], *, period: float = PERIOD) -> None:
    """Tell ``observe`` every ``period`` seconds how late the loop was, until cancelled.

    Something that held the loop for t seconds shows as a lag of up to t.
    """
    while True:
        due = clock.monotonic() + period
        await clock.sleep(period)
        observe(max(0.0, clock.monotonic() - due))
