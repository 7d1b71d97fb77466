"""Deleting jobs, and namespaces with everything in them."""

from __future__ import annotations

import pytest

from support.cluster import poll
from support.emulator import chat_lines
from support.jobs import status

MODEL = "gpt-4o-mini-batch"
OUTPUT = {"configMap": {"name": "answers"}}
FLAGS = ("--poll-interval", "0.3", "--probe-interval", "1")
A_MINUTE = 60.0


@pytest.fixture
def openai(account):
    """An OpenAI account on which cancelling lasts longer than any of these tests."""
    return account("openai", provider="openai", pace={"in_progress_seconds": 600.0, "cancelling_seconds": 600.0})


def make_running(world, openai) -> str:
    """A deployment, a file and a job whose batch runs; answers the batch's id."""
    world.openai("openai", openai)
    world.file()
    world.job(output=OUTPUT)
    return world.running(timeout=60)["status"]["batchID"]


def test_a_running_job_that_is_deleted_goes_once_its_cancel_is_accepted(world, openai, operator):
    """Deletion needs the cancel accepted, not ended: the job is gone while the batch is still cancelling."""
    operator(world.namespace, flags=FLAGS)
    batch = make_running(world, openai)

    world.delete("BatchJob", "run")
    world.gone("BatchJob", "run", timeout=60)

    assert openai.batch(batch)["status"] == "cancelling"
    assert openai.calls().count("batches.cancel") == 1


def test_a_running_job_that_retains_leaves_its_batch_alone(world, openai, operator):
    """deletionPolicy Retain: the batch runs on and nothing is deleted."""
    operator(world.namespace, flags=FLAGS)
    batch = make_running(world, openai)
    world.cluster.patch("BatchJob", "run", world.namespace, {"spec": {"deletionPolicy": "Retain"}})

    world.delete("BatchJob", "run")
    world.gone("BatchJob", "run", timeout=60)

    assert openai.batch(batch)["status"] == "in_progress"
    assert openai.calls().count("batches.cancel") == 0
    assert openai.calls().count("files.delete") == 0


def test_a_job_that_is_deleted_takes_the_results_at_the_provider_along(world, account, operator):
    """Results that were never collected (no output) are deleted with the job; the file's copy stays for other jobs."""
    openai = account("openai", provider="openai", fail_lines=["request-1"])
    operator(world.namespace, flags=FLAGS)
    world.openai("openai", openai)
    world.file()
    world.job()
    world.finished()
    assert len(openai.files(purpose="batch_output")) == 2

    world.delete("BatchJob", "run")
    world.gone("BatchJob", "run", timeout=60)

    assert openai.files(purpose="batch_output") == []
    assert len(openai.files(purpose="batch")) == 1


def test_a_job_that_never_had_a_batch_goes_at_once(world, operator):
    """Nothing at a provider, no finalizer, nothing to wait for."""
    operator(world.namespace, flags=FLAGS)
    world.job()
    waiting = world.until("BatchJob", "run", lambda job: status(job).get("phase") == "Pending", timeout=60)
    assert "finalizers" not in waiting["metadata"]

    world.delete("BatchJob", "run")

    world.gone("BatchJob", "run", timeout=60)


def test_the_deletion_of_a_job_waits_for_a_provider_that_is_away(world, openai, operator):
    """While the provider fails the job stays; when it answers again the batch is cancelled and the job goes."""
    operator(world.namespace, flags=FLAGS)
    batch = make_running(world, openai)
    openai.fault("status", "batches.cancel", status=503, times=2)

    world.delete("BatchJob", "run")
    world.gone("BatchJob", "run", timeout=60)

    assert openai.batch(batch)["status"] == "cancelling"
    assert openai.faults() == []


def test_a_namespace_goes_within_a_minute_with_everything_in_it(world, openai, operator, cluster):
    """Deployment, Secret, file, running and finished jobs: all go by themselves, and the batch is cancelled."""
    operator(world.namespace, flags=FLAGS)
    batch = make_running(world, openai)
    world.job("waiting", file="missing")

    cluster.delete("Namespace", world.namespace)
    cluster.wait_gone("Namespace", world.namespace, timeout=A_MINUTE)

    assert openai.batch(batch)["status"] == "cancelling"
    assert openai.files() == []


def test_a_namespace_whose_secret_went_first_goes_within_a_minute(world, openai, operator, cluster):
    """The last key that worked serves for the clean-up."""
    operator(world.namespace, flags=FLAGS)
    batch = make_running(world, openai)

    world.delete("Secret", "key-openai")
    cluster.delete("Namespace", world.namespace)
    cluster.wait_gone("Namespace", world.namespace, timeout=A_MINUTE)

    assert openai.batch(batch)["status"] == "cancelling"
    assert openai.files() == []


def test_a_namespace_whose_key_nobody_knows_goes_within_a_minute_and_says_what_is_left(
    world, openai, operator, cluster
):
    """The Secret is gone and the operator was restarted: the clean-up is given up, told in log and metric."""
    first = operator(world.namespace, flags=FLAGS)
    batch = make_running(world, openai)
    first.kill()
    world.delete("Secret", "key-openai")
    second = operator(world.namespace, flags=FLAGS)

    cluster.delete("Namespace", world.namespace)
    cluster.wait_gone("Namespace", world.namespace, timeout=A_MINUTE)

    assert openai.batch(batch)["status"] == "in_progress"
    assert poll(lambda: second.metric("llmbatch_cleanups_abandoned_total") >= 2, 10)
    told = [record["message"] for record in second.logs() if "given up" in record["message"]]
    assert any("BatchJob" in text for text in told)
    assert any("BatchFile" in text for text in told)


def test_a_job_with_partial_results_is_deleted_with_them(world, account, operator):
    """A cancelled job whose results stayed at the provider takes them along."""
    openai = account("openai", provider="openai", pace={"in_progress_seconds": 5.0})
    operator(world.namespace, flags=FLAGS)
    world.openai("openai", openai)
    world.file(lines=chat_lines(50, model=MODEL))
    world.job()
    world.until("BatchJob", "run", lambda job: status(job).get("requestCounts", {}).get("completed"), timeout=60)
    world.cluster.patch("BatchJob", "run", world.namespace, {"spec": {"cancel": True}})
    world.finished()
    assert openai.files(purpose="batch_output")

    world.delete("BatchJob", "run")
    world.gone("BatchJob", "run", timeout=60)

    assert openai.files(purpose="batch_output") == []
