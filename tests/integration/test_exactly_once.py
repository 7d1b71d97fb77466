"""Exactly once: whatever times out, is cut or is killed, each attempt of a job has one batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from support.api_proxy import ApiProxy
from support.cluster import Cluster, poll
from support.emulator import Account
from support.world import World

JOBS = 20
FLAGS = ("--poll-interval", "0.5", "--probe-interval", "1", "--create-timeout", "2", "--create-grace", "0")
AGAIN_AT_ONCE = ("--retry-scale", "0.01")
PATIENCE = 90.0


class Moment(Protocol):
    """A moment of a create at which a process dies; `wait` ends when it has come."""

    def wait(self) -> None: ...


@pytest.fixture
def proxy(as_operator: Cluster, tmp_path: Path) -> Iterator[ApiProxy]:
    """A line to the API server that can be cut."""
    with ApiProxy(as_operator, tmp_path) as running:
        yield running


def attempts(account: Account) -> Counter[tuple[str, str]]:
    """How many batches there are of each job's attempts."""
    tags = [batch["metadata"] for batch in account.batches()]
    return Counter((tag["llmbatch-job"], tag["llmbatch-attempt"]) for tag in tags)


@pytest.mark.parametrize(("lag", "careless"), [(0.0, False), (3.0, False), (3.0, True)], ids=["at once", "late", "odd"])
@pytest.mark.parametrize("fault", ["hang_after_success", "close_after_success"])
def test_each_job_has_one_batch_though_no_create_is_answered(world, account, operator, fault, lag, careless):
    """Twenty creates that succeed and never answer leave twenty batches, listed at once or only after a while, by a
    provider that is strict or only nearly compatible."""
    openai = account("openai", provider="openai", list_lag_seconds=lag, careless=careless)
    operator(world.namespace, flags=(*FLAGS, "--create-grace", "6"))
    world.openai("openai", openai)
    world.file()
    world.ready("BatchFile", "questions")
    openai.fault(fault, "batches.create", times="always")
    names = [world.job(f"run-{at}") for at in range(JOBS)]

    phases = {world.finished(name, timeout=PATIENCE)["status"]["phase"] for name in names}

    assert phases == {"Succeeded"}
    assert attempts(openai) == {(f"{world.namespace}/{name}", "1"): 1 for name in names}
    assert openai.calls().count("batches.create") == JOBS


class ProviderHolds:
    """The create is held by the provider: before it is carried out, or before it is answered."""

    def __init__(self, account: Account, kind: str) -> None:
        self._account = account
        self._batches = len(account.batches()) + (kind == "hang_after_success")
        account.fault(kind, "batches.create", seconds=3600)

    def wait(self) -> None:
        assert poll(lambda: not self._account.faults() and len(self._account.batches()) == self._batches, 60)


def jobs_path(rest: str = "") -> str:
    """The end of the path of the one job, or of its subresource."""
    return "/batchjobs/run" + rest


STEPS: dict[str, Callable[[ApiProxy, Account], Moment]] = {
    "before the create is recorded": lambda proxy, _: proxy.hold(
        "PATCH", jobs_path(), '"llmbatch.dev/create-pending":"{'
    ),
    "when the create is recorded": lambda proxy, _: proxy.swallow(
        "PATCH", jobs_path(), '"llmbatch.dev/create-pending":"{'
    ),
    "when the create is on its way": lambda _, account: ProviderHolds(account, "latency"),
    "when the batch is made": lambda _, account: ProviderHolds(account, "hang_after_success"),
    "before the batch is recorded": lambda proxy, _: proxy.hold("PATCH", jobs_path(), '"llmbatch.dev/batch-id":"batch'),
    "when the batch is recorded": lambda proxy, _: proxy.swallow(
        "PATCH", jobs_path(), '"llmbatch.dev/batch-id":"batch'
    ),
    "before the status is written": lambda proxy, _: proxy.hold("PATCH", jobs_path("/status"), '"batchID":"batch'),
}


LOOKED_FOR = ("when the create is recorded", "when the create is on its way", "when the batch is made")
"""Steps after which the provider's listing is all there is to go by."""


@pytest.mark.parametrize(
    ("step", "careless"), [*((step, False) for step in STEPS), *((step, True) for step in LOOKED_FOR)]
)
def test_a_killed_process_leaves_one_batch_for_each_attempt(world, account, operator, proxy, step, careless):
    """Killed at any step of the first create and of the second, a process that starts again makes no second batch."""
    openai = account("openai", provider="openai", careless=careless)
    openai.hold()
    flags = (*FLAGS, *AGAIN_AT_ONCE)
    process = operator(world.namespace, flags=flags, kubeconfig=proxy.kubeconfig)
    world.openai("openai", openai)
    world.file()
    world.ready("BatchFile", "questions")
    batch_id = ""
    for made in (1, 2):
        moment = STEPS[step](proxy, openai)
        if made == 1:
            world.job("run")
        else:
            openai.advance(batch_id, "failed")
        moment.wait()
        process.kill()
        openai.clear_faults()
        process = operator(world.namespace, flags=flags, kubeconfig=proxy.kubeconfig)

        batch_id = another_batch(world, batch_id)

        # A create that surely had no effect uses up the number of its attempt.
        assert list(attempts(openai).values()) == [1] * made
    openai.release()
    assert world.finished(timeout=PATIENCE)["status"]["phase"] == "Succeeded"
    assert len(openai.batches()) == 2


def another_batch(world: World, before: str) -> str:
    """The batch that comes after another one, once status tells of it."""

    def reached(job: dict) -> bool:
        return job.get("status", {}).get("batchID", before) != before

    return world.until("BatchJob", "run", reached, timeout=PATIENCE)["status"]["batchID"]


def test_two_deployments_of_one_account_are_told_apart(world, account, operator):
    """Two deployments of one account share it: each job follows its own batch, among many that belong to others."""
    azure = account("azure", deployments={"one": "gpt-4o-mini", "two": "gpt-4o-mini"})
    azure.foreign_batches(150)
    operator(world.namespace, flags=FLAGS)
    world.azure("one", azure, deployment="one")
    world.azure("two", azure, deployment="two", secret="key-one", with_secret=False)
    world.file()
    world.cluster.wait_condition("BatchFile", "questions", world.namespace, "Uploaded", timeout=PATIENCE)
    azure.fault("close_after_success", "batches.create", times=3)
    names = [world.job(f"run-{at}") for at in range(6)]

    jobs = [world.finished(name, timeout=PATIENCE) for name in names]

    assert {job["status"]["phase"] for job in jobs} == {"Succeeded"}
    assert Counter(job["status"]["deployment"]["name"] for job in jobs) == {"one": 3, "two": 3}
    inputs = {
        entry["name"]: entry["files"][0]["fileID"]
        for entry in world.get("BatchFile", "questions")["status"]["deployments"]
    }
    for job in jobs:
        batch = azure.batch(job["status"]["batchID"])
        assert batch["metadata"]["llmbatch-uid"] == job["metadata"]["uid"]
        assert batch["input_file_id"] == inputs[job["status"]["deployment"]["name"]]
    assert len(azure.batches()) == len(names)
