"""How long a clean-up holds up a deletion, and what is told when it is given up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from llmbatch.kube.client import Kube, NamespaceView
from llmbatch.kube.errors import Forbidden
from llmbatch.kube.events import Events
from llmbatch.reconcile.abandonment import PATIENCE, PATIENCE_IN_TERMINATING_NAMESPACE, Abandonment
from support.builders import NOW, a_job
from support.virtual_time import VirtualClock

EARLIER = NOW - timedelta(seconds=5)


class ApiServer:
    """An API server that shows one namespace, or refuses to, and takes Events."""

    def __init__(self, namespace: NamespaceView | None, *, allowed: bool = True) -> None:
        self._namespace = namespace
        self._allowed = allowed
        self.events: list[Mapping[str, Any]] = []

    async def namespace(self, name: str) -> NamespaceView | None:
        if not self._allowed:
            raise Forbidden("namespaces may not be read")
        return self._namespace

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        self.events.append(event)


def abandonment(api: ApiServer, given_up: list[None] | None = None) -> Abandonment:
    """What gives up, on an API server that is a small stand-in."""
    clock, counted = VirtualClock(), [] if given_up is None else given_up
    events = Events(api, clock, instance="tests")
    return Abandonment(cast(Kube, api), events, clock, count=lambda: counted.append(None))


@pytest.mark.parametrize(
    ("api", "due"),
    [
        (ApiServer(NamespaceView({}, terminating=False)), NOW + PATIENCE),
        (ApiServer(None, allowed=False), NOW + PATIENCE),
        (ApiServer(NamespaceView({}, True, EARLIER)), EARLIER + PATIENCE_IN_TERMINATING_NAMESPACE),
        (ApiServer(None), NOW + PATIENCE_IN_TERMINATING_NAMESPACE),
    ],
    ids=["a living namespace", "no right to read it", "a terminating namespace", "a namespace that is gone"],
)
async def test_patience_is_short_only_where_the_namespace_goes(api: ApiServer, due: datetime):
    """Its Secrets go first, so the key may never come back; elsewhere a provider has ten minutes."""
    assert await abandonment(api).due(a_job().submitted().deleted().build()) == due


async def test_what_is_left_behind_is_told_in_log_metric_and_event(caplog: pytest.LogCaptureFixture):
    """Somebody must delete it by hand."""
    api, counted = ApiServer(NamespaceView({}, terminating=False)), list[None]()

    await abandonment(api, counted).tell(a_job().deleted().build(), "its batch")

    assert len(counted) == 1
    assert "BatchJob team/run-1 given up, left behind: its batch" in caplog.text
    assert [event["reason"] for event in api.events] == ["CleanupAbandoned"]
