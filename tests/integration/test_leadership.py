"""Leadership: of two processes one works, and the other takes over in time and not before."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api_proxy import ApiProxy
from support.cluster import poll
from support.helm import render
from support.installed import Installed, install
from support.operator_process import OperatorProcess
from support.world import API, World

FLAGS = ("--leader-elect", "--poll-interval", "0.5", "--probe-interval", "1")
AFTER_A_KILL, AFTER_A_STOP = 20.0, 5.0
"""Seconds within which the other process works."""
PATIENCE = 60.0
FINISHED_JOBS = 1000

Start = Callable[..., OperatorProcess]


@pytest.fixture
def installed(world: World, tmp_path: Path) -> Installed:
    """The chart's release for the test's namespace alone: its rights are Roles there, its Lease lies there."""
    release = render({"watchNamespaces": [world.namespace]}, release=world.namespace, namespace=world.namespace)
    return install(world.cluster, release, tmp_path)


@pytest.fixture
def start(installed: Installed, operator) -> Start:
    """Starts an operator of that name that stands for election; a standby is ready too."""

    def begin(name: str, kubeconfig: Path = installed.cluster.kubeconfig) -> OperatorProcess:
        flags = (*installed.flags, *FLAGS)
        return operator(flags=flags, environment={"POD_NAME": name}, kubeconfig=kubeconfig)

    return begin


@pytest.fixture
def proxy(installed: Installed, tmp_path: Path) -> Iterator[ApiProxy]:
    """A line to the API server that can be cut."""
    with ApiProxy(installed.cluster, tmp_path) as running:
        yield running


def holder(world: World) -> str:
    """The name of the process that holds the Lease."""
    lease = world.cluster.find("Lease", f"{world.namespace}-llmbatch-operator", world.namespace)
    return (lease or {}).get("spec", {}).get("holderIdentity", "").rpartition("_")[0]


def until_led_by(world: World, name: str, timeout: float = PATIENCE) -> None:
    """Wait until that process holds the Lease."""
    assert poll(lambda: holder(world) == name, timeout), f"{holder(world)!r} holds the lease, not {name!r}"


def test_of_two_processes_one_works_and_the_lease_names_it(world, account, start):
    """The process that the Lease names does all of the work; the other one is ready and calls nobody."""
    openai = account("openai", provider="openai")
    first = start("first")
    until_led_by(world, "first")
    second = start("second")
    world.openai("east", openai)
    world.file()
    world.job()

    assert world.finished()["status"]["phase"] == "Succeeded"

    assert holder(world) == "first"
    assert first.metric("llmbatch_leader") == 1
    assert second.metric("llmbatch_leader") == 0
    assert second.metric("llmbatch_provider_requests_total") == 0
    assert first.metric("llmbatch_provider_requests_total") > 0
    assert len(openai.batches()) == 1


@pytest.mark.parametrize(
    ("end", "within"), [("kill", AFTER_A_KILL), ("terminate", AFTER_A_STOP)], ids=["killed", "stopped"]
)
def test_another_process_takes_over_in_time(world, account, start, end, within, record_property):
    """After a SIGKILL the other process works within 20 s, after a clean stop within 5 s, and makes no second batch."""
    openai = account("openai", provider="openai")
    openai.hold()
    first = start("first")
    until_led_by(world, "first")
    start("second")
    world.openai("east", openai)
    world.file()
    world.job()
    batch_id = world.running(timeout=PATIENCE)["status"]["batchID"]
    world.job("next", suspend=True)
    world.until("BatchJob", "next", lambda job: job.get("status", {}).get("phase") == "Suspended", timeout=PATIENCE)

    begun = time.monotonic()
    getattr(first, end)()
    world.cluster.patch("BatchJob", "next", world.namespace, {"spec": {"suspend": False}})
    world.running("next", timeout=PATIENCE)
    took = time.monotonic() - begun

    record_property("seconds", took)
    sys.stdout.write(f"worked again {took:.1f} s after the first process ended\n")
    assert took <= within
    assert holder(world) == "second"
    openai.release()
    assert world.finished()["status"]["batchID"] == batch_id
    assert len(openai.batches()) == 2


def test_a_leader_that_loses_the_api_server_stops_before_another_starts(world, account, start, proxy):
    """Cut off from the API server, a leader has ended by the time that another process holds the Lease."""
    openai = account("openai", provider="openai")
    openai.hold()
    first = start("first", kubeconfig=proxy.kubeconfig)
    until_led_by(world, "first")
    start("second")
    world.openai("east", openai)
    world.file()
    world.job()
    world.running(timeout=PATIENCE)

    proxy.cut()
    until_led_by(world, "second")

    assert first.process.poll() not in (None, 0)
    openai.release()
    assert world.finished()["status"]["phase"] == "Succeeded"
    assert len(openai.batches()) == 1


def finished_status(world: World) -> dict:
    """The status of a job that ended well long ago."""
    reference = {"namespace": world.namespace, "name": "east"}
    condition = {"status": "True", "reason": "Completed", "message": "3 requests answered", "observedGeneration": 1}
    moment = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {
        "phase": "Succeeded",
        "observedGeneration": 1,
        "deployment": reference,
        "batchID": "batch_done",
        "shards": [{"index": 0, "deployment": reference, "batchID": "batch_done", "attempt": 1, "phase": "Succeeded"}],
        "conditions": [{"type": kind, **condition, **moment} for kind in ("Complete", "Finished")],
        "completionTime": "2026-01-01T00:00:00Z",
    }


def test_a_restart_with_a_thousand_finished_jobs_writes_nothing(world, account, operator):
    """An operator that finds 1,000 finished jobs, their file and its deployment as they should be makes no write."""
    openai = account("openai", provider="openai")
    first = operator(world.namespace, flags=FLAGS[1:])
    world.openai("east", openai)
    world.file()
    world.ready("BatchFile", "questions", timeout=PATIENCE)
    world.ready("ModelDeployment", "east", timeout=PATIENCE)
    first.terminate()
    record = {"llmbatch.dev/deployment": f"{world.namespace}/east", "llmbatch.dev/batch-id": "batch_done"}
    metadata = {"annotations": record, "finalizers": ["llmbatch.dev/finalizer"]}
    spec = {"inputFileRef": {"name": "questions"}}
    status = {"status": finished_status(world)}

    def make(name: str) -> None:
        job = {"apiVersion": API, "kind": "BatchJob", "metadata": {"name": name, **metadata}, "spec": spec}
        world.cluster.create(job, world.namespace)
        world.cluster.patch("BatchJob", name, world.namespace, status, subresource="status")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, [f"run-{at}" for at in range(FINISHED_JOBS)]))
    before = len(world.cluster.writes(world.namespace))

    second = operator(world.namespace, flags=FLAGS[1:], ready=False)
    second.wait_ready(PATIENCE)
    # The queue is in order: when this one has its turn, everything that the start brought has had it.
    world.job("last", suspend=True)
    world.until("BatchJob", "last", lambda job: job.get("status", {}).get("phase") == "Suspended", timeout=PATIENCE)

    written = world.cluster.writes(world.namespace)[before:]
    assert second.metric("llmbatch_jobs", phase="Succeeded") == FINISHED_JOBS
    assert {write.name for write in written} == {"last"}
