"""How jobs end, and what their conditions, counts and outputs then say."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.cluster import Cluster
from support.diagnostics import Diagnostics
from support.emulator import chat_lines
from support.jobs import conditions, json_lines, message, status
from support.shared_operator import SharedOperator, shared_operator
from support.world import World

OUTPUT = {"configMap": {"name": "answers"}}


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1", "--retry-scale", "0.1")
    with shared_operator(cluster, tmp_path_factory.mktemp("outcomes"), namespaces=20, flags=flags) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


def test_a_job_of_answered_requests_is_complete_and_finished(world, account):
    """All answered: Complete and Finished, nothing that says Stalled or Reconciling, and kubectl can wait for it."""
    world.openai("openai", account("openai", provider="openai"))
    world.file(lines=chat_lines(4, model="gpt-4o-mini-batch"))
    world.job(output=OUTPUT)

    world.cluster.kubectl("wait", "--for=condition=Finished", "batchjob/run", "-n", world.namespace, "--timeout", "60s")

    job = world.get("BatchJob", "run")
    assert conditions(job) == {
        "Routed": "Routed",
        "Submitted": "Submitted",
        "Complete": "Completed",
        "Finished": "Completed",
    }
    assert job["status"]["phase"] == "Succeeded"
    assert job["status"]["observedGeneration"] == job["metadata"]["generation"]
    assert job["status"]["startTime"] <= job["status"]["completionTime"]
    assert job["status"]["shards"][0]["batchID"] == job["status"]["batchID"]
    header, row = world.cluster.kubectl("get", "bj", "run", "-n", world.namespace).stdout.splitlines()
    assert header.split() == ["NAME", "MODEL", "DEPLOYMENT", "PHASE", "DONE/TOTAL", "COST", "AGE"]
    cost = job["status"]["cost"]["amount"]
    assert row.split()[:-1] == ["run", "gpt-4o-mini-batch", "openai", "Succeeded", "4/4", cost]


def test_a_job_with_some_failed_requests_is_complete_and_says_so(world, account):
    """Some failed: Complete with the reason CompletedWithFailures; the failed ones are in errors.jsonl."""
    openai = account("openai", provider="openai", fail_lines=["request-1", "request-3"])
    world.openai("openai", openai)
    world.file(lines=chat_lines(5, model="gpt-4o-mini-batch"))
    world.job(output=OUTPUT)

    job = world.finished()

    assert conditions(job)["Complete"] == conditions(job)["Finished"] == "CompletedWithFailures"
    assert "Stalled" not in conditions(job)
    assert job["status"]["requestCounts"] == {"total": 5, "completed": 3, "failed": 2}
    output = world.output("answers")
    assert {line["custom_id"] for line in json_lines(output["errors.jsonl"])} == {"request-1", "request-3"}
    assert {line["custom_id"] for line in json_lines(output["output.jsonl"])} == {"request-0", "request-2", "request-4"}


@pytest.mark.parametrize("style", ["response", "error"])
def test_a_job_whose_requests_all_failed_is_failed_with_its_error_file(world, account, style):
    """All failed: Failed and Stalled with the reason AllRequestsFailed, and the error file is what the user gets."""
    openai = account("openai", provider="openai", fail_lines="all", fail_style=style)
    world.openai("openai", openai)
    world.file(lines=chat_lines(3, model="gpt-4o-mini-batch"))
    world.job(output=OUTPUT)

    job = world.finished()

    assert {type_: conditions(job).get(type_) for type_ in ("Complete", "Failed", "Finished", "Stalled")} == {
        "Complete": None,
        "Failed": "AllRequestsFailed",
        "Finished": "AllRequestsFailed",
        "Stalled": "AllRequestsFailed",
    }
    assert job["status"]["phase"] == "Failed"
    assert job["status"]["requestCounts"] == {"total": 3, "completed": 0, "failed": 3}
    assert sorted(world.output("answers")) == ["errors.jsonl", "summary.json"]
    assert len(json_lines(world.output("answers")["errors.jsonl"])) == 3
    assert len(openai.batches()) == 1


def test_a_batch_that_failed_for_its_input_ends_the_job_and_says_what_to_do(world, account):
    """Bad input is terminal: one batch, no retry, and a message with the code and the line but no content."""
    openai = account("openai", provider="openai")
    openai.hold("validating")
    world.openai("openai", openai)
    world.file()
    world.job(output=OUTPUT)
    batch = world.running()["status"]["batchID"]
    openai.advance(batch, "failed", code="invalid_json_line", message="MARKER of the provider")

    job = world.finished()

    assert conditions(job)["Failed"] == conditions(job)["Stalled"] == "BatchFailed"
    assert "invalid_json_line" in message(job, "Failed")
    assert "new BatchFile" in message(job, "Failed")
    assert "MARKER" not in json.dumps(job)
    assert len(openai.batches()) == 1


def test_batches_that_the_service_failed_are_made_again_up_to_the_backoff_limit(world, account):
    """The service's faults are counted: one more batch than backoffLimit, each in attempts, then the job is Failed."""
    openai = account("openai", provider="openai")
    openai.hold("validating")
    world.openai("openai", openai)
    world.file()
    world.job(backoffLimit=1)
    first = world.running()["status"]["batchID"]
    openai.advance(first, "failed")
    second = world.until("BatchJob", "run", lambda job: status(job).get("batchID", first) != first, timeout=60)
    openai.advance(second["status"]["batchID"], "failed")

    job = world.finished()

    assert conditions(job)["Failed"] == "BackoffLimitExceeded"
    assert [attempt["number"] for attempt in job["status"]["attempts"]][:1] == [1]
    assert job["status"]["attempts"][0]["batchID"] == first
    assert job["status"]["attempts"][0]["result"] == "BatchFailed"
    assert [batch["metadata"]["llmbatch-attempt"] for batch in openai.batches()] == ["1", "2"]


