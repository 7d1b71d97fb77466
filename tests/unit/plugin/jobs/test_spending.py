"""Costs are added exactly, and what is not known is said."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from llmbatch.api import BatchJob
from llmbatch.plugin.commands.cost import By, data, table
from llmbatch.plugin.jobs.spending import GROUPS, by_group, ended_since, total
from llmbatch.plugin.terminal.printing import Look, lines
from support.builders import NOW, a_job


def priced(amount: str | None, *, model: str = "gpt", on: str = "team/east", **status: Any) -> BatchJob:
    """A job that has ended; without an amount its cost is not known."""
    cost = {"amount": amount, "source": "spec"} if amount else {"source": "unknown", "reason": "NoBatchPrice"}
    namespace, name = on.split("/")
    builder = a_job().finished("Succeeded").with_status(
        cost=cost, modelName=model, deployment={"namespace": namespace, "name": name},
        requestCounts={"total": 3, "completed": 2, "failed": 1}, usage={"inputTokens": 1000, "outputTokens": 50},
    )  # fmt: skip
    return builder.with_status(**status).build()


RUNNING = a_job(targetModelName="gpt").with_status(phase="InProgress").build()


def test_amounts_are_added_without_rounding():
    """Ten times a tenth of a cent is a cent, to the last digit."""
    spent = by_group([priced("0.000001")] * 3 + [priced("12345678.999999")], GROUPS["model"])

    assert str(spent["gpt"].amount) == "12345679.000002"


def test_unknown_costs_are_counted_by_reason_and_never_a_nought():
    """A group of nothing but unknown costs has no amount at all."""
    spent = by_group([priced(None), priced(None), priced("1", model="other")], GROUPS["model"])

    assert spent["gpt"].unknown == Counter(NoBatchPrice=2)
    assert spent["gpt"].data()["amount"] is None
    assert total(spent.values()).data()["amount"] == "1"
    assert [line.split()[-2:] for line in lines(table(By.MODEL, spent, total(spent.values())), Look())[1:]] == [
        ["1.000000", "-"], ["unknown", "2"], ["1.000000", "2"],
    ]  # fmt: skip


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1 dollar", "1e999999", "-1", "1_0", "١"])
def test_an_amount_that_is_no_number_is_unknown(amount: str):
    """A status that somebody wrote by hand spoils no sum."""
    spent = by_group([priced(amount), priced("1")], GROUPS["model"])["gpt"]

    assert (str(spent.amount), spent.unknown.total()) == ("1", 1)


def test_a_job_without_results_costs_nothing_yet():
    """A running job is counted, and is neither priced nor unknown."""
    spent = by_group([RUNNING], GROUPS["model"])["gpt"]

    assert (spent.jobs, spent.unpriced, spent.priced, spent.unknown.total()) == (1, 1, 0, 0)
    assert spent.data()["amount"] is None


@pytest.mark.parametrize(
    ("by", "names"), [("model", ["b", "a"]), ("deployment", ["x/1", "x/2"]), ("namespace", ["team"])]
)
def test_groups_come_with_the_dearest_first(by: str, names: list[str]):
    """The group that matters most is at the top."""
    jobs = [priced("1", model="a", on="x/2"), priced("2", model="b", on="x/1")]

    assert list(by_group(jobs, GROUPS[by])) == names


def test_since_counts_what_ended_then_or_later():
    """A job that is not finished has not ended since any time."""
    old = a_job().finished("Succeeded", ago=timedelta(days=8)).build()

    assert [ended_since(job, NOW - timedelta(days=7)) for job in (old, priced("1"), RUNNING)] == [False, True, False]
    assert ended_since(RUNNING, None)


def test_programs_get_every_sum():
    """Requests, tokens and amounts are there for each group and in all."""
    spent = by_group([priced("0.5"), priced("0.25"), RUNNING], GROUPS["model"])
    told = data(By.MODEL, NOW, spent, total(spent.values()))

    assert told["items"] == [{"model": "gpt", **told["total"]}]
    assert told["since"] == "2026-03-01T12:00:00Z"
    assert told["total"] == {
        "jobs": 3,
        "jobsWithoutResults": 1,
        "amount": "0.75",
        "currency": "USD",
        "unknownCosts": {},
        "requests": {"completed": 4, "failed": 2},
        "usage": {
            "inputTokens": 2000, "cachedInputTokens": 0, "outputTokens": 100, "reasoningTokens": 0, "totalTokens": 0,
        },
    }  # fmt: skip
