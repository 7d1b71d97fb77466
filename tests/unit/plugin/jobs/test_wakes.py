"""What wakes a watch, and that nothing keeps it from its end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from llmbatch.api import BatchJob
from llmbatch.plugin.commands.watch import Wake, taken
from llmbatch.plugin.exits import Exit, Stop
from llmbatch.plugin.listwatch import Change

SYNCED = Change[BatchJob]("synced")


async def first(wakes: asyncio.Queue[Wake], tick: float | None = 60.0) -> Change[BatchJob] | None:
    """The first thing that wakes."""
    return await anext(taken(wakes, tick))


@pytest.mark.parametrize("turns", range(6))
async def test_ctrl_c_is_not_lost_to_a_change_that_comes_with_it(turns: int):
    """However close to a change the interrupt comes, it ends the watch, unless the change was taken before."""
    wakes: asyncio.Queue[Wake] = asyncio.Queue()
    waiting = asyncio.create_task(first(wakes))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    wakes.put_nowait(SYNCED)
    for _ in range(turns):
        await asyncio.sleep(0)
    interrupted = waiting.cancel()

    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled() is interrupted


async def test_time_alone_wakes_too_and_loses_nothing():
    """After a tick without news there is None; what comes then is taken."""
    wakes: asyncio.Queue[Wake] = asyncio.Queue()

    assert await first(wakes, tick=0.0) is None
    wakes.put_nowait(SYNCED)
    assert await first(wakes) is SYNCED


async def test_what_the_follower_ended_on_ends_the_watch():
    """An error is raised where the user is told of it."""
    wakes: asyncio.Queue[Wake] = asyncio.Queue()
    wakes.put_nowait(Stop("not allowed", Exit.FORBIDDEN))

    with pytest.raises(Stop, match="not allowed"):
        await first(wakes)
