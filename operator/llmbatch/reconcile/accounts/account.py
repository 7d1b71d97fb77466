"""One account of a provider: what this process has learnt of it, and what others are told of that."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError, EndpointNotAllowed, LLMBatchError, NotSent, ProviderError
from llmbatch.domain.remote import RemoteBatch, Tag
from llmbatch.engine.queue import Key
from llmbatch.providers.protocol import AccountID, BatchProvider

KIND = "Account"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class JobName(NamedTuple):
    """A job's name, which outlives the job."""

    namespace: str
    name: str


class Stray(NamedTuple):
    """A batch with a tag of this cluster that was no known job's when it was seen."""

    created_at: datetime
    batch_id: str


@dataclass
class Search:
    """A search for the batches of one attempt; ``since`` is monotonic.

    ``unreadable_at``: when the last listing began that showed a batch which may be of this attempt, without an id by
    which it could be followed.
    """

    since: float
    found: list[RemoteBatch] = field(default_factory=list)
    unreadable_at: float | None = None

    def see(self, batch: RemoteBatch) -> None:
        """Take in a batch with the tag that is looked for."""
        if batch.id not in [known.id for known in self.found]:
            self.found.append(batch)


@dataclass(frozen=True, slots=True)
class ProvenKey:
    """The last key of a deployment that its provider took, for cleaning up when the Secret is gone; only in memory.

    It goes with the deployment: another one of that name may lead to anybody's endpoint.
    """

    deployment_uid: str
    secret: str = field(repr=False)


class Told(NamedTuple):
    """When (monotonic) a job was last told of its batch, and what."""

    at: float
    batch: RemoteBatch


@dataclass
class Wanted:
    """A complete listing that jobs wait for: it must begin at ``since`` (monotonic) or later."""

    since: float
    jobs: set[Key] = field(default_factory=set)
    cleaning_up: bool = False


@dataclass
class Account:
    """What is known of one account since this process began. Times are monotonic."""

    id: AccountID
    key: Key
    """The queue's: in the namespace of the deployment that was opened first, whose work it counts as."""
    secret: str = field(repr=False)
    """The provider's key."""
    routes: set[str] = field(default_factory=set)
    probed_at: datetime | None = None
    error: LLMBatchError | None = None
    failures: int = 0
    due: float = 0.0
    """Before this it is not listed again."""
    swept_at: float = float("-inf")
    batches: dict[str, RemoteBatch] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    """By batch id; what was seen since then is still to be told."""
    missing: dict[str, float] = field(default_factory=dict)
    strays: dict[JobName, Stray] = field(default_factory=dict)
    """The newest stray for each job's name."""
    sought: dict[tuple[str, int, int], Search] = field(default_factory=dict)
    listed_from: float | None = None
    """When the last complete listing began."""
    wanted: Wanted | None = None

    @property
    def healthy(self) -> bool | None:
        """Whether it answers; None before it was first asked."""
        return None if self.probed_at is None and self.error is None else self.error is None

    def see_tagged(self, tag: Tag, batch: RemoteBatch, *, stray: bool) -> None:
        """Take in a batch of this cluster; ``stray`` where no job has it on its record."""
        if (search := self.sought.get((tag.uid, tag.shard, tag.attempt))) is not None:
            search.see(batch)
        # Later on every batch is one that this process knows, or is looked for by its tag.
        if self.listed_from is None and stray:
            self.leave(JobName(tag.namespace, tag.name), Stray(batch.created_at or _LONG_AGO, batch.id))

    def see_unreadable(self, tag: Tag | None, began: float) -> None:
        """Take in a batch that may be of this cluster and has no id, from a listing that began then; without a tag it
        may be any that is looked for."""
        for attempt, search in self.sought.items():
            if tag is None or attempt == (tag.uid, tag.shard, tag.attempt):
                search.unreadable_at = began

    def keep_only(self, batch_ids: Set[str]) -> None:
        """Forget all batches that no job follows any more."""
        for table in (self.batches, self.told, self.missing):
            for stale in table.keys() - batch_ids:
                del table[stale]

    def want(self, since: float, job: Key, *, cleaning_up: bool) -> None:
        """Have a job wait for a complete listing."""
        wanted = self.wanted = self.wanted or Wanted(since)
        wanted.since = max(wanted.since, since)
        wanted.jobs.add(job)
        wanted.cleaning_up |= cleaning_up

    @property
    def must_list(self) -> bool:
        """Whether the next listing must be complete."""
        return self.listed_from is None or (self.wanted is not None and self.listed_from < self.wanted.since)

    def leave(self, job: JobName, stray: Stray) -> None:
        """Remember a batch for the next job of that name."""
        self.strays[job] = max(stray, self.strays.get(job, stray))


def digest_of(identity: AccountID) -> str:
    """What an account is known by; the provider's key is in it as a digest only."""
    text = "\0".join(
        (identity.provider, identity.endpoint, identity.organization, identity.project, identity.key_digest)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Opened(NamedTuple):
    """An account, and the client of one deployment in it: its URL form and limits are the deployment's own."""

    account: Account
    provider: BatchProvider


class Sighting(NamedTuple):
    """The batches that bear a tag, from a listing of an account that began at ``began`` (monotonic);
    ``unreadable`` where it, or a later one, shows one that may bear it and has no id."""

    found: tuple[RemoteBatch, ...]
    began: float
    account: Key
    unreadable: bool = False


class NotListed(LLMBatchError):
    """The account's batches are not known yet; whoever asked is woken when they are."""

    reason = Reason.PROBING


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Seconds. ``interval`` between sweeps of an account with batches, ``probe`` of one without,
    ``lag`` for which a 404 is no answer."""

    interval: float = 30.0
    probe: float = 30.0
    lag: float = 600.0


def may_pass(error: ProviderError | CredentialsError) -> bool:
    """Whether an error may be gone a moment later: a 5xx, a time-out, a connection that was refused."""
    if isinstance(error, NotSent):
        return not isinstance(error, EndpointNotAllowed)
    return isinstance(error, ProviderError) and not error.certain
