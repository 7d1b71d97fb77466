"""All providers, and one place that gives a deployment its adapter over its account's connections."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import httpx2

from llmbatch.api.modeldeployment import ModelDeploymentSpec
from llmbatch.domain.errors import Refused
from llmbatch.providers import azure, openai
from llmbatch.providers.http.calls import Account
from llmbatch.providers.http.network import GuardedTransport, Refusal, Resolve
from llmbatch.providers.protocol import AccountID, BatchProvider, Clock
from llmbatch.providers.settings import Hooks, ProviderSettings
from llmbatch.providers.target import Target, checked_key

KINDS: Mapping[str, Callable[[Any], Target]] = MappingProxyType(
    {
        "openAI": openai.target,
        "azureOpenAI": azure.target,
    }
)
"""By the name of the block in a ModelDeployment."""


def target_of(spec: ModelDeploymentSpec) -> Target:
    """What the deployment's provider block comes down to; Refused where there is none that is known."""
    for name, field in ModelDeploymentSpec.model_fields.items():
        kind = KINDS.get(field.alias or name)
        block = getattr(spec, name)
        if kind is not None and block is not None:
            return kind(block)
    raise Refused("the deployment names no provider")


class Providers:
    """Gives adapters to whoever works on a deployment; those of one account share connections, limits and pauses.

    Accounts that were not used for a while are closed when others are asked for, as are the oldest above a bound:
    every rotation of a key makes a new account.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        refusal: Refusal,
        resolve: Resolve | None = None,
        settings: ProviderSettings | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self._clock = clock
        self._refusal = refusal
        self._resolve = resolve
        self._settings = settings or ProviderSettings()
        self._hooks = hooks or Hooks()
        self._salt = secrets.token_bytes(32)
        self._accounts: dict[AccountID, Account] = {}
        self._next_look = 0.0
        self._closing: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None

    def account_id(self, spec: ModelDeploymentSpec, key: str) -> AccountID:
        """The account that this deployment is in with this key; CredentialsError if it cannot be a key."""
        return self._identify(target_of(spec), checked_key(key))

    def bind(self, spec: ModelDeploymentSpec, key: str) -> BatchProvider:
        """The deployment's provider; cheap, so that it is asked for again for each piece of work."""
        target, key = target_of(spec), checked_key(key)
        identity = self._identify(target, key)
        account = self._accounts.get(identity)
        if account is None:
            account = self._accounts[identity] = self._open(identity, target, key)
        account.last_used = self._clock.monotonic()
        self._retire_some()
        return target.adapter(target, account)

    async def aclose(self) -> None:
        """Close all connections, those of calls under way when these end."""
        accounts = list(self._accounts.values())
        self._accounts.clear()
        for account in accounts:
            await account.retire()
        await asyncio.gather(*self._closing)

    def _identify(self, target: Target, key: str) -> AccountID:
        digest = hashlib.blake2b(key.encode(), key=self._salt, digest_size=16).hexdigest()
        return AccountID(target.label, target.endpoint, target.organization, target.project, digest)

    def _open(self, identity: AccountID, target: Target, key: str) -> Account:
        return Account(
            identity,
            target.label,
            target.authorize(key),
            settings=self._settings,
            clock=self._clock,
            hooks=self._hooks,
            connect=lambda: self._connect(target.endpoint),
        )

    def _connect(self, endpoint: str) -> httpx2.AsyncBaseTransport:
        settings = self._settings
        return GuardedTransport(
            self._refusal,
            connections=settings.concurrent_calls + settings.concurrent_uploads + settings.concurrent_downloads,
            ssl_context=self._shared_tls() if endpoint.startswith("https:") else None,
            proxy=settings.proxy,
            resolve=self._resolve,
        )

    def _shared_tls(self) -> ssl.SSLContext:
        """One context for all: making one reads every certificate authority (20 ms and more)."""
        context = self._tls = self._tls or httpx2.create_ssl_context()
        return context

    def _retire_some(self) -> None:
        """Let go of what is unused, looked for ten times in its time, and of the longest unused above the bound.

        Adapters are kept and used without being asked for again, so that only the last call counts.
        """
        now, limit = self._clock.monotonic(), self._settings.idle_after
        if now >= self._next_look:
            self._next_look = now + limit / 10
            for identity, account in list(self._accounts.items()):
                if account.idle and now - account.last_used >= limit:
                    self._retire(identity)
        if len(self._accounts) > self._settings.max_accounts:
            self._retire(min(self._accounts, key=lambda identity: self._accounts[identity].last_used))

    def _retire(self, identity: AccountID) -> None:
        task = asyncio.get_running_loop().create_task(self._accounts.pop(identity).retire())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
