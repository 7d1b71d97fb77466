"""What the index holds, as metrics: read anew at every scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import partial

from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import condition
from llmbatch.engine.clock import Clock
from llmbatch.observability.families import Reading
from llmbatch.observability.metrics import Metrics
from llmbatch.reconcile.index import Index, route_of
from llmbatch.reconcile.telling import OTHER
from llmbatch.reconcile.views import FileView

ENDS = tuple(Reason)[tuple(Reason).index(Reason.COMPLETED) :]
"""The reasons that jobs end with; the enumeration has them last."""
UNFINISHED = tuple(phase for phase in Phase if not phase.finished)
FILE_STATES = ("Validating", "Invalid", "Uploading", "Uploaded")


def show_index(metrics: Metrics, index: Index, clock: Clock) -> None:
    """Let the gauges of resources be read from the index. A standby's index is as right as the leader's."""
    metrics.jobs.read = lambda: [((phase.value,), index.phases[phase]) for phase in Phase]
    metrics.jobs_unfinished.read = partial(_reasons, index)
    metrics.oldest_job.read = partial(_oldest, index, clock)
    metrics.files.read = partial(_files, index)
    metrics.deployment_ready.read = partial(_ready, metrics, index)
    metrics.active_batches.read = partial(_loads, index, 0)
    metrics.enqueued_tokens.read = partial(_loads, index, 1)
    metrics.expect_results(OTHER, ENDS)


def _reasons(index: Index) -> Iterator[Reading]:
    found = Counter(job.reason for job in index.jobs.values() if not job.finished)
    return (((reason.value,), count) for reason, count in found.items() if reason is not None)


def _oldest(index: Index, clock: Clock) -> Iterator[Reading]:
    now = clock.now()
    oldest: dict[Phase, datetime] = dict.fromkeys(UNFINISHED, now)
    for job in index.jobs.values():
        if not job.finished and job.since < oldest[job.phase]:
            oldest[job.phase] = job.since
    return (((phase.value,), (now - since).total_seconds()) for phase, since in oldest.items())


def _files(index: Index) -> Iterator[Reading]:
    found = Counter(map(_state_of, index.files.values()))
    return (((state,), found[state]) for state in FILE_STATES)


def _state_of(file: FileView) -> str:
    if not file.valid:
        return "Validating" if file.valid is None else "Invalid"
    return "Uploaded" if file.copies and all(file_id for _, file_id in file.copies) else "Uploading"


def _ready(metrics: Metrics, index: Index) -> Iterator[Reading]:
    for deployment in index.deployments.values():
        route, model = route_of(deployment), deployment.spec.model_name
        # Before its first result, so that the whole of it is seen.
        metrics.expect_results(model, ENDS)
        metrics.expect_collections(model, route)
        told = condition(deployment.status.conditions, ConditionType.READY)
        reason = Reason.of(told.reason) if told else Reason.PROBING
        yield (route, model, reason.value), float(told is not None and told.status == "True")


def _loads(index: Index, which: int) -> Iterator[Reading]:
    for deployment in index.deployments.values():
        route = route_of(deployment)
        yield (route, deployment.spec.model_name), index.load(route)[which]
