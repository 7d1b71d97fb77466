"""The providers' accounts: one pool, one sweep and one search for each, shared by its deployments."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, TypeVar

from llmbatch.api import ModelDeployment
from llmbatch.api.modeldeployment import ModelDeploymentSpec
from llmbatch.domain.errors import CredentialsError, LLMBatchError, NotFound, ProviderError, RateLimited, Unauthorized
from llmbatch.domain.remote import BatchState, RemoteBatch, Tag
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.engine.schedule import poll_interval
from llmbatch.engine.workers import Requeue
from llmbatch.providers.protocol import AccountID, BatchProvider
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.index import Index, JobView, deployment_key, route_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
KIND = "Account"
SINGLE_GETS_AT_ONCE = 4
SOONEST = 1.0
"""Seconds after which a new batch is worth a first look."""
TRANSIENT_FAILURES = 2
"""A 5xx or a time-out makes a deployment not Ready only when it comes twice in a row."""


class Secrets(Protocol):
    """Reads provider keys."""

    async def key(self, namespace: str, name: str, key: str) -> str:
        """The key; raises CredentialsError."""
        ...

    def forget(self, namespace: str, name: str) -> None:
        """Read it again next time."""
        ...

    def last_good(self, namespace: str, name: str, key: str) -> str | None:
        """What was last read, for cleaning up after the Secret is gone."""
        ...


class Binder(Protocol):
    """Makes provider clients."""

    def bind(self, spec: ModelDeploymentSpec, key: str) -> BatchProvider:
        """A client for a deployment's account."""
        ...


@dataclass
class Search:
    """A search for the batches of one attempt; ``since`` is monotonic."""

    since: float
    found: list[RemoteBatch] = field(default_factory=list)


