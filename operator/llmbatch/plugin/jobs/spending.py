"""Adding up what jobs have cost and used; what is not known is counted, and never guessed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from llmbatch.api import BatchJob
from llmbatch.api.batchjob import AMOUNT, Cost, RequestCounts, Usage

NOWHERE = "(none)"
"""The group of jobs that never came to a model or a deployment."""
UNEXPLAINED = "no reason given"


@dataclass
class Spending:
    """The sums of a group of jobs.

    ``amount`` is USD of those whose price is known; ``unknown`` counts the others by reason; ``unpriced`` are jobs
    without any results (yet).
    """

    jobs: int = 0
    unpriced: int = 0
    amount: Decimal = Decimal(0)
    unknown: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    failed: int = 0
    usage: Counter[str] = field(default_factory=Counter)

    @property
    def priced(self) -> int:
        """Jobs that are in ``amount``."""
        return self.jobs - self.unpriced - self.unknown.total()

    def add(self, job: BatchJob) -> None:
        """Add one job."""
        status = job.status
        counts = status.request_counts or RequestCounts()
        self.jobs += 1
        self.requests += counts.completed
        self.failed += counts.failed
        self.usage.update((status.usage or Usage()).wire())
        if status.cost is None:
            self.unpriced += 1
        elif (amount := amount_of(status.cost)) is None:
            self.unknown[status.cost.reason or UNEXPLAINED] += 1
        else:
            self.amount += amount

    def data(self) -> dict[str, Any]:
        """The sums for programs. An amount is text, as in the jobs' status; null where no price is known."""
        return {
            "jobs": self.jobs,
            "jobsWithoutResults": self.unpriced,
            "amount": f"{self.amount:f}" if self.priced else None,
            "currency": "USD",
            "unknownCosts": dict(self.unknown),
            "requests": {"completed": self.requests, "failed": self.failed},
            "usage": {name: self.usage[name] for name in Usage().wire()},
        }


def amount_of(cost: Cost) -> Decimal | None:
    """USD; None where it is not known, or no number that can be added."""
    return Decimal(cost.amount) if cost.amount and re.fullmatch(AMOUNT, cost.amount) else None


def model_of(job: BatchJob) -> str:
    """The public model that it ran on, or is to run on."""
    return job.status.model_name or job.spec.target_model_name or NOWHERE


def namespace_of(job: BatchJob) -> str:
    """Its namespace."""
    return job.metadata.namespace


def deployment_of(job: BatchJob) -> str:
    """Where its results come from."""
    deployment = job.status.deployment
    return f"{deployment.namespace}/{deployment.name}" if deployment else NOWHERE


GROUPS: Mapping[str, Callable[[BatchJob], str]] = {
    "model": model_of,
    "namespace": namespace_of,
    "deployment": deployment_of,
}


def ended_since(job: BatchJob, since: datetime | None) -> bool:
    """Whether a job counts: with a ``since``, one that ended then or later."""
    return since is None or (job.status.completion_time is not None and job.status.completion_time >= since)


def by_group(jobs: Iterable[BatchJob], group: Callable[[BatchJob], str]) -> dict[str, Spending]:
    """The sums of each group, the dearest first."""
    groups: dict[str, Spending] = {}
    for job in jobs:
        groups.setdefault(group(job), Spending()).add(job)
    return dict(sorted(groups.items(), key=lambda item: (-item[1].amount, item[0])))


def total(groups: Iterable[Spending]) -> Spending:
    """The sum of sums."""
    whole = Spending()
    for part in groups:
        whole.jobs += part.jobs
        whole.unpriced += part.unpriced
        whole.amount += part.amount
        whole.unknown.update(part.unknown)
        whole.requests += part.requests
        whole.failed += part.failed
        whole.usage.update(part.usage)
    return whole
