"""Headroom in the index: who takes it up, and who is woken when it changes."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from llmbatch.api import BatchFile, BatchJob
from llmbatch.engine.queue import Key
from llmbatch.reconcile.index.index import WOKEN_BY_HEADROOM, Index, deployment_key

START = datetime(2026, 1, 1, tzinfo=UTC)
EAST = "default/east"
REFERENCE = {"namespace": "default", "name": "east"}
RECORD = {"llmbatch.dev/deployment": EAST, "llmbatch.dev/batch-id": "batch_1"}
_versions = itertools.count(1)


def metadata(name: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """The metadata of a stored object, newer than all before."""
    return {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "resourceVersion": str(next(_versions)),
        "creationTimestamp": START.isoformat(),
        "generation": 1,
        "annotations": annotations or {},
    }


def a_job(name: str = "run", *, annotations: dict[str, str] | None = None, **status: Any) -> BatchJob:
    """A job of the file `questions`."""
    spec = {"inputFileRef": {"name": "questions"}}
    return BatchJob.model_validate({"metadata": metadata(name, annotations), "spec": spec, "status": status})


def key(name: str) -> Key:
    """The key of a job."""
    return Key("BatchJob", "default", name)


@pytest.fixture
def index() -> Index:
    """An index with the file, which is estimated at 100 tokens."""
    made = Index()
    spec = {"targetModelNames": ["m"], "source": {"inline": "x"}}
    made.put(
        BatchFile.model_validate(
            {"metadata": metadata("questions"), "spec": spec, "status": {"estimatedInputTokens": 100}}
        )
    )
    return made


def test_a_batch_takes_up_room_until_its_job_is_finished(index):
    """A job with a batch counts with its tokens; finished, it counts no more."""
    index.put(a_job(annotations=RECORD))
    assert index.load(EAST) == (1, 100)

    index.put(a_job(annotations=RECORD, phase="Succeeded"))

    assert index.load(EAST) == (0, 0)


def test_a_route_alone_takes_up_no_room(index):
    """Anybody can write a route into an annotation; without a batch or a pending create it counts for nothing."""
    index.put(a_job(annotations={"llmbatch.dev/deployment": EAST}))

    assert index.load(EAST) == (0, 0)


def test_a_pending_create_takes_up_room(index):
    """A create that is under way counts, as its batch may exist."""
    pending = '{"attempt":1,"deployment":"default/east","time":"2026-01-01T00:00:00Z"}'
    index.put(a_job(annotations={"llmbatch.dev/deployment": EAST, "llmbatch.dev/create-pending": pending}))

    assert index.load(EAST) == (1, 100)


@pytest.mark.parametrize("phase", ["Submitting", "InProgress"])
def test_status_outranks_annotations_that_were_dropped(index, phase):
    """A job whose annotations a replace dropped still counts where status says that its batch is or may be."""
    batch = {"batchID": "batch_1"} if phase == "InProgress" else {}
    shard = {"index": 0, "deployment": REFERENCE, "attempt": 1, "phase": phase, **batch}
    index.put(a_job(phase=phase, shards=[shard]))

    assert index.load(EAST) == (1, 100)


def test_a_reservation_counts_until_the_route_is_written(index):
    """Room is taken up from the choice on, once: the reservation goes when the route is seen."""
    index.put(a_job())
    index.reserve(key("run"), EAST, 100)
    assert index.load(EAST) == (1, 100)

    index.put(a_job(annotations=RECORD))

    assert index.load(EAST) == (1, 100)


def test_a_reservation_that_came_to_nothing_is_given_back(index):
    """A route that could not be written takes up nothing."""
    index.put(a_job())
    index.reserve(key("run"), EAST, 100)

    index.release(key("run"))

    assert index.load(EAST) == (0, 0)


def test_room_that_becomes_free_wakes_a_few_of_those_that_wait(index):
    """When a batch ends, its deployment and some waiting jobs are woken, not all of them."""
    index.put(a_job(annotations=RECORD))
    for at in range(10):
        index.put(a_job(f"waiting-{at}"))

    woken = index.put(a_job(annotations=RECORD, phase="Succeeded"))

    assert deployment_key(EAST) in woken
    assert {found for found in woken if found.kind == "BatchJob"} == {
        key(f"waiting-{at}") for at in range(WOKEN_BY_HEADROOM)
    }


def jobs_of(keys: set[Key]) -> set[str]:
    """The names of the jobs among some keys."""
    return {found.name for found in keys if found.kind == "BatchJob"}


def test_those_that_wait_are_woken_in_turn(index):
    """Jobs that cannot use what becomes free do not stand in the way of the others: each end wakes other ones."""
    for at in range(2 * WOKEN_BY_HEADROOM):
        index.put(a_job(f"waiting-{at}"))
    woken = []
    for name in ("one", "two"):
        index.put(a_job(name, annotations=RECORD))
        woken.append(jobs_of(index.put(a_job(name, annotations=RECORD, phase="Succeeded"))))

    assert not woken[0] & woken[1]
    assert len(woken[0] | woken[1]) == 2 * WOKEN_BY_HEADROOM


def test_a_job_that_takes_up_room_wakes_the_next_one(index):
    """There may be room for more than those that were woken when it became free."""
    for name in ("one", "two", "three"):
        index.put(a_job(name))

    woken = index.put(a_job("one", annotations=RECORD))

    assert jobs_of(woken) == {"two"}


def test_the_first_batch_wakes_its_deployment(index):
    """A deployment that nothing ran on begins to count when something does."""
    index.put(a_job())

    assert index.put(a_job(annotations=RECORD)) >= {deployment_key(EAST)}
