"""What is told of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain.steps import Finish
from llmbatch.kube.events import Events
from llmbatch.reconcile.telling import JobTelling
from support.builders import a_job
from support.virtual_time import VirtualClock


class Counted:
    """Metrics that remember the models they were told of."""

    def __init__(self) -> None:
        self.models: list[str] = []

    def finished(self, model: str, result: str) -> None:
        self.models.append(model)

    def collected(self, model: str, deployment: str, tokens: Mapping[str, int], cost: Decimal | None) -> None:
        self.models.append(model)


class NoEvents:
    """An API server that takes Events and forgets them."""

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None: ...


@pytest.mark.parametrize(("model", "label"), [("gpt", "gpt"), ("made-up", "other"), (None, "other")])
async def test_metrics_tell_only_of_models_that_a_deployment_serves(model: str | None, label: str):
    """The names in a file are anybody's to make up, and each value of a label lives until the process ends."""
    counted = Counted()
    telling = JobTelling(Events(NoEvents(), VirtualClock(), instance="tests"), counted, serves="gpt".__eq__)
    usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
    job = a_job().submitted().with_status(modelName=model, usage=usage).build()

    await telling.finished(job, Finish(Phase.FAILED, Reason.PROVIDER_ERROR, "no"))

    assert counted.models == [label, label]
