"""Signals that end a command, which then tidies up as after Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until_told_to_end(work: Coroutine[Any, Any, T]) -> T:
    """What the work answers; it is cancelled, and KeyboardInterrupt raised, where a signal ends it.

    A signal that is ignored stays so, as ``nohup`` wants it. For the main thread, as the task that the loop was
    started for.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    told = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        if asyncio.current_task(loop) is task:
            # It is in the middle of a read or write, perhaps for ever, and the loop would never come to cancel it.
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(task.cancel)

    before = {number: signal.getsignal(number) for number in ENDING}
    taken = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in taken:
        signal.signal(number, end)
    try:
        return await work
    except (asyncio.CancelledError, OSError):
        # OSError: nothing can be written any more to a terminal that was closed.
        if not told:
            raise
        raise KeyboardInterrupt from None
    finally:
        for number in taken:
            signal.signal(number, before[number])
