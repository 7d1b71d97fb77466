"""What is told of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from llmbatch.api.base import rfc3339
from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain.job.steps import Finish
from llmbatch.kube.events import Events
from llmbatch.reconcile.jobs.reporting import JobReporter
from support.builders import CREATED, a_job
from support.virtual_time import VirtualClock


class Counted:
    """Metrics that remember the models they were told of."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.seconds = 0.0
        self.requests = ("", 0, 0)

    def finished(self, model: str, result: str, seconds: float) -> None:
        self.models.append(model)
        self.seconds = seconds

    def collected(self, model: str, deployment: str, tokens: Mapping[str, int], cost: Decimal | None) -> None:
        self.models.append(model)

    def answered(self, model: str, deployment: str, completed: int, failed: int) -> None:
        self.models.append(model)
        self.requests = (deployment, completed, failed)


class NoEvents:
    """An API server that takes Events and forgets them."""

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None: ...


@pytest.mark.parametrize(("model", "label"), [("gpt", "gpt"), ("made-up", "other"), (None, "other")])
async def test_metrics_tell_only_of_models_that_a_deployment_serves(model: str | None, label: str):
    """The names in a file are anybody's to make up, and each value of a label lives until the process ends."""
    counted = Counted()
    reporter = JobReporter(Events(NoEvents(), VirtualClock(), instance="tests"), counted, serves="gpt".__eq__)
    usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
    job = a_job().submitted().with_status(modelName=model, usage=usage, requestCounts={"total": 1}).build()

    await reporter.finished(job, Finish(Phase.FAILED, Reason.PROVIDER_ERROR, "no"))

    assert counted.models == [label, label, label]


async def test_metrics_tell_how_long_a_job_took_and_what_became_of_its_requests():
    """From its creation to its end, and by deployment."""
    counted = Counted()
    reporter = JobReporter(Events(NoEvents(), VirtualClock(), instance="tests"), counted, serves="gpt".__eq__)
    counts = {"total": 10, "completed": 7, "failed": 3}
    status = {"modelName": "gpt", "requestCounts": counts, "completionTime": rfc3339(CREATED + timedelta(minutes=5))}

    await reporter.finished(
        a_job().submitted().with_status(**status).build(), Finish(Phase.SUCCEEDED, Reason.COMPLETED, "")
    )

    assert counted.seconds == 300
    assert counted.requests == ("team/east", 7, 3)