def test_an_expired_batch_brings_home_and_prices_what_was_answered(world, account):
    """Expiry: phase Expired, Failed and Stalled; answers, batch_expired lines, usage and cost are there."""
    openai = account("openai", provider="openai", expire=True, completed_fraction=0.5)
    world.openai("openai", openai)
    world.file(lines=chat_lines(4, model="gpt-4o-mini-batch"))
    world.job(output=OUTPUT)

    job = world.finished()

    assert job["status"]["phase"] == "Expired"
    assert conditions(job)["Failed"] == conditions(job)["Finished"] == conditions(job)["Stalled"] == "Expired"
    assert job["status"]["requestCounts"] == {"total": 4, "completed": 2, "failed": 2}
    output = world.output("answers")
    assert len(json_lines(output["output.jsonl"])) == 2
    assert {line["error"]["code"] for line in json_lines(output["errors.jsonl"])} == {"batch_expired"}
    assert job["status"]["usage"]["totalTokens"] == sum(
        line["response"]["body"]["usage"]["total_tokens"] for line in json_lines(output["output.jsonl"])
    )
    assert float(job["status"]["cost"]["amount"]) > 0


def test_a_cancelled_batch_brings_home_and_prices_what_was_answered(world, account):
    """spec.cancel: the batch is cancelled, its partial output collected; Failed for Cancelled, but not Stalled."""
    openai = account("openai", provider="openai", pace={"in_progress_seconds": 4.0, "cancelling_seconds": 0.5})
    world.openai("openai", openai)
    world.file(lines=chat_lines(40, model="gpt-4o-mini-batch"))
    world.job(output=OUTPUT)
    world.until("BatchJob", "run", lambda job: status(job).get("requestCounts", {}).get("completed"), timeout=60)
    world.cluster.patch("BatchJob", "run", world.namespace, {"spec": {"cancel": True}})

    job = world.finished()

    assert job["status"]["phase"] == "Cancelled"
    assert conditions(job)["Failed"] == conditions(job)["Finished"] == "Cancelled"
    assert "Stalled" not in conditions(job)
    counts = job["status"]["requestCounts"]
    assert 0 < counts["completed"] < 40
    assert counts["completed"] + counts["failed"] == 40
    assert len(json_lines(world.output("answers")["output.jsonl"])) == counts["completed"]
    assert float(job["status"]["cost"]["amount"]) > 0
    assert openai.calls().count("batches.cancel") == 1


def test_a_job_that_is_cancelled_before_its_batch_never_has_one(world, account):
    """spec.cancel before submission: Cancelled at once, and nothing was made at the provider."""
    openai = account("openai", provider="openai")
    world.job(cancel=True)

    job = world.finished()
    world.openai("openai", openai)
    world.file()
    world.ready("BatchFile", "questions", timeout=60)

    assert job["status"]["phase"] == "Cancelled"
    assert conditions(job) == {"Failed": "Cancelled", "Finished": "Cancelled"}
    assert openai.batches() == []


@pytest.mark.parametrize("api_version", ["2025-04-01-preview", None])
def test_a_job_on_azure_is_not_misled_by_azures_ways(world, account, api_version):
    """Capitalised states, "" and null, an empty error file, no order, a skewed clock, an early 404: no matter."""
    azure = account(
        "east",
        deployments={"mini-east": "gpt-4o-mini"},
        capitalised_states=True,
        nulls_as_empty_strings=True,
        empty_error_file=True,
        list_order="shuffled",
        clock_skew_seconds=-90.0,
        not_found_after_create_seconds=1.5,
        pace={"file_processing_seconds": 0.5, "in_progress_seconds": 1.0},
    )
    azure.foreign_batches(30)
    world.azure("east", azure, deployment="mini-east", api_version=api_version)
    world.file(lines=chat_lines(3, model="gpt-4o-mini-batch"))
    world.job(output=OUTPUT)

    job = world.finished()

    assert conditions(job)["Complete"] == "Completed"
    assert job["status"]["requestCounts"] == {"total": 3, "completed": 3, "failed": 0}
    assert sorted(world.output("answers")) == ["output.jsonl", "summary.json"]
    assert len(azure.batches()) == 1


def test_a_cancel_that_lasts_is_waited_for(world, account):
    """Azure's `cancelling` may last: the job says Cancelling meanwhile, and ends with the batch."""
    pace = {"in_progress_seconds": 600.0}
    azure = account("east", deployments={"mini-east": "gpt-4o-mini"}, capitalised_states=True, pace=pace)
    azure.hold("cancelling")
    world.azure("east", azure, deployment="mini-east")
    world.file()
    world.job(output=OUTPUT)
    world.running(timeout=60)
    world.cluster.patch("BatchJob", "run", world.namespace, {"spec": {"cancel": True}})

    waiting = world.until("BatchJob", "run", lambda job: job["status"]["phase"] == "Cancelling", timeout=60)
    assert conditions(waiting)["Reconciling"] == "Cancelling"
    azure.release()

    assert world.finished()["status"]["phase"] == "Cancelled"
    assert azure.calls().count("batches.cancel") == 1
