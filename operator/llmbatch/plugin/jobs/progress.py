"""How far a job is, how fast it goes and how long it will take: worked out from what its status tells over time."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from llmbatch.api import BatchJob
from llmbatch.api.batchjob import Phase

WINDOW = timedelta(minutes=10)
"""Rates are those of this long before the newest count. The operator tells counts every half minute or so."""


class Pace:
    """The rate of one job's batch: of the counts of the last minutes, or since its start where there is only one."""

    def __init__(self) -> None:
        self._batch: str | None = None
        self._counts: deque[tuple[datetime, int]] = deque()

    def see(self, job: BatchJob) -> None:
        """Take the counts of a job as read now; another batch begins anew."""
        status = job.status
        if status.batch_id != self._batch:
            self._batch = status.batch_id
            self._counts.clear()
        if status.batch_id is None or status.request_counts is None or status.last_poll_time is None:
            return
        started = next((shard.submit_time for shard in status.shards if shard.submit_time), status.start_time)
        if not self._counts and started is not None:
            self._counts.append((started, 0))
        at = status.last_poll_time
        while self._counts and self._counts[-1][0] >= at:
            self._counts.pop()
        self._counts.append((at, done_of(job)))
        while len(self._counts) > 2 and self._counts[1][0] <= at - WINDOW:
            self._counts.popleft()

    @property
    def rate(self) -> float | None:
        """Requests a second; None while nothing is known."""
        if len(self._counts) < 2:
            return None
        (began, before), (ended, after) = self._counts[0], self._counts[-1]
        return max(0.0, (after - before) / (ended - began).total_seconds())

    def left(self, job: BatchJob) -> timedelta | None:
        """How long the rest will take from its last count on; None where nobody can say."""
        counts = job.status.request_counts
        if job.status.phase is not Phase.IN_PROGRESS or counts is None or not self.rate:
            return None
        return timedelta(seconds=(counts.total - done_of(job)) / self.rate)


def done_of(job: BatchJob) -> int:
    """Requests that are answered or have failed."""
    counts = job.status.request_counts
    return counts.completed + counts.failed if counts else 0


def rate_text(rate: float | None) -> str:
    """``123/s``, ``4.2/s``, ``0.35/s``; a dash where it is not known."""
    if rate is None:
        return "-"
    return f"{rate:.0f}/s" if rate >= 100 else f"{rate:.1f}/s" if rate >= 1 else f"{rate:.2g}/s"


def span_text(span: timedelta) -> str:
    """A length of time as exact as people need it: ``45s``, ``3m20s``, ``12m``, ``2h05m``, ``4d3h``."""
    seconds = max(0, round(span.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days}d{hours % 24}h"
    if hours:
        return f"{hours}h{minutes % 60:02d}m"
    if minutes >= 10:
        return f"{minutes}m"
    return f"{minutes}m{seconds % 60:02d}s" if minutes else f"{seconds}s"


def left_text(left: timedelta | None) -> str:
    """The time left, in steps that do not make a screen flicker: 5 s below a minute, 10 s below ten, then a minute."""
    if left is None:
        return "-"
    seconds = left.total_seconds()
    step = 5 if seconds < 60 else 10 if seconds < 600 else 60
    rounded = -(-seconds // step) * step
    return span_text(timedelta(seconds=rounded)) if rounded > 0 else "soon"


def bar(completed: int, failed: int, total: int, width: int, *, ascii: bool) -> tuple[str, str, str]:
    """A bar of ``width`` cells in three parts: answered, failed, to come.

    Rounded down, so that a full bar means that all is done; a failure is never too small to be seen.
    """
    full, cross, empty = ("#", "x", ".") if ascii else ("█", "▒", "░")
    if total <= 0:
        return "", "", empty * width
    done = min(completed + failed, total) * width // total
    bad = min(done, max(1, failed * width // total)) if failed and done else 0
    return full * (done - bad), cross * bad, empty * (width - done)
