"""How long to wait before the next try."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubles from ``first`` up to ``most``."""

    first: timedelta
    most: timedelta

    def wait(self, tries: int) -> timedelta:
        """The wait after ``tries`` failures in a row, counted from 1."""
        return min(self.most, self.first * 2 ** min(max(0, tries - 1), 30))


QUOTA = Backoff(timedelta(minutes=1), timedelta(minutes=30))
"""For a provider that has no room: it frees up in minutes to hours."""
FAULT = Backoff(timedelta(seconds=10), timedelta(minutes=6))
"""For a provider's faults, as batch/v1 Jobs wait."""
UPLOAD = Backoff(timedelta(seconds=5), timedelta(minutes=10))
"""For uploads, which cost nothing."""

COLLECTION = Backoff(timedelta(seconds=1), timedelta(minutes=5))
"""For results that could not be brought home: all of them are read again."""


def spread(wait: timedelta, *seed: object, share: float = 0.1) -> timedelta:
    """The wait and up to ``share`` of it more, the same for the same ``seed``.

    Jobs that were told to wait by the same answer then do not come back in the same second.
    """
    part = zlib.crc32("/".join(map(str, seed)).encode()) / 2**32
    return wait * (1 + share * part)


def whole(moment: datetime) -> datetime:
    """The first whole second that is not before a moment, for resources hold no parts of seconds."""
    down = moment.replace(microsecond=0)
    return down if down == moment else down + timedelta(seconds=1)


def sooner(one: datetime, other: datetime | None) -> datetime:
    """The earlier of two times, where there are two."""
    return one if other is None else min(one, other)
