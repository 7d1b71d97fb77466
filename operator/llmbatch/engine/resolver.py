"""Finding the addresses of hosts that tenants name, so that names which nobody answers for hold up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from llmbatch.engine.clock import Clock

LookUp = Callable[[str], Sequence[str]]
"""All addresses of a host; blocks, and raises OSError or UnicodeError."""

KEPT_HOSTS = 4096


class Resolver:
    """Looks hosts up in threads of its own: at most ``at_once`` for hosts that were found before, and as many others.

    A look-up cannot be stopped, so a name that is never answered for holds its thread until the system gives up. It
    holds none of those that serve hosts which are known to be good. Each host is looked up once at a time, whoever
    asks for it; one that was not found within ``within`` seconds is not asked for again for ``remembered`` seconds,
    or a fifteenth of that where it was found before. At most ``waiting`` hosts of either kind are looked up or wait.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        look_up: LookUp | None = None,
        at_once: int = 16,
        waiting: int = 256,
        within: float = 5.0,
        remembered: float = 30.0,
    ) -> None:
        self._clock = clock
        self._look_up = look_up or addresses_of
        self._waiting = waiting
        self._within = within
        self._remembered = remembered
        self._threads = {kind: asyncio.Semaphore(at_once) for kind in (True, False)}
        self._under_way: dict[bool, dict[str, asyncio.Task[Sequence[str]]]] = {True: {}, False: {}}
        self._found: OrderedDict[str, float] = OrderedDict()
        self._not_found: OrderedDict[str, float] = OrderedDict()

    async def resolve(self, host: str) -> Sequence[str]:
        """All addresses of the host. Raises OSError, of which TimeoutError: nobody answered for it in time."""
        if self._not_found.get(host, 0.0) > self._clock.monotonic():
            raise OSError("the name could not be resolved a moment ago")
        task = self._task(host)
        patience = asyncio.ensure_future(self._clock.sleep(self._within))
        try:
            # The look-up goes on for others when this caller is cancelled.
            await asyncio.wait({task, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
        if not task.done():
            self._note_failure(host)
            raise TimeoutError("the name was not resolved in time")
        try:
            found = task.result()
        except (OSError, UnicodeError):
            self._note_failure(host)
            raise OSError("the name cannot be resolved") from None
        self._not_found.pop(host, None)
        _keep(self._found, host)
        return found

    def _task(self, host: str) -> asyncio.Task[Sequence[str]]:
        known = host in self._found
        under_way = self._under_way[known]
        task = self._under_way[not known].get(host) or under_way.get(host)
        if task is None:
            if len(under_way) >= self._waiting:
                raise OSError("too many names are being resolved")
            task = under_way[host] = asyncio.create_task(self._in_thread(host, self._threads[known]), name="resolve")
            task.add_done_callback(lambda ended: (under_way.pop(host), ended.cancelled() or ended.exception()))
        return task

    async def _in_thread(self, host: str, threads: asyncio.Semaphore) -> Sequence[str]:
        async with threads:
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[Sequence[str]] = loop.create_future()

            def tell(found: Sequence[str] | None, error: Exception | None) -> None:
                if answer.done():
                    return
                if error is not None:
                    answer.set_exception(error)
                else:
                    answer.set_result(found or ())

            def work() -> None:
                found, error = None, None
                try:
                    found = self._look_up(host)
                except Exception as raised:
                    error = raised
                with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
                    loop.call_soon_threadsafe(tell, found, error)

            # A daemon: the process does not wait for an answer that never comes.
            threading.Thread(target=work, name="resolve", daemon=True).start()
            return await answer

    def _note_failure(self, host: str) -> None:
        seconds = self._remembered / 15 if host in self._found else self._remembered
        _keep(self._not_found, host, self._clock.monotonic() + seconds)


def addresses_of(host: str) -> Sequence[str]:
    """All addresses of a host, as the system finds them.

    It reads ``2130706433`` and ``0x7f.1`` as addresses too, so what counts is what comes out here.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _keep(kept: OrderedDict[str, float], host: str, value: float = 0.0) -> None:
    kept[host] = value
    kept.move_to_end(host)
    if len(kept) > KEPT_HOSTS:
        kept.popitem(last=False)
