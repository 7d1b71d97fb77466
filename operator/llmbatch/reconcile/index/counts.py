"""How many jobs and files there are of which sort, kept up as they change.

To count tens of thousands anew at each scrape would hold the event loop for too long.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import Reason
from llmbatch.reconcile.index.projections import FileProjection, FileState, JobProjection

RESOLUTION = 10
"""Seconds to which the age of the oldest job is known: so jobs that are made together count together."""


class ResourceCounts:
    """Counts jobs by phase and by why they go on, and files by state."""

    def __init__(self) -> None:
        self.phases: Counter[Phase] = Counter()
        self.reasons: Counter[Reason] = Counter()
        """Of unfinished jobs."""
        self.files: Counter[FileState] = Counter()
        self._entered: Counter[tuple[Phase, int]] = Counter()

    def job(self, before: JobProjection | None, after: JobProjection | None) -> None:
        """A job came, changed or went."""
        if before is not None:
            self._add_job(before, -1)
        if after is not None:
            self._add_job(after, 1)

    def file(self, before: FileProjection | None, after: FileProjection | None) -> None:
        """A file came, changed or went."""
        if before is not None:
            self.files[before.state] -= 1
        if after is not None:
            self.files[after.state] += 1

    def oldest(self) -> dict[Phase, datetime]:
        """Since when the job that has been longest in each phase has been in it; phases without jobs are left out."""
        found: dict[Phase, int] = {}
        for phase, moment in self._entered:
            found[phase] = min(moment, found.get(phase, moment))
        return {phase: datetime.fromtimestamp(moment * RESOLUTION, UTC) for phase, moment in found.items()}

    def _add_job(self, job: JobProjection, count: int) -> None:
        self.phases[job.phase] += count
        if job.finished:
            return
        if job.reason is not None:
            self.reasons[job.reason] += count
        entered = (job.phase, int(job.since.timestamp()) // RESOLUTION)
        self._entered[entered] += count
        if not self._entered[entered]:
            del self._entered[entered]
