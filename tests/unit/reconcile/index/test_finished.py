"""A job that has ended is known without being read whole, as if it had been."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llmbatch.api import BatchJob
from llmbatch.engine.queue import Key
from llmbatch.reconcile.index.index import Index
from llmbatch.reconcile.index.projections import finished_job

KEY = Key("BatchJob", "team", "run")
EAST = {"namespace": "team", "name": "east"}


def a_body(*, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    """A job that has succeeded, as the API server writes it."""
    return {
        "metadata": {
            "name": KEY.name,
            "namespace": KEY.namespace,
            "uid": "uid-1",
            "resourceVersion": "7",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["llmbatch.dev/finalizer"],
            "annotations": {"llmbatch.dev/deployment": "team/east", "llmbatch.dev/batch-id": "batch_1"},
            **meta,
        },
        "spec": {"inputFileRef": {"name": "questions"}, **(spec or {})},
        "status": {
            "observedGeneration": 1,
            "phase": "Succeeded",
            "phaseTime": "2026-01-01T01:00:00Z",
            "completionTime": "2026-01-01T01:00:00Z",
            "modelName": "gpt",
            "shards": [{"index": 0, "deployment": EAST, "batchID": "batch_1", "phase": "Succeeded"}],
            **(status or {}),
        },
    }


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Cancelled", "Expired"])
def test_it_is_what_reading_it_whole_makes_of_it(phase: str):
    """The two ways lead to the same projection."""
    body, read = a_body(status={"phase": phase}), Index()
    read.put(BatchJob.model_validate(body))

    found = finished_job(KEY, body)

    assert found is not None
    assert found.job == read.jobs[KEY]
    assert (found.job.since, found.job.reason) == (read.jobs[KEY].since, read.jobs[KEY].reason)
    assert found.expiry is None


def test_its_expiry_is_known():
    """A time to live counts from the end."""
    found = finished_job(KEY, a_body(spec={"ttlSecondsAfterFinished": 60}))

    assert found is not None
    assert found.expiry == datetime(2026, 1, 1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "body",
    [
        a_body(status={"phase": "InProgress"}),
        a_body(status={"observedGeneration": 0}),
        a_body(deletionTimestamp="2026-01-02T00:00:00Z"),
        a_body(finalizers=[]),
        a_body(annotations={}),
        a_body(annotations={"llmbatch.dev/deployment": "team/west", "llmbatch.dev/batch-id": "batch_1"}),
        a_body(
            annotations={
                "llmbatch.dev/deployment": "team/east",
                "llmbatch.dev/batch-id": "batch_1",
                "llmbatch.dev/create-pending": "{}",
            }
        ),
        a_body(status={"shards": [{"index": 0}, {"index": 1}]}),
        a_body(status={"shards": "none"}),
        a_body(status={"completionTime": "never"}, spec={"ttlSecondsAfterFinished": 60}),
        {"metadata": {}, "spec": {}, "status": {"phase": "Succeeded"}},
    ],
    ids=[
        "goes on", "another generation", "is being deleted", "lost its finalizer", "lost its record", "another route",
        "a create is pending", "two shards", "no shards at all", "no time", "nothing of it",
    ],
)  # fmt: skip
def test_whatever_is_unusual_is_read_whole(body: dict[str, Any]):
    """There may be something to repair, to clean up or to complain of."""
    assert finished_job(KEY, body) is None
