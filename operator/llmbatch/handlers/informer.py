"""kopf as the informer: it lists and watches, and each event is handed on at once.

Errors in ``on.event`` are never retried, so nothing that can fail is done here: retrying is the queue's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import kopf

from llmbatch.api import KINDS, names
from llmbatch.handlers.lean import let_go, session

logger = logging.getLogger(__name__)

Observe = Callable[[str, Mapping[str, Any], bool], None]
"""Told of every event: kind, the object as the API server wrote it, and whether it is gone."""

SERVER_TIMEOUT = 300
INACTIVITY_TIMEOUT = 90.0
"""Bookmarks come every minute; a watch that is silent for longer is dead."""
LIST_CHUNK = 500


class Informer:
    """Watches the three kinds in the given namespaces, or in all where none is given.

    ``listed`` is called when everything that there was at the beginning has been handed on.
    """

    def __init__(
        self,
        connection: Callable[[], Awaitable[kopf.ConnectionInfo]],
        namespaces: Sequence[str],
        observe: Observe,
        listed: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._namespaces = namespaces
        self._observe = observe
        self._listed = listed
        self._unlisted = len(KINDS) * max(1, len(set(namespaces)))
        self._stop = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        """Watch until ``stop``; ``started`` is called when the process's signals may be taken over from kopf.

        Not by ``kopf.operator``: it takes the signals after its start-up handlers, and when it ends it cancels every
        task of the process that is younger than itself (seen in 1.45.2).
        """
        registry = kopf.OperatorRegistry()
        self._register(registry)
        let_go(registry, self._list_done)
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=_settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
        )
        started()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def stop(self) -> None:
        """End the watching."""
        self._stop.set()

    def _register(self, registry: kopf.OperatorRegistry) -> None:
        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            return session(await self._connection())

        for kind in KINDS:
            kopf.on.event(names.GROUP, names.VERSION, kind.PLURAL, registry=registry, id=kind.PLURAL)(
                self._handler(kind.KIND)
            )

    def _list_done(self) -> None:
        """Of one kind in one namespace; lists that are made anew later on concern nobody."""
        self._unlisted -= 1
        if self._unlisted == 0:
            self._listed()

    def _handler(self, kind: str) -> Callable[..., Any]:
        async def handle(event: Mapping[str, Any], **_: Any) -> None:
            self._observe(kind, event["object"], event["type"] == "DELETED")

        return handle


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # With scanning on, kopf idles for a minute where RBAC does not let it list namespaces and CRDs.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.watching.server_timeout = SERVER_TIMEOUT
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = INACTIVITY_TIMEOUT
    settings.watching.chunk_size = LIST_CHUNK
    settings.networking.request_timeout = 60
    settings.process.ultimate_exiting_timeout = None
    return settings
