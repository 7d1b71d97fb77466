"""The text of /metrics is made beside the loop, once for all who ask at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from llmbatch.observability.page import FRESH, Page
from support.virtual_time import VirtualClock


class Rendering:
    """Counts how often a text is made, and in which threads; the first ``faults`` times it fails."""

    def __init__(self, faults: int = 0) -> None:
        self.clock = VirtualClock()
        self.texts = 0
        self.faults = faults
        self.read_in: set[str] = set()
        self.rendered_in: set[str] = set()
        self.may_end = threading.Event()
        self.may_end.set()
        self.page = Page(self.collect, self.render, self.clock.monotonic)

    def collect(self) -> int:
        self.texts += 1
        self.read_in.add(threading.current_thread().name)
        if self.texts <= self.faults:
            raise ValueError("a gauge cannot be read")
        return self.texts

    def render(self, readings: int) -> bytes:
        self.rendered_in.add(threading.current_thread().name)
        assert self.may_end.wait(10), "nobody lets it end"
        return str(readings).encode()


@pytest.fixture
def made() -> Iterator[Rendering]:
    """One that works."""
    rendering = Rendering()
    yield rendering
    rendering.page.close()


async def test_all_who_ask_at_once_share_one_text(made: Rendering):
    """However many clients there are, the work is that of one."""
    texts = await asyncio.gather(*(made.page.text() for _ in range(100)))

    assert (set(texts), made.texts) == ({b"1"}, 1)


async def test_a_text_is_given_again_for_not_quite_a_second(made: Rendering):
    """Who asks each second gets a new one each time; who asks more often does not."""
    first = await made.page.text()
    made.clock.step(FRESH - 0.01)
    again = await made.page.text()
    made.clock.step(0.01)

    assert (first, again, await made.page.text()) == (b"1", b"1", b"2")
    assert FRESH < 1


async def test_the_loop_goes_on_while_a_text_is_made(made: Rendering):
    """The rendering waits here for something that only the loop does; reading is left to the loop's own thread."""
    made.may_end.clear()
    asked = asyncio.create_task(made.page.text())
    asyncio.get_running_loop().call_later(0.01, made.may_end.set)

    assert await asked == b"1"
    assert made.read_in == {threading.current_thread().name}
    assert threading.current_thread().name not in made.rendered_in


async def test_a_client_that_hangs_up_takes_the_text_from_nobody(made: Rendering):
    """The other one's answer comes all the same."""
    made.may_end.clear()
    impatient, patient = (asyncio.create_task(made.page.text()) for _ in range(2))
    asyncio.get_running_loop().call_soon(impatient.cancel)
    asyncio.get_running_loop().call_later(0.01, made.may_end.set)

    assert await patient == b"1"
    assert impatient.cancelled()


async def test_a_text_that_failed_is_made_anew():
    """One failure is not what is told from then on."""
    rendering = Rendering(faults=1)
    with pytest.raises(ValueError, match="cannot be read"):
        await rendering.page.text()

    assert await rendering.page.text() == b"2"
    rendering.page.close()
