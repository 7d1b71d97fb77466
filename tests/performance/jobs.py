"""What a job costs whose file is there: from its creation to submitted, and from its batch's end to finished."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import orjson

from llmbatch.kube.connect import connect
from llmbatch.kube.transport import Target
from performance.floor import API, Floor, floor_of, lanes
from support.cluster import Cluster
from support.emulator import Emulator, chat_lines
from support.operator_process import OperatorProcess
from support.world import MODEL, World

LINES = 10
PATIENCE = 60.0
WARM = 32
FINISHED = frozenset({"Succeeded", "Failed", "Cancelled", "Expired"})
SUBMITTED = FINISHED | {"Validating", "InProgress", "Finalizing", "Collecting"}


@dataclass(frozen=True)
class JobFigures:
    """CPU milliseconds a job beside the floor's, jobs a second from creation to submitted, API writes a job."""

    submitted: float
    finished: float
    rate: float
    writes: float
    calls: Counter[str]
    """Calls to the API server and to the provider, and reconciles, of all the jobs."""
    floor: Floor

    @property
    def each(self) -> float:
        """CPU milliseconds of a whole job."""
        return self.submitted + self.finished


def measure(cluster: Cluster, emulator: Emulator, start: Callable[[str], OperatorProcess], count: int) -> JobFigures:
    """Create so many jobs at once in one namespace, let their batches end at once. The provider answers at once."""
    for namespace in ("jobs", "floor"):
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, "")
    floor = asyncio.run(_floor(cluster, emulator, count))
    world, account = World(cluster, "jobs"), emulator.account("jobs", pace={"in_progress_seconds": 0.0})
    process = start("jobs")
    try:
        world.openai("openai", account)
        world.file(lines=chat_lines(LINES, model=MODEL))
        world.ready("BatchFile", "questions")
        kubeconfig = cluster.kubeconfig
        asyncio.run(_create(kubeconfig, "warm", WARM))  # imports, connections and caches are paid for once
        _until(process, WARM, FINISHED)
        account.hold()
        before = len(cluster.writes("jobs", "batchjobs"))
        earlier = calls(process)
        begun, cpu = time.monotonic(), process.cpu_seconds()
        asyncio.run(_create(kubeconfig, "job", count))
        _until(process, WARM + count, SUBMITTED)
        seconds, submitted = time.monotonic() - begun, process.cpu_seconds() - cpu
        cpu = process.cpu_seconds()
        account.release()
        _until(process, WARM + count, FINISHED)
        finished = process.cpu_seconds() - cpu
        called = calls(process) - earlier
        made = len(cluster.writes("jobs", "batchjobs")) - before
    finally:
        process.kill()
    return JobFigures(submitted / count * 1000, finished / count * 1000, count / seconds, made / count, called, floor)


async def _floor(cluster: Cluster, emulator: Emulator, count: int) -> Floor:
    account = emulator.account("floor", pace={"in_progress_seconds": 0.0})
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {account.key}"}) as client:
        form = {"files": {"file": ("questions.jsonl", chat_lines(LINES))}, "data": {"purpose": "batch"}}
        answer = await client.post(f"{account.url}/files", **form)
    return await floor_of(cluster.kubeconfig, "floor", account, answer.json()["id"], count)


async def _create(kubeconfig: Path, prefix: str, count: int) -> None:
    api = await connect({"KUBECONFIG": str(kubeconfig)}, user_agent="bench")

    async def make(number: int) -> None:
        spec = {"inputFileRef": {"name": "questions"}, "output": {"configMap": {"name": f"{prefix}-out-{number}"}}}
        body = {"apiVersion": API, "kind": "BatchJob", "metadata": {"name": f"{prefix}-{number}"}, "spec": spec}
        await api.call("create", Target(API, "batchjobs", "jobs"), body=orjson.dumps(body))

    await lanes(count, make)
    await api.close()


def _until(process: OperatorProcess, count: int, phases: frozenset[str]) -> None:
    """Until so many jobs are in these phases, by the operator's own count: listing them would cost both cores."""
    deadline, done = time.monotonic() + PATIENCE, 0.0
    while time.monotonic() < deadline:
        done = sum(process.metric("llmbatch_jobs", phase=phase) for phase in phases)
        if done >= count:
            return
        time.sleep(0.3)
    raise SystemExit(f"only {done:g} of {count} jobs were {' or '.join(sorted(phases))}\n{process.tail()}")


def calls(process: OperatorProcess) -> Counter[str]:
    """Calls so far, to the API server and to providers, and reconciles by kind."""
    counted: Counter[str] = Counter()
    for (name, labels), value in process.metrics().items():
        told = dict(labels)
        if name == "llmbatch_kubernetes_requests_total":
            counted[f"{told['verb']} {told['resource']}"] += int(value)
        elif name == "llmbatch_provider_requests_total":
            counted[told["operation"]] += int(value)
        elif name == "llmbatch_reconcile_seconds_count":
            counted[f"reconcile {told['kind']}"] += int(value)
    return counted
