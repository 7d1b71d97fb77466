"""What ``watch`` knows of the jobs it follows: as they were last seen, how fast they go, and whether all have ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from llmbatch.api import BatchJob
from llmbatch.api.reasons import ConditionType
from llmbatch.domain.conditions import holds
from llmbatch.kube.errors import Unreadable
from llmbatch.plugin.exits import Exit
from llmbatch.plugin.jobs import board
from llmbatch.plugin.jobs.progress import Pace
from llmbatch.plugin.listwatch import Change


@dataclass
class Watched:
    """The jobs as last seen, and those of them that are waited for."""

    wanted: frozenset[str]
    jobs: dict[tuple[str, str], BatchJob] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    """Jobs that this version cannot read; they are not shown."""
    synced: bool = False
    _paces: dict[str, tuple[Pace, float]] = field(default_factory=dict)

    def take(self, change: Change[BatchJob], at: float) -> BatchJob | None:
        """Take a change, at a monotonic time; answers the job that is new or changed."""
        job = change.resource
        if job is None:
            self.synced = True
            return None
        key = (job.metadata.namespace, job.metadata.name)
        if self.wanted and key[1] not in self.wanted:
            return None
        if change.type == "gone":
            # A job that deletes itself after its end has told all there is.
            if not job.status.phase.finished:
                self.deleted.add(key[1])
            if not self.wanted or not job.status.phase.finished:
                self.jobs.pop(key, None)
                self._paces.pop(job.metadata.uid, None)
            return None
        self.deleted.discard(key[1])
        pace, seen_at = self._paces.get(job.metadata.uid, (Pace(), at))
        known = self.jobs.get(key)
        pace.see(job)
        news = known is None or known.status.request_counts != job.status.request_counts
        self._paces[job.metadata.uid] = (pace, at if news else seen_at)
        self.jobs[key] = job
        return job

    def refuse(self, error: Unreadable) -> None:
        """Take it that a job cannot be read. Raises the error where that job is waited for."""
        if error.name in self.wanted:
            raise error
        if not self.wanted:
            self.unreadable.add(error.name)

    def row(self, job: BatchJob, at: float) -> board.Row:
        """The job's row as of a monotonic time."""
        pace, seen_at = self._paces[job.metadata.uid]
        left = pace.left(job)
        return board.Row(job, pace.rate, None if left is None else left - timedelta(seconds=at - seen_at))

    def rows(self, at: float) -> list[board.Row]:
        """All rows."""
        return [self.row(job, at) for job in self.jobs.values()]

    @property
    def over(self) -> bool:
        """Whether every job that is waited for has ended."""
        if not (self.wanted and self.synced):
            return False
        ended = {name for (_, name), job in self.jobs.items() if job.status.phase.finished}
        return self.wanted <= ended | self.deleted

    @property
    def absent(self) -> list[str]:
        """The jobs that are waited for and were never there."""
        if not (self.wanted and self.synced):
            return []
        return sorted(self.wanted - {name for _, name in self.jobs} - self.deleted)

    @property
    def exit(self) -> Exit:
        """How the jobs that were waited for have ended."""
        if self.wanted & self.deleted:
            return Exit.NOT_FOUND
        complete = all(holds(job.status.conditions, ConditionType.COMPLETE) for job in self.jobs.values())
        return Exit.DONE if complete else Exit.NO
