"""Refusals for want of room and failures of the service: which of them count, and where the job goes on."""

from __future__ import annotations

from itertools import pairwise

import pytest

from support.cluster import Object, condition
from support.world import World

FLAGS = ("--poll-interval", "0.5", "--probe-interval", "1", "--retry-scale", "0.01")
PATIENCE = 60.0
NO_ROOM = {"enqueued_limit": 0}
ROOM = {"enqueued_limit": 1_000_000}


def two_deployments(world: World, account, operator, **first) -> tuple:
    """A deployment that every job tries first, on an account that behaves like this, and another one."""
    busy, idle = account("busy", provider="openai", **first), account("idle", provider="openai")
    operator(world.namespace, flags=FLAGS)
    world.openai("busy", busy, weight=1000)
    world.openai("idle", idle)
    world.file()
    world.cluster.wait_condition("BatchFile", "questions", world.namespace, "Uploaded", timeout=PATIENCE)
    return busy, idle


def moved(job: Object, result: str) -> None:
    """Assert that the job went from the busy deployment to the idle one, and that this was not counted."""
    assert job["status"]["phase"] == "Succeeded"
    assert job["status"]["deployment"]["name"] == "idle"
    assert [(entry["deployment"]["name"], entry["result"]) for entry in job["status"]["attempts"]] == [("busy", result)]
    assert job["status"]["shards"][0].get("failures", 0) == 0


def test_a_create_that_is_limited_is_not_repeated_before_the_provider_allows_it(world, account, operator):
    """A create that is answered with 429 is made again when Retry-After is over, and not before."""
    openai = account("openai", provider="openai")
    operator(world.namespace, flags=FLAGS)
    world.openai("east", openai)
    world.file()
    world.ready("BatchFile", "questions", timeout=PATIENCE)
    openai.fault("rate_limit", "batches.create", retry_after=3, times=2)
    world.job(backoffLimit=0)

    job = world.finished(timeout=PATIENCE)

    assert job["status"]["phase"] == "Succeeded"
    creates = openai.calls(operation="batches.create").log
    assert [call.status for call in creates] == [429, 429, 200]
    assert all(later.time - call.time >= 3 for call, later in pairwise(creates))


def test_a_job_whose_create_is_limited_goes_elsewhere_at_once(world, account, operator):
    """While one account asks to wait an hour, jobs run on another, and the first is not asked again."""
    busy, idle = two_deployments(world, account, operator)
    busy.fault("rate_limit", "batches.create", retry_after=3600, times="always")
    world.job(backoffLimit=0)
    moved(world.finished(timeout=PATIENCE), "RateLimited")

    world.job("next", backoffLimit=0)

    moved(world.finished("next", timeout=PATIENCE), "RateLimited")
    assert busy.calls().count("batches.create") == 1
    assert len(idle.batches()) == 2


@pytest.mark.parametrize("status", [400, 429])
def test_a_job_that_an_account_has_no_tokens_for_goes_elsewhere(world, account, operator, status):
    """A create that is refused for the enqueued-token limit, in either form, is made on another deployment."""
    busy, idle = two_deployments(
        world, account, operator, token_limit={**NO_ROOM, "mode": "create_429", "status": status}
    )

    world.job(backoffLimit=0)

    moved(world.finished(timeout=PATIENCE), "QuotaExceeded")
    assert busy.batches() == []
    assert len(idle.batches()) == 1


def test_a_batch_that_fails_for_its_token_limit_goes_on_elsewhere(world, account, operator):
    """A batch that was taken and then failed for the token limit is followed by one on another deployment."""
    busy, idle = two_deployments(world, account, operator, token_limit={**NO_ROOM, "mode": "batch_failed"})

    world.job(backoffLimit=0)

    moved(world.finished(timeout=PATIENCE), "QuotaExceeded")
    assert [batch["status"] for batch in busy.batches()] == ["failed"]
    assert [batch["metadata"]["llmbatch-attempt"] for batch in idle.batches()] == ["2"]


@pytest.mark.parametrize("mode", ["create_429", "batch_failed"])
def test_a_job_that_nobody_has_tokens_for_waits_and_goes_on(world, account, operator, mode):
    """With no other deployment the job waits, says for what, and runs once there is room; nothing is counted."""
    openai = account("openai", provider="openai", token_limit={**NO_ROOM, "mode": mode})
    operator(world.namespace, flags=FLAGS)
    world.openai("east", openai)
    world.file()
    world.job(backoffLimit=0)
    waits = world.until("BatchJob", "run", waits_for_quota, timeout=PATIENCE)
    assert waits["status"]["phase"] == "Pending"

    openai.behaviour(token_limit={**ROOM, "mode": mode})

    assert world.finished(timeout=PATIENCE)["status"]["phase"] == "Succeeded"


def waits_for_quota(job: Object) -> bool:
    """Whether the job says that it waits for quota."""
    return (condition(job, "Routed") or {}).get("reason") == "QuotaExceeded"


def test_failures_of_the_service_are_counted(world, account, operator):
    """A batch that the service fails is made again, up to backoffLimit times; then the job has failed."""
    openai = account("openai", provider="openai")
    openai.hold()
    operator(world.namespace, flags=FLAGS)
    world.openai("east", openai)
    world.file()
    world.job(backoffLimit=2)
    failed: set[str] = set()
    for _ in range(3):
        job = world.until(
            "BatchJob",
            "run",
            lambda seen: seen.get("status", {}).get("batchID", "") not in {"", *failed},
            timeout=PATIENCE,
        )
        openai.advance(job["status"]["batchID"], "failed")
        failed.add(job["status"]["batchID"])

    job = world.finished(timeout=PATIENCE)

    assert job["status"]["phase"] == "Failed"
    assert (condition(job, "Failed") or {})["reason"] == "BackoffLimitExceeded"
    assert {batch["id"] for batch in openai.batches()} == failed
