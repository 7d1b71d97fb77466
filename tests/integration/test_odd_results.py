"""Results that a careless provider writes reach their owner, and the job says what is odd about them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.cluster import Cluster
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
