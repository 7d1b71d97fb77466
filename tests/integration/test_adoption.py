"""Adoption: a batch that outlived its job, or the record of it, is found by its tag and not made again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cluster import poll
from support.operator_process import OperatorProcess
from support.world import World

FLAGS = ("--poll-interval", "0.5", "--probe-interval", "1", "--create-timeout", "2", "--create-grace", "0")
PATIENCE = 60.0


@pytest.fixture
def openai(account):
    """An account whose batches stay in progress until they are released."""
    made = account("openai", provider="openai")
    made.hold()
    return made


@pytest.fixture
def start(world, operator) -> Callable[[], OperatorProcess]:
    """Starts an operator for the namespace."""
    return lambda: operator(world.namespace, flags=FLAGS)


@pytest.fixture
def ready(world, openai) -> World:
    """A namespace with a deployment and a file."""
    world.openai("east", openai)
    world.file()
    return world


def forget_all(world: World, name: str) -> None:
    """Take annotations and status from a job, as a restore from a backup of its manifest would."""
    meta = world.get("BatchJob", name)["metadata"]
    world.cluster.patch(
        "BatchJob", name, world.namespace, {"metadata": {"annotations": dict.fromkeys(meta["annotations"])}}
    )
    world.cluster.patch("BatchJob", name, world.namespace, [{"op": "remove", "path": "/status"}], subresource="status")


def test_a_job_that_lost_its_record_finds_its_batch(ready, openai, start):
    """A job without annotations and status finds the batch with its tag when an operator starts."""
    process = start()
    ready.job()
    batch_id = ready.running(timeout=PATIENCE)["status"]["batchID"]
    process.terminate()
    forget_all(ready, "run")

    start()

    assert ready.running(timeout=PATIENCE)["status"]["batchID"] == batch_id
    openai.release()
    assert ready.finished()["status"]["phase"] == "Succeeded"
    assert len(openai.batches()) == 1


def test_a_restored_job_takes_the_batch_that_its_annotations_name(ready, openai, start):
    """A job that is restored under a new UID goes on with the batch of the old one, which lives no more."""
    process = start()
    ready.job()
    old = ready.running(timeout=PATIENCE)
    process.terminate()
    ready.cluster.patch("BatchJob", "run", ready.namespace, {"metadata": {"finalizers": None}})
    ready.delete("BatchJob", "run")
    ready.gone("BatchJob", "run")
    ready.job(metadata={"annotations": old["metadata"]["annotations"]})

    start()

    assert ready.running(timeout=PATIENCE)["status"]["batchID"] == old["status"]["batchID"]
    openai.release()
    assert ready.finished()["status"]["phase"] == "Succeeded"
    assert len(openai.batches()) == 1


@pytest.mark.parametrize("restarted", [False, True], ids=["same operator", "another operator"])
@pytest.mark.parametrize("finished", [False, True], ids=["running", "finished"])
def test_a_retained_batch_is_adopted_by_the_next_job_of_its_name(ready, openai, start, finished, restarted):
    """With deletionPolicy Retain the batch stays, and a new job of that namespace and name goes on with it."""
    process = start()
    ready.job(deletionPolicy="Retain")
    batch_id = ready.running(timeout=PATIENCE)["status"]["batchID"]
    if finished:
        openai.release()
        ready.finished()
    ready.delete("BatchJob", "run")
    ready.gone("BatchJob", "run", timeout=PATIENCE)
    if restarted:
        process.terminate()
        start()

    ready.job()

    assert ready.running(timeout=PATIENCE)["status"]["batchID"] == batch_id
    openai.release()
    assert ready.finished()["status"]["phase"] == "Succeeded"
    assert len(openai.batches()) == 1
    assert openai.calls().count("batches.cancel") == 0


@pytest.mark.parametrize("restarted", [False, True], ids=["same operator", "another operator"])
@pytest.mark.parametrize("finished", [False, True], ids=["running", "finished"])
def test_a_job_that_was_deleted_leaves_nothing_to_the_next_one_of_its_name(ready, openai, start, finished, restarted):
    """With deletionPolicy Delete a new job of the same name gets a batch of its own."""
    process = start()
    ready.job(deletionPolicy="Delete")
    first = ready.running(timeout=PATIENCE)["status"]["batchID"]
    if finished:
        openai.release()
        ready.finished()
    ready.delete("BatchJob", "run")
    ready.gone("BatchJob", "run", timeout=PATIENCE)
    if restarted:
        process.terminate()
        start()

    ready.job()

    second = ready.running(timeout=PATIENCE)["status"]["batchID"]
    assert second != first
    openai.release()
    assert ready.finished()["status"]["phase"] == "Succeeded"
    assert poll(lambda: openai.batch(first)["status"] in ("completed" if finished else "cancelled",), PATIENCE)
