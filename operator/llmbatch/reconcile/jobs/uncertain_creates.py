"""Creates whose outcome is not known: since when, and what listings of the account have shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from llmbatch.domain.job.record import Pending
from llmbatch.engine.queue import Key
from llmbatch.reconcile.accounts.account import Sighting


@dataclass
class UncertainCreate:
    """A pending create whose outcome is not known. Times are monotonic."""

    first_seen: float
    account: Key | None = None
    listings: list[float] = field(default_factory=list)
    """When the complete listings of this account without the batch began."""

    def wanted_from(self, certainty: float) -> float:
        """When the next listing must begin at the earliest: the first one may at once, the second one when no create
        can still be under way."""
        return self.first_seen + (certainty if self.listings else 0.0)

    def is_absent(self, seen: Sighting, certainty: float) -> bool:
        """Take in a listing that did not show the batch; answers whether it surely does not exist.

        What another account showed, before the key was changed, proves nothing.
        """
        if seen.account != self.account:
            self.account, self.listings = seen.account, []
        if seen.began not in self.listings:
            self.listings.append(seen.began)
        return len(self.listings) >= 2 and seen.began >= self.first_seen + certainty


class Attempt(NamedTuple):
    """A create on a deployment. Another one of the same number may have been forged elsewhere."""

    uid: str
    shard: int
    number: int
    route: str

    @staticmethod
    def of(uid: str, shard: int, pending: Pending) -> Attempt:
        """The attempt that a job's record tells of."""
        return Attempt(uid, shard, pending.attempt, pending.deployment)


class UncertainCreates:
    """The doubts of all jobs since this process began."""

    def __init__(self) -> None:
        self._known: dict[Attempt, UncertainCreate] = {}

    def of(self, attempt: Attempt, now: float) -> UncertainCreate:
        """The doubt about an attempt, from now on if it is new."""
        return self._known.setdefault(attempt, UncertainCreate(now))

    def settle(self, attempt: Attempt) -> None:
        """The outcome is known."""
        self._known.pop(attempt, None)

    def forget(self, is_live: Callable[[str], bool]) -> list[Attempt]:
        """Forget those of jobs that are gone, by UID; answers them."""
        gone = [attempt for attempt in self._known if not is_live(attempt.uid)]
        for attempt in gone:
            del self._known[attempt]
        return gone
