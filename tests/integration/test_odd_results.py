"""Results that a careless provider writes reach their owner, and the job says what is odd about them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.cluster import Cluster, poll
from support.diagnostics import Diagnostics
from support.emulator import chat_lines
from support.jobs import conditions, message
from support.shared_operator import SharedOperator, shared_operator
from support.world import World

MODEL = "gpt-4o-mini-batch"
OUTPUT = {"configMap": {"name": "answers"}}


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1", "--retry-scale", "0.1")
    with shared_operator(cluster, tmp_path_factory.mktemp("odd"), namespaces=20, flags=flags) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


@pytest.mark.parametrize(
    ("odd", "reason", "completed", "said"),
    [
        (("half_pair", "not_a_number", "nul", "deep", "text_status"), "Completed", 5, "5 requests answered"),
        (("cut",), "CompletedWithUnreadableResults", 4, "1 lines cannot be read"),
        (("null_id", "without_id", "foreign_id"), "CompletedWithUnmatchedResults", 5, "; 3 results cannot be matched"),
        (("foreign_id",), "CompletedWithUnmatchedResults", 5, "; 1 results cannot be matched"),
        (("twice", "float_usage", "reasoning_beside"), "Completed", 5, "1 lines repeat a request"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_odd_lines_take_nothing_from_the_others(world, account, odd, reason, completed, said):
    """Each is counted as what it is, and the output has every line as the provider wrote it."""
    oddities = {f"request-{number}": oddity for number, oddity in enumerate(odd)}
    openai = account("openai", provider="openai", odd_lines=oddities, reasoning_tokens=7)
    world.openai("openai", openai)
    world.file(lines=chat_lines(5, model=MODEL))
    world.job(output=OUTPUT)

    job = world.finished()

    assert conditions(job)["Complete"] == reason
    assert said in message(job, "Complete")
    assert job["status"]["requestCounts"] == {"total": 5, "completed": completed, "failed": 5 - completed}
    assert job["status"]["cost"]["source"] == "genai-prices"
    assert job["status"]["usage"]["reasoningTokens"] == 7 * completed
    assert len(world.output("answers")["output.jsonl"].splitlines()) == (6 if "twice" in odd else 5)


def test_an_answer_without_usage_makes_the_cost_unknown(world, account):
    """Never a sum that is silently too low."""
    openai = account("openai", provider="openai", odd_lines={"request-1": "without_usage"})
    world.openai("openai", openai)
    world.file(lines=chat_lines(3, model=MODEL))
    world.job(output=OUTPUT)

    status = world.finished()["status"]

    assert (status["cost"]["source"], status["cost"]["reason"]) == ("unknown", "UsageMissing")
    assert status["usage"]["requestsWithout"] == 1


def test_refused_requests_among_the_answers_are_pointed_to(world, account):
    """No message names an errors.jsonl that is not there."""
    openai = account("openai", provider="openai", fail_lines=["request-1"], failures_in_output=True)
    world.openai("openai", openai)
    world.file(lines=chat_lines(3, model=MODEL))
    world.job(output=OUTPUT)

    job = world.finished()

    assert conditions(job)["Complete"] == "CompletedWithFailures"
    assert "see why in output.jsonl" in message(job, "Complete")
    assert sorted(world.output("answers")) == ["output.jsonl", "summary.json"]


def test_a_provider_that_is_only_nearly_compatible_serves_a_job(world, account):
    """Ids that are paths, `{}` for no file, numbers as text, states in other words: one create, nothing left there."""
    careless = account("careless", provider="openai", careless=True)
    world.openai("careless", careless)
    world.file(lines=chat_lines(3, model=MODEL))
    names = [world.job(f"run-{at}", output={"configMap": {"name": f"answers-{at}"}}) for at in range(3)]

    jobs = [world.finished(name) for name in names]

    assert {conditions(job)["Complete"] for job in jobs} == {"Completed"}
    assert all(job["status"]["batchID"].startswith("batches/batch_") for job in jobs)
    assert all(job["status"]["requestCounts"]["completed"] == 3 for job in jobs)
    assert careless.calls().count("batches.create") == 3
    world.delete("BatchFile", "questions")
    assert poll(lambda: not careless.files(), 20)


@pytest.mark.parametrize("api_version", [None, "2025-04-01-preview"])
def test_azure_runs_lines_of_the_responses_api(world, account, api_version):
    """With either API the lines have `/v1/responses`, however they were written, and the create another endpoint."""
    azure = account("east", deployments={"mini-east": "gpt-4o-mini"})
    world.azure("east", azure, deployment="mini-east", api_version=api_version)
    url = "/openai/deployments/elsewhere/responses?api-version=2025-03-01-preview"
    body = {"model": MODEL, "input": "What is 6 times 7?"}
    lines = [{"custom_id": str(at), "method": "POST", "url": url, "body": body} for at in range(2)]
    world.file(lines="".join(json.dumps(line) + "\n" for line in lines))
    world.job(output=OUTPUT)

    job = world.finished()

    assert conditions(job)["Complete"] == "Completed"
    first = json.loads(world.output("answers")["output.jsonl"].splitlines()[0])
    assert first["response"]["body"]["object"] == "response"
    assert azure.batches()[0]["endpoint"] == "/chat/completions"


def test_what_azure_has_no_batches_for_goes_to_another_deployment(world, account):
    """Nothing is uploaded there; where no deployment has the endpoint, the file says which there are."""
    azure = account("east", deployments={"mini-east": "gpt-4o-mini"})
    world.azure("east", azure, deployment="mini-east")
    url = {"custom_id": "a", "method": "POST", "url": "/v1/moderations", "body": {"model": MODEL, "input": "x"}}
    world.file("alone", lines=json.dumps(url))
    world.cluster.wait_condition("BatchFile", "alone", world.namespace, "Stalled", timeout=20)

    world.openai("other", account("other", provider="openai"))
    world.file("both", lines=json.dumps(url))
    world.ready("BatchFile", "both")

    refused = world.get("BatchFile", "alone")["status"]["errors"]
    assert [(error["line"], error["code"]) for error in refused] == [(1, "unsupported_endpoint")]
    assert "/v1/responses" in refused[0]["message"]
    copies = {entry["name"]: entry for entry in world.get("BatchFile", "both")["status"]["deployments"]}
    assert (copies["east"]["state"], copies["east"]["reason"]) == ("Failed", "EndpointMismatch")
    assert copies["other"]["state"] == "Processed"
    assert azure.files() == []


def test_a_plan_without_batches_is_told_as_that(world, account):
    """The job goes to another deployment meanwhile, and nobody is sent to the Secret."""
    poor, rich = account("poor", provider="openai"), account("rich", provider="openai")
    world.openai("poor", poor, weight=100)
    world.openai("rich", rich)
    poor.fault("status", "batches.create", status=403, code="not_available_for_plan", times="always")
    world.file(lines=chat_lines(2, model=MODEL))
    world.job()

    job = world.finished()

    assert job["status"]["phase"] == "Succeeded"
    first = job["status"]["attempts"][0]
    assert (first["result"], first["deployment"]["name"]) == ("PermissionDenied", "poor")
    assert "not_available_for_plan" in first["reason"]
    assert "key" not in first["reason"].replace("the key is good", "")
    assert len(rich.batches()) == 1
