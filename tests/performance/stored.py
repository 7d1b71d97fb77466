"""What objects cost that exist: a start for each finished job, and memory for each, everything included."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from llmbatch.kube.connect import connect
from llmbatch.kube.transport import MERGE_PATCH, Target
from performance.floor import API, lanes
from support.cluster import Cluster
from support.operator_process import OperatorProcess

NAMESPACE = "stored"
SETTLES = 10.0
"""Seconds after which a start has done what it does for objects that are there."""
READY_WITHIN = 180.0
OWN = ("name", "annotations", "finalizers", "labels")


@dataclass(frozen=True)
class StoredFigures:
    """For each of ``count`` finished jobs of ``bytes`` JSON: CPU milliseconds of a start, KB of memory, API writes."""

    count: int
    bytes: int
    start: float
    memory: float
    writes: int
    ready: float
    """Seconds until ready."""


def measure(
    cluster: Cluster, start: Callable[[str, float], OperatorProcess], finished: dict[str, Any], count: int
) -> StoredFigures:
    """Store so many copies of a finished job, and start an operator on them and one on an empty namespace.

    ``start`` takes the namespace, and the seconds in which the process must be ready.
    """
    for namespace in (NAMESPACE, "empty"):
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, "")
    asyncio.run(_store(cluster, finished, count))
    before = len(cluster.writes(NAMESPACE))
    empty_cpu, empty_memory, _ = _started(start, "empty")
    cpu, memory, ready = _started(start, NAMESPACE)
    return StoredFigures(
        count=count,
        bytes=len(orjson.dumps(finished)),
        start=(cpu - empty_cpu) / count * 1000,
        memory=(memory - empty_memory) / count / 1000,
        writes=len(cluster.writes(NAMESPACE)) - before,
        ready=ready,
    )


def _started(start: Callable[[str, float], OperatorProcess], namespace: str) -> tuple[float, float, float]:
    """CPU seconds and resident bytes of a process that has settled, and after how many seconds it was ready."""
    begun = time.monotonic()
    process = start(namespace, READY_WITHIN)
    try:
        ready = time.monotonic() - begun
        time.sleep(SETTLES)
        return process.cpu_seconds(), process.resident_bytes(), ready
    finally:
        process.kill()


async def _store(cluster: Cluster, finished: dict[str, Any], count: int) -> None:
    api = await connect({"KUBECONFIG": str(cluster.kubeconfig)}, user_agent="bench")
    own = {key: value for key, value in finished["metadata"].items() if key in OWN}
    body = {"apiVersion": API, "kind": "BatchJob", "spec": finished["spec"]}
    status = orjson.dumps({"status": finished["status"]})

    async def make(number: int) -> None:
        name = f"job-{number}"
        made = {**body, "metadata": {**own, "name": name}}
        await api.call("create", Target(API, "batchjobs", NAMESPACE), body=orjson.dumps(made))
        target = Target(API, "batchjobs", NAMESPACE, name, "status")
        await api.call("patch", target, body=status, content_type=MERGE_PATCH)

    await lanes(count, make)
    await api.close()
