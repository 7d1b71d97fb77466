"""kopf's way from its watch to a handler, without what it does for each object on the way.

kopf 1.45 gives each object a queue and a task that lives on for a while, wraps it for handlers that change it, and
looks for causes, daemons, indices and patches: 0.4 ms of CPU an event and 13 KB an object while many come, for nothing
that ``kopf.on.event`` asks for. Its watch (pages, bookmarks, expired versions, dead connections, credentials that end)
is what is hard to get right, and stays kopf's own. ``tests/unit/handlers`` finds a kopf that does this in another way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import kopf
import orjson
from kopf._cogs.clients import watching
from kopf._core.reactor import queueing

logger = logging.getLogger(__name__)

KOPFS_WATCHER = queueing.watcher
"""What ``let_go`` takes the place of."""
AT_ONCE = 50
"""Events of a page that are handed on before others get their turn."""


def let_go(registry: kopf.OperatorRegistry, listed: Callable[[], None]) -> None:
    """Have kopf's watchers call the event handlers of ``registry`` at once, one event after the other; ``listed`` is
    called by each when it has handed on all that there was."""

    async def watcher(*, namespace: Any, settings: Any, resource: Any, operator_paused: Any = None, **_: Any) -> None:
        handlers = [
            handler.fn
            for handler in registry._watching.get_all_handlers()
            if handler.selector is not None and handler.selector.check(resource)
        ]
        events = watching.infinite_watch(
            settings=settings, resource=resource, namespace=namespace, operator_paused=operator_paused
        )
        count = 0
        async for event in events:
            if event is watching.Bookmark.LISTED:
                listed()
            elif not isinstance(event, watching.Bookmark) and event.get("type") != "BOOKMARK":
                for handle in handlers:
                    await _handed(handle, event)
                count += 1
                if count % AT_ONCE == 0:
                    await asyncio.sleep(0)

    queueing.watcher = watcher


async def _handed(handle: Callable[..., Any], event: Any) -> None:
    try:
        await handle(event=event)
    except Exception:
        logger.exception("an event ended by a mistake of the operator's own")


class Response(aiohttp.ClientResponse):
    """An answer whose JSON is read in a fifth of the time."""

    async def json(self, **_: Any) -> Any:
        """The whole of it."""
        return orjson.loads(await self.read())


def session(info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
    """kopf's own session for this connection, but for how answers are read."""
    connector = aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context())
    made = aiohttp.ClientSession(connector=connector, headers=info.as_http_headers(), response_class=Response)
    return kopf.AiohttpSession(server=info.server, expiration=info.expiration, aiohttp_session=made)
