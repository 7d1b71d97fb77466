"""A deployment's provider, asked by the user themselves with the deployment's key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from llmbatch.api import ModelDeployment
from llmbatch.api.base import NamespacedReference
from llmbatch.kube.errors import Forbidden
from llmbatch.kube.secrets import SecretReader
from llmbatch.plugin.connection import Connection
from llmbatch.plugin.exits import Exit, Stop
from llmbatch.providers.protocol import BatchProvider
from llmbatch.providers.registry import Providers, target_of
from llmbatch.providers.settings import ProviderSettings


class Clock:
    """The computer's clocks."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of the system's monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait in the running event loop."""
        await asyncio.sleep(seconds)


@asynccontextmanager
async def provider_of(connection: Connection, route: NamespacedReference) -> AsyncIterator[BatchProvider]:
    """The provider of a deployment whose Secret the user may read. Raises Stop, CredentialsError, KubeError."""
    try:
        deployment = await connection.get(ModelDeployment, route.name, route.namespace)
        target = target_of(deployment.spec)
        reader = SecretReader(connection.kube, Clock())
        key = await reader.key(route.namespace, target.key_reference.name, target.key_reference.key)
    except Forbidden as error:
        raise Stop(
            f"the results are at the provider of ModelDeployment {route.namespace}/{route.name}, and you may not use"
            f" its key ({error.message}); ask for that right, or give jobs an output",
            Exit.FORBIDDEN,
        ) from None
    # Any address: it is the user's own machine, and their own rights to the key.
    settings = ProviderSettings(proxy=_proxy(target.endpoint))
    providers = Providers(clock=Clock(), refusal=lambda address: None, settings=settings)
    try:
        yield providers.bind(deployment.spec, key)
    finally:
        await providers.aclose()


def _proxy(endpoint: str) -> str | None:
    """The proxy that the user's environment has for this endpoint."""
    parts = urlsplit(endpoint)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
