"""Kubernetes Events about our resources, without a flood."""

from __future__ import annotations

import logging
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from llmbatch.api.base import Resource
from llmbatch.api.names import API_VERSION
from llmbatch.domain.errors import LLMBatchError

logger = logging.getLogger(__name__)

CONTROLLER = "llmbatch-operator"
MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
NOTE_MAX = 1024
NAME_MAX = 253
REPEAT_SECONDS = 600.0
BURST = 10.0
REFILL_SECONDS = 60.0
REMEMBERED = 4096

K = TypeVar("K")
V = TypeVar("V")


class EventSink(Protocol):
    """Makes an Event."""

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None: ...


class Clock(Protocol):
    """The time that Events need."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...


class Events:
    """Records Events: the same about an object at most every 10 minutes, and of one object 10 at once and then one
    a minute. Recording never fails for the caller. ``instance`` names this process (at most 128 characters).
    """

    def __init__(self, kube: EventSink, clock: Clock, *, instance: str) -> None:
        self._kube = kube
        self._clock = clock
        self._instance = instance[:128]
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def record(
        self, resource: Resource, type_: Literal["Normal", "Warning"], reason: str, message: str, *, action: str = ""
    ) -> None:
        """Say of ``resource`` what happened; ``reason`` is one CamelCase word, ``action`` the same for what was done.

        Nobody's secrets, prompts or completions may be in ``message``.
        """
        meta = resource.metadata
        if not self._allowed(meta.uid, reason, message):
            return
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{meta.name[: NAME_MAX - 17].rstrip('.-')}.{uuid.uuid4().hex[:16]}",
                "namespace": meta.namespace,
            },
            "eventTime": self._clock.now().strftime(MICRO_TIME),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": action or reason,
            "reason": reason,
            "type": type_,
            "note": shortened(message),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": type(resource).KIND,
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
        }
        try:
            await self._kube.create_event(meta.namespace, event)
        except LLMBatchError as error:
            # In a terminating namespace no Event can be made; elsewhere the same is in the status and in the log.
            logger.debug("event %s not recorded: %s", reason, error)

    def _allowed(self, uid: str, reason: str, message: str) -> bool:
        now = self._clock.monotonic()
        told = (uid, reason, message)
        if now - self._told.get(told, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        tokens, since = self._tokens.pop(uid, (BURST, now))
        tokens = min(BURST, tokens + (now - since) / REFILL_SECONDS)
        allowed = tokens >= 1
        _remember(self._tokens, uid, (tokens - 1 if allowed else tokens, now))
        if allowed:
            self._told.pop(told, None)
            _remember(self._told, told, now)
        return allowed


def shortened(message: str) -> str:
    """At most 1024 bytes, which is what events.k8s.io/v1 takes as a note."""
    content = message.encode()
    if len(content) <= NOTE_MAX:
        return message
    return content[: NOTE_MAX - 3].decode(errors="ignore") + "…"


def _remember(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    if len(kept) > REMEMBERED:
        kept.popitem(last=False)
