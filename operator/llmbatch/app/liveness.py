"""Whether the process works: kopf's own health endpoint says 200 with no API server in reach."""

from __future__ import annotations

import logging
import time

from llmbatch.engine.clock import Clock
from llmbatch.kube.errors import KubeError
from llmbatch.kube.lease import Election
from llmbatch.kube.transport import Api
from llmbatch.observability.http import Health

logger = logging.getLogger(__name__)

PING_EVERY = 15.0
ANSWER_AGE = 60.0
BEHIND_TWICE = 2


class Liveness:
    """Ready: the first list is done and the API server answered within 60 s (a standby is ready).

    Live: the index keeps up with the API server.
    """

    def __init__(self, api: Api, election: Election, clock: Clock) -> None:
        self._api = api
        self._election = election
        self._clock = clock
        self.listed = False
        self.times_behind = 0

    def ready(self) -> Health:
        """For /readyz."""
        if not self.listed:
            return Health(False, "the first list is not done")
        answered = self._api.answered_at
        if answered is None or time.monotonic() - answered > ANSWER_AGE:
            return Health(False, f"the API server has not answered for {ANSWER_AGE:.0f} s")
        return Health(True)

    def live(self) -> Health:
        """For /healthz."""
        if self.times_behind >= BEHIND_TWICE:
            return Health(False, "the watch does not keep up with the API server")
        return Health(True)

    async def watch(self) -> None:
        """Ask the API server now and then, as nothing else may for hours."""
        while True:
            answered = self._api.answered_at
            if answered is None or time.monotonic() - answered > PING_EVERY:
                try:
                    await self._api.call("get", "/version")
                except KubeError as error:
                    logger.warning("the API server does not answer: %s", error.message)
            await self._clock.sleep(PING_EVERY)