@dataclass
class Account:
    """What is known of one account since this process began."""

    id: AccountID
    key: Key
    provider: BatchProvider
    routes: set[str] = field(default_factory=set)
    probed_at: datetime | None = None
    error: LLMBatchError | None = None
    failures: int = 0
    due: float = 0.0
    """Before this (monotonic) it is not listed again."""
    swept_at: float = float("-inf")
    batches: dict[str, RemoteBatch] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    missing: dict[str, float] = field(default_factory=dict)
    strays: dict[tuple[str, str], list[RemoteBatch]] = field(default_factory=dict)
    sought: dict[tuple[str, int, int], Search] = field(default_factory=dict)
    listed_from: float | None = None
    """When the last complete listing began, monotonic."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def healthy(self) -> bool | None:
        """Whether it answers; None before it was first asked."""
        return None if self.probed_at is None and self.error is None else self.error is None


class Opened(NamedTuple):
    """An account, and the client of one deployment in it: its URL form and limits are the deployment's own."""

    account: Account
    provider: BatchProvider


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Seconds. ``interval`` between sweeps of an account with batches, ``probe`` of one without,
    ``lag`` for which a 404 is no answer."""

    interval: float = 30.0
    probe: float = 30.0
    lag: float = 600.0


class Accounts:
    """Opens deployments, sweeps their accounts, and finds batches by their tags."""

    def __init__(
        self,
        binder: Binder,
        secrets: Secrets,
        index: Index,
        queue: WorkQueue,
        clock: Clock,
        *,
        cluster: str,
        settings: AccountSettings,
        rng: random.Random,
    ) -> None:
        self._binder = binder
        self._secrets = secrets
        self._index = index
        self._queue = queue
        self._clock = clock
        self._cluster = cluster
        self._settings = settings
        self._rng = rng
        self._accounts: dict[Key, Account] = {}
        self._of_route: dict[str, Account] = {}

    # --- opening ----------------------------------------------------------------------------------------------

    async def open(self, deployment: ModelDeployment, *, cleaning_up: bool = False) -> Opened:
        """A deployment's client and account with its present key. Raises CredentialsError.

        For cleaning up, the last key that was read will do where its Secret is gone.
        """
        namespace = deployment.metadata.namespace
        ref = target_of(deployment.spec).key_reference
        try:
            secret = await self._secrets.key(namespace, ref.name, ref.key)
        except CredentialsError:
            last = self._secrets.last_good(namespace, ref.name, ref.key) if cleaning_up else None
            if last is None:
                raise
            secret = last
        provider = self._binder.bind(deployment.spec, secret)
        account = self._account(provider)
        self._move(route_of(deployment), account)
        return Opened(account, provider)

    def _account(self, provider: BatchProvider) -> Account:
        key = _key(provider.identity)
        if key not in self._accounts:
            self._accounts[key] = Account(provider.identity, key, provider)
        return self._accounts[key]

    def _move(self, route: str, account: Account) -> None:
        old = self._of_route.get(route)
        if old is account:
            return
        self._of_route[route] = account
        account.routes.add(route)
        if old is not None:
            old.routes.discard(route)
            if not old.routes:
                del self._accounts[old.key]

    def forget(self, route: str) -> None:
        """A deployment is gone."""
        account = self._of_route.pop(route, None)
        if account is not None:
            account.routes.discard(route)
            if not account.routes:
                self._accounts.pop(account.key, None)

    async def call(
        self,
        deployment: ModelDeployment,
        action: Callable[[BatchProvider], Awaitable[T]],
        *,
        cleaning_up: bool = False,
    ) -> T:
        """Do something on a deployment; after a 401 its Secret is read again, and a new key is tried at once."""
        account, provider = await self.open(deployment, cleaning_up=cleaning_up)
        try:
            return await action(provider)
        except Unauthorized as error:
            ref = target_of(deployment.spec).key_reference
            self._secrets.forget(deployment.metadata.namespace, ref.name)
            again, provider = await self.open(deployment, cleaning_up=cleaning_up)
            if again is account:
                self._failed(account, error)
                raise
            return await action(provider)

    # --- sweeping ---------------------------------------------------------------------------------------------

    def follow(self, route: str) -> None:
        """See to it that a deployment's account is swept when it is due."""
        account = self._of_route.get(route)
        if account is not None:
            if account.error is None:
                account.due = min(account.due, account.swept_at + self._settings.interval)
            wait = max(account.due - self._clock.monotonic(), 0.0)
            self._queue.add_after(account.key, max(wait, min(self._settings.interval, SOONEST)))

    def probe(self, account: Account) -> None:
        """Have the account asked whether it answers, when it is due."""
        self._queue.add(account.key)

    def learn(self, route: str, batch: RemoteBatch) -> None:
        """Take in what a call just told of a batch."""
        if (account := self._of_route.get(route)) is not None:
            account.batches[batch.id] = batch
            account.missing.pop(batch.id, None)
            account.told.setdefault(batch.id, self._clock.monotonic())

    def batch(self, route: str, batch_id: str) -> RemoteBatch | None:
        """What was last told of a batch."""
        account = self._of_route.get(route)
        return account.batches.get(batch_id) if account else None

    async def sweep(self, key: Key) -> Requeue | None:
        """Ask an account about all its batches at once, which shows its health too; the queue calls this."""
        account = self._accounts.get(key)
        if account is None:
            return None
        now = self._clock.monotonic()
        if now < account.due:
            return Requeue(account.due - now)
        running = self._running(account)
        if not running and account.probed_at is not None and account.error is None and not self._is_needed(account):
            return None
        before = account.healthy
        account.due, account.swept_at = now + self._settings.interval, now
        try:
            async with account.lock:
                await self._sweep(account, running, complete=account.listed_from is None)
            self._succeeded(account)
            account.due = self._clock.monotonic() + self._interval(account, running)
        except ProviderError as error:
            self._failed(account, error)
            account.due = self._clock.monotonic() + max(error.retry_after or 0.0, self._interval(account, running))
        if account.healthy != before:
            for route in account.routes:
                self._queue.add(deployment_key(route))
        return Requeue(account.due - self._clock.monotonic())

    def _running(self, account: Account) -> dict[str, tuple[Key, JobView]]:
        return {
            view.batch_id: (job, view)
            for route in account.routes
            for job, view in self._index.running_on(route)
            if view.batch_id
        }

    def _is_needed(self, account: Account) -> bool:
        deployments = (self._index.deployments.get(deployment_key(route)) for route in account.routes)
        return any(deployment is not None and self._index.depends_on(deployment) for deployment in deployments)

    def _interval(self, account: Account, running: Mapping[str, tuple[Key, JobView]]) -> float:
        base, now = self._settings.interval, self._clock.now()
        known = [account.batches[batch_id] for batch_id in running if batch_id in account.batches]
        if not running:
            return self._settings.probe
        if len(known) < len(running):
            return base
        return min(
            poll_interval(base, (now - batch.created_at).total_seconds(), batch.state, self._rng) for batch in known
        )

    def _succeeded(self, account: Account) -> None:
        account.probed_at, account.error, account.failures = self._clock.now(), None, 0

    def _failed(self, account: Account, error: ProviderError) -> None:
        account.failures += 1
        if isinstance(error, RateLimited) and account.probed_at is not None:
            return
        if isinstance(error, Unauthorized):
            for route in account.routes:
                deployment = self._index.deployments.get(deployment_key(route))
                if deployment is not None:
                    self._secrets.forget(deployment.metadata.namespace, target_of(deployment.spec).key_reference.name)
        if error.certain or account.failures >= TRANSIENT_FAILURES or account.probed_at is None:
            if account.error is None or account.error.reason != error.reason:
                for route in account.routes:
                    self._queue.add(deployment_key(route))
            account.error = error

    async def _sweep(self, account: Account, running: Mapping[str, tuple[Key, JobView]], *, complete: bool) -> None:
        began = self._clock.monotonic()
        unseen, pages = set(running), 0
        async for page in account.provider.list_batches():
            pages += 1
            for batch in page:
                unseen.discard(batch.id)
                self._see(account, batch, running)
            # As many pages as single calls would be needed for what is left; the rest is asked for one by one.
            if not complete and (not unseen or pages >= len(running)):
                break
        else:
            account.listed_from = began
        for stale in account.batches.keys() - running.keys():
            account.batches.pop(stale)
            account.told.pop(stale, None)
        limit = asyncio.Semaphore(SINGLE_GETS_AT_ONCE)

        async def ask(batch_id: str) -> None:
            async with limit:
                await self._ask(account, batch_id, running)

        await asyncio.gather(*(ask(batch_id) for batch_id in unseen))

    async def _ask(self, account: Account, batch_id: str, running: Mapping[str, tuple[Key, JobView]]) -> None:
        try:
            self._see(account, await account.provider.get_batch(batch_id), running)
        except NotFound:
            account.missing.setdefault(batch_id, self._clock.monotonic())
            self._queue.add(running[batch_id][0])

    def _see(self, account: Account, batch: RemoteBatch, running: Mapping[str, tuple[Key, JobView]]) -> None:
        tag = Tag.of(batch.metadata)
        if batch.id in running:
            job, _ = running[batch.id]
            before = account.batches.get(batch.id)
            account.batches[batch.id] = batch
            account.missing.pop(batch.id, None)
            if before != batch and (_matters(before, batch) or self._may_tell(account, batch)):
                self._queue.add(job)
        elif tag is not None and tag.cluster == self._cluster:
            search = account.sought.get((tag.uid, tag.shard, tag.attempt))
            if search is not None and batch.id not in [found.id for found in search.found]:
                search.found.append(batch)
            if account.listed_from is None:
                account.strays.setdefault((tag.namespace, tag.name), []).append(batch)

    def _may_tell(self, account: Account, batch: RemoteBatch) -> bool:
        now = self._clock.monotonic()
        if now - account.told.get(batch.id, 0.0) < self.progress_interval.total_seconds():
            return False
        account.told[batch.id] = now
        return True

    @property
    def progress_interval(self) -> timedelta:
        """How often the mere progress of a running batch is worth a write."""
        return timedelta(seconds=min(30.0, 5 * self._settings.interval))

    def unknown_for(self, route: str, batch_id: str) -> float | None:
        """Seconds for which the provider has said that it does not know a batch; None where it has not."""
        account = self._of_route.get(route)
        since = account.missing.get(batch_id) if account else None
        return None if since is None else self._clock.monotonic() - since

    def missed(self, route: str, batch_id: str) -> None:
        """A single call was answered with 404."""
        if (account := self._of_route.get(route)) is not None:
            account.missing.setdefault(batch_id, self._clock.monotonic())

    # --- searching --------------------------------------------------------------------------------------------

    async def seek(
        self, deployment: ModelDeployment, tag: Tag, *, not_before: float, cleaning_up: bool = False
    ) -> tuple[list[RemoteBatch], float] | None:
        """All batches of one attempt, from a complete listing that began at ``not_before`` (monotonic) or later.

        Answers them with the time at which the listing began, or None where the account was listed so recently that
        it must not be listed again yet. What any sweep shows meanwhile counts as found.
        """
        account, _ = await self.open(deployment, cleaning_up=cleaning_up)
        now = self._clock.monotonic()
        search = account.sought.setdefault((tag.uid, tag.shard, tag.attempt), Search(now))
        async with account.lock:
            enough, now = max(not_before, search.since), self._clock.monotonic()
            if not search.found and (account.listed_from is None or account.listed_from < enough):
                if account.listed_from is not None and now < account.listed_from + self._settings.interval:
                    return None
                account.due, account.swept_at = now + self._settings.interval, now
                await self._sweep(account, self._running(account), complete=True)
        return list(search.found), account.listed_from if account.listed_from is not None else now

    def stop_seeking(self, route: str, tag: Tag) -> None:
        """The attempt was found, made or given up."""
        if (account := self._of_route.get(route)) is not None:
            account.sought.pop((tag.uid, tag.shard, tag.attempt), None)

    def strays(self, route: str, namespace: str, name: str) -> list[RemoteBatch]:
        """Batches for a job's name that the first listing showed; they may belong to a job that is gone."""
        account = self._of_route.get(route)
        return account.strays.get((namespace, name), []) if account else []


def _matters(before: RemoteBatch | None, batch: RemoteBatch) -> bool:
    """Whether a change is more than progress, which is told now and then."""
    return before is None or batch.state.terminal or (batch.state is not before.state and not _in_progress(batch))


def _in_progress(batch: RemoteBatch) -> bool:
    return batch.state in (BatchState.VALIDATING, BatchState.IN_PROGRESS, BatchState.FINALIZING)


def _key(identity: AccountID) -> Key:
    text = "\0".join(
        (identity.provider, identity.endpoint, identity.organization, identity.project, identity.key_digest)
    )
    return Key(KIND, "", hashlib.sha256(text.encode()).hexdigest()[:16])
