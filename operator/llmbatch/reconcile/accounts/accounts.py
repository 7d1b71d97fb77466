"""The providers' accounts: one pool, one sweep and one search for each, shared by its deployments."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol, TypeVar

from llmbatch.api import ModelDeployment
from llmbatch.api.modeldeployment import ModelDeploymentSpec
from llmbatch.domain.errors import (
    CredentialsError,
    NotFound,
    ProviderError,
    RateLimited,
    Refused,
    Unauthorized,
)
from llmbatch.domain.remote import BatchState, RemoteBatch, Tag
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.engine.schedule import poll_interval
from llmbatch.engine.workers import Requeue
from llmbatch.providers.protocol import AccountID, BatchProvider
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.accounts.account import (
    KIND,
    Account,
    AccountSettings,
    JobName,
    NotListed,
    Opened,
    ProvenKey,
    Search,
    Sighting,
    Stray,
    Told,
    digest_of,
    may_pass,
)
from llmbatch.reconcile.accounts.listing import Listing, Running
from llmbatch.reconcile.index.index import Index, deployment_key, route_of

logger = logging.getLogger(__name__)

T = TypeVar("T")
MOST_FORMS = 3
"""Deployments of one account by which it is tried to list it."""
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


class Binder(Protocol):
    """Makes provider clients."""

    def bind(self, spec: ModelDeploymentSpec, key: str) -> BatchProvider:
        """A client for a deployment's account."""
        ...


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
        self._settings = settings
        self._rng = rng
        self._listing = Listing(
            queue, clock, cluster=cluster, telling=self.progress_interval, is_recorded=index.is_recorded
        )
        self._accounts: dict[str, Account] = {}
        self._of_route: dict[str, Account] = {}
        self._proven: dict[str, ProvenKey] = {}

    # --- opening ----------------------------------------------------------------------------------------------

    async def open(self, deployment: ModelDeployment, *, cleaning_up: bool = False) -> Opened:
        """As ``examine``; the error does not name the Secret, which may be another tenant's."""
        try:
            return await self.examine(deployment, cleaning_up=cleaning_up)
        except CredentialsError as error:
            message = (
                f"the key of ModelDeployment {route_of(deployment)} is missing or of no use; its owner must mend it"
            )
            raise CredentialsError(message, reason=error.reason) from None

    async def examine(self, deployment: ModelDeployment, *, cleaning_up: bool = False) -> Opened:
        """A deployment's client and account with its present key. Raises CredentialsError, for the deployment's owner.

        For cleaning up, the last key that the provider took will do where its Secret is gone.
        """
        namespace = deployment.metadata.namespace
        ref = target_of(deployment.spec).key_reference
        try:
            secret = await self._secrets.key(namespace, ref.name, ref.key)
        except CredentialsError:
            last = self._proven.get(route_of(deployment)) if cleaning_up else None
            if last is None or last.deployment_uid != deployment.metadata.uid:
                raise
            secret = last.secret
        provider = self._binder.bind(deployment.spec, secret)
        account = self._account(provider.identity, secret, namespace)
        self._move(route_of(deployment), account)
        return Opened(account, provider)

    def _account(self, identity: AccountID, secret: str, namespace: str) -> Account:
        digest = digest_of(identity)
        if digest not in self._accounts:
            self._accounts[digest] = Account(identity, Key(KIND, namespace, digest), secret)
        return self._accounts[digest]

    def _prove(self, deployment: ModelDeployment, account: Account) -> None:
        """The provider has taken the account's key."""
        self._proven[route_of(deployment)] = ProvenKey(deployment.metadata.uid, account.secret)

    def _move(self, route: str, account: Account) -> None:
        old = self._of_route.get(route)
        if old is account:
            return
        self._of_route[route] = account
        account.routes.add(route)
        if old is not None:
            old.routes.discard(route)
            if not old.routes:
                del self._accounts[old.key.name]

    def forget(self, route: str) -> None:
        """A deployment is gone, and its key with it."""
        self._proven.pop(route, None)
        account = self._of_route.pop(route, None)
        if account is not None:
            account.routes.discard(route)
            if not account.routes:
                self._accounts.pop(account.key.name, None)

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
            answer = await action(provider)
        except Unauthorized as error:
            ref = target_of(deployment.spec).key_reference
            self._secrets.forget(deployment.metadata.namespace, ref.name)
            again, provider = await self.open(deployment, cleaning_up=cleaning_up)
            if again is account:
                self._failed(account, error)
                raise
            answer, account = await action(provider), again
        self._prove(deployment, account)
        return answer

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
            account.told[batch.id] = Told(self._clock.monotonic(), batch)

    def batch(self, route: str, batch_id: str) -> RemoteBatch | None:
        """What was last told of a batch."""
        account = self._of_route.get(route)
        return account.batches.get(batch_id) if account else None

    async def sweep(self, key: Key) -> Requeue | None:
        """Ask an account about all its batches at once, which shows its health too; the queue calls this."""
        account = self._accounts.get(key.name)
        if account is None or account.key != key:
            return None
        now = self._clock.monotonic()
        if now < account.due:
            return Requeue(account.due - now)
        running = self._running(account)
        if not running and account.healthy and account.wanted is None and not self._is_needed(account):
            return None
        before = account.healthy
        account.due, account.swept_at = now + self._settings.interval, now
        try:
            await self._list(account, running)
            self._succeeded(account)
            account.due = self._clock.monotonic() + self._interval(account, running)
        except (ProviderError, CredentialsError) as error:
            self._failed(account, error)
            wait = getattr(error, "retry_after", None) or 0.0
            account.due = self._clock.monotonic() + max(wait, self._interval(account, running))
        self._tell(account, changed=account.healthy != before)
        return Requeue(account.due - self._clock.monotonic())

    async def _list(self, account: Account, running: Running) -> None:
        """List an account by the first of its deployments that it answers: their forms of the API may differ.

        Raises ProviderError, CredentialsError.
        """
        complete, cleaning_up = account.must_list, account.wanted is not None and account.wanted.cleaning_up
        last: ProviderError | CredentialsError | None = None
        for deployment in self._deployments_of(account)[:MOST_FORMS]:
            try:
                opened, provider = await self.open(deployment, cleaning_up=cleaning_up)
                if opened is account:
                    await self._listing.run(account, provider, running, complete=complete)
                    return
            except (CredentialsError, NotFound, Refused) as error:
                last = error
        if last is not None:
            raise last

    def _tell(self, account: Account, *, changed: bool) -> None:
        """Wake those whom a listing, or its failure, concerns."""
        if changed:
            for route in account.routes:
                self._queue.add(deployment_key(route))
        if account.wanted is not None:
            for job in account.wanted.jobs:
                self._queue.add(job)
            account.wanted = None

    def _deployments_of(self, account: Account) -> list[ModelDeployment]:
        found = (self._index.deployments.get(deployment_key(route)) for route in sorted(account.routes))
        return [deployment for deployment in found if deployment is not None]

    def _running(self, account: Account) -> Running:
        running: dict[str, set[Key]] = {}
        for route in account.routes:
            for job, view in self._index.running_on(route):
                if view.batch_id:
                    running.setdefault(view.batch_id, set()).add(job)
        return running

    def _is_needed(self, account: Account) -> bool:
        return any(self._index.depends_on(deployment) for deployment in self._deployments_of(account))

    def _interval(self, account: Account, running: Running) -> float:
        base, now = self._settings.interval, self._clock.now()
        known = [account.batches[batch_id] for batch_id in running if batch_id in account.batches]
        if not running:
            return self._settings.probe
        if len(known) < len(running):
            return base
        return min(
            poll_interval(base, (now - (batch.created_at or now)).total_seconds(), batch.state, self._rng)
            for batch in known
        )

    def _succeeded(self, account: Account) -> None:
        account.probed_at, account.error, account.failures = self._clock.now(), None, 0
        for route in account.routes:
            if (deployment := self._index.deployments.get(deployment_key(route))) is not None:
                self._prove(deployment, account)

    def _failed(self, account: Account, error: ProviderError | CredentialsError) -> None:
        account.failures += 1
        if isinstance(error, RateLimited) and account.probed_at is not None:
            return
        if isinstance(error, Unauthorized):
            for deployment in self._deployments_of(account):
                self._secrets.forget(deployment.metadata.namespace, target_of(deployment.spec).key_reference.name)
        if not may_pass(error) or account.failures >= TRANSIENT_FAILURES or account.probed_at is None:
            if account.error is None or account.error.reason != error.reason:
                for route in account.routes:
                    self._queue.add(deployment_key(route))
            account.error = error

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
        self, deployment: ModelDeployment, tag: Tag, *, job: Key, not_before: float, cleaning_up: bool = False
    ) -> Sighting | None:
        """All batches of one attempt, from a complete listing that began at ``not_before`` (monotonic) or later.

        None where there was none yet: then ``job`` is woken when there is. What any sweep shows meanwhile counts as
        found. Raises CredentialsError, ProviderError.
        """
        account, _ = await self.open(deployment, cleaning_up=cleaning_up)
        now = self._clock.monotonic()
        search = account.sought.setdefault((tag.uid, tag.shard, tag.attempt), Search(now))
        enough, began = max(not_before, search.since), account.listed_from
        if not search.found and (began is None or began < enough):
            self._await_listing(account, enough, job, cleaning_up=cleaning_up)
            return None
        seen_at = now if began is None else began
        unreadable = not search.found and search.unreadable_at is not None and search.unreadable_at >= seen_at
        if unreadable:
            # It may be readable, or gone, in a later one.
            self._await_listing(account, now, job, cleaning_up=cleaning_up)
        return Sighting(tuple(search.found), seen_at, account.key, unreadable)

    def _await_listing(self, account: Account, since: float, job: Key, *, cleaning_up: bool = False) -> None:
        """Have a job woken by a complete listing; it is the queue that lists, so that no job's worker waits for it."""
        now = self._clock.monotonic()
        if account.error is not None and now < account.due:
            raise account.error
        account.want(since, job, cleaning_up=cleaning_up)
        if account.healthy:
            account.due = min(account.due, account.swept_at + self._settings.interval)
        self._queue.add_after(account.key, account.due - now)

    def stop_seeking(self, route: str, uid: str, shard: int, attempt: int) -> None:
        """The attempt was found, made or given up."""
        if (account := self._of_route.get(route)) is not None:
            account.sought.pop((uid, shard, attempt), None)

    async def begins(self, deployment: ModelDeployment, job: Key) -> bool:
        """Whether the account was never asked yet: then it is, about all batches at once, which wakes the job.

        After a restart each job would ask for its own batch otherwise. Raises CredentialsError.
        """
        account, _ = await self.open(deployment)
        if account.healthy is not None:
            return False
        account.want(self._clock.monotonic(), job, cleaning_up=False)
        self._queue.add(account.key)
        return True

    async def stray(self, deployment: ModelDeployment, job: Key) -> RemoteBatch | None:
        """The newest batch that was made for a job's name and was no known job's when it was seen, as it is now.

        None where there is none, or where its results are gone. Raises CredentialsError, ProviderError, and NotListed
        until the account was listed, which wakes the job: without an answer nobody can say that there is none.
        """
        account, provider = await self.open(deployment)
        if account.listed_from is None:
            self._await_listing(account, self._clock.monotonic(), job)
            raise NotListed("the account's batches are being listed")
        stray = account.strays.get(JobName(job.namespace, job.name))
        if stray is None:
            return None
        try:
            batch = await provider.get_batch(stray.batch_id)
            if batch.state is BatchState.COMPLETED:
                await provider.get_file(batch.output_file_id or batch.error_file_id or "")
        except NotFound:
            return None
        return batch

    def leave(self, route: str, namespace: str, name: str, batch_id: str) -> None:
        """A job goes and its batch stays, for the next job of that name."""
        if (account := self._of_route.get(route)) is not None:
            account.leave(JobName(namespace, name), Stray(self._clock.now(), batch_id))
