"""The text of /metrics: made beside the event loop, and shared by all who ask within a second."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

FRESH = 0.9
"""Seconds for which a text is given again: a little less than the shortest time between two scrapes."""

Readings = TypeVar("Readings")


class Page(Generic[Readings]):
    """A text that is made of readings. ``monotonic`` is in seconds.

    ``collect`` reads, in the event loop's thread, what changes there: it must be short. ``render`` may take its time;
    with hundreds of deployments there are tens of thousands of lines.
    """

    def __init__(
        self, collect: Callable[[], Readings], render: Callable[[Readings], bytes], monotonic: Callable[[], float]
    ) -> None:
        self._collect = collect
        self._render = render
        self._monotonic = monotonic
        # Its own: the loop's default threads are all taken when names are slow to resolve.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
        self._made: asyncio.Task[bytes] | None = None
        self._stale_at = -math.inf

    async def text(self) -> bytes:
        """The text as it is now, or was within the last second."""
        if self._made is None or (self._made.done() and self._monotonic() >= self._stale_at):
            self._made = asyncio.create_task(self._make(), name="metrics")
        # Shielded: whoever hangs up takes the text from nobody else.
        return await asyncio.shield(self._made)

    def close(self) -> None:
        """Make no more texts."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _make(self) -> bytes:
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(self._thread, self._render, self._collect())
        self._stale_at = self._monotonic() + FRESH
        return text
