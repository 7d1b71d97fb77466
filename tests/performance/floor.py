"""The floor of a job: the same writes, reads and calls by a bare loop over the same client libraries, nothing else."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import orjson

from llmbatch.kube.connect import connect
from llmbatch.kube.transport import JSON_PATCH, MERGE_PATCH, Api, Target
from support.emulator import Account

API = "llmbatch.dev/v1alpha1"
AT_ONCE = 16
PAGE = 100


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def lanes(count: int, work: Callable[[int], Awaitable[object]], at_once: int = AT_ONCE) -> None:
    """Do ``work`` for 0 to ``count`` - 1, so many at a time."""
    left = iter(range(count))

    async def lane() -> None:
        for number in left:
            await work(number)

    await asyncio.gather(*(lane() for _ in range(at_once)))


@dataclass(frozen=True)
class Floor:
    """CPU milliseconds a job: from its creation to submitted, and from its batch's end to finished."""

    submitted: float
    finished: float

    @property
    def each(self) -> float:
        """Of a whole job."""
        return self.submitted + self.finished


async def floor_of(kubeconfig: Path, namespace: str, account: Account, file_id: str, count: int) -> Floor:
    """What so many jobs cost a bare loop. Their objects are made, and left, in ``namespace``."""
    api = await connect({"KUBECONFIG": str(kubeconfig)}, user_agent="bench")
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {account.key}"}) as client:
        bare = _BareLoop(api, client, account, namespace, file_id)
        await lanes(count, bare.make)
        account.hold()
        before = cpu_seconds()
        await lanes(count, bare.submit)
        submitted = cpu_seconds() - before
        account.release()
        await bare.all_ended(count)
        before = cpu_seconds()
        await bare.sweep()
        await lanes(count, bare.finish)
        finished = cpu_seconds() - before
    await api.close()
    return Floor(submitted / count * 1000, finished / count * 1000)


class _BareLoop:
    def __init__(self, api: Api, client: httpx2.AsyncClient, account: Account, namespace: str, file_id: str) -> None:
        self._api = api
        self._client = client
        self._account = account
        self._namespace = namespace
        self._file_id = file_id
        self._batches: dict[str, dict[str, Any]] = {}

    def _job(self, number: int, subresource: str = "") -> Target:
        return Target(API, "batchjobs", self._namespace, f"floor-{number}", subresource)

    async def make(self, number: int) -> None:
        """As a user would; not part of the floor."""
        spec = {"inputFileRef": {"name": "questions"}, "output": {"configMap": {"name": f"floor-out-{number}"}}}
        body = {"apiVersion": API, "kind": "BatchJob", "metadata": {"name": f"floor-{number}"}, "spec": spec}
        await self._api.call("create", Target(API, "batchjobs", self._namespace), body=orjson.dumps(body))

    async def submit(self, number: int) -> None:
        """Read the job, record the create, make the batch, record it, write status, tell."""
        orjson.loads(await self._api.call("get", self._job(number)))
        pending = {"llmbatch.dev/deployment": f"{self._namespace}/openai", "llmbatch.dev/create-pending": "{" * 150}
        await self._patch(number, {"metadata": {"annotations": pending, "finalizers": ["llmbatch.dev/finalizer"]}})
        body = {
            "input_file_id": self._file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {f"llmbatch-{key}": "x" * 36 for key in ("cluster", "job", "uid", "shard", "attempt")},
        }
        answer = await self._client.post(f"{self._account.url}/batches", json=body)
        batch = orjson.loads(answer.content)
        done = {"llmbatch.dev/create-pending": None, "llmbatch.dev/batch-id": batch["id"]}
        await self._patch(number, {"metadata": {"annotations": done}})
        await self._status(number, "InProgress", batch["id"])
        await self._event(number)

    async def finish(self, number: int) -> None:
        """Read the job, fetch the results, write output and status, tell, and delete what the provider keeps."""
        job = orjson.loads(await self._api.call("get", self._job(number)))
        batch = self._batches[job["metadata"]["annotations"]["llmbatch.dev/batch-id"]]
        url = f"{self._account.url}/files/{batch['output_file_id']}"
        results = await self._client.get(f"{url}/content")
        output = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"floor-out-{number}"},
            "data": {"output.jsonl": results.text},
        }
        await self._api.call("create", Target("v1", "configmaps", self._namespace), body=orjson.dumps(output))
        await self._status(number, "Succeeded", batch["id"])
        await self._event(number)
        await self._client.delete(url)

    async def sweep(self) -> None:
        """List the account's batches, page by page."""
        query: Mapping[str, Any] = {"limit": PAGE}
        while True:
            page = orjson.loads((await self._client.get(f"{self._account.url}/batches", params=query)).content)
            self._batches |= {batch["id"]: batch for batch in page["data"]}
            if not page["has_more"]:
                return
            query = {"limit": PAGE, "after": page["data"][-1]["id"]}

    async def all_ended(self, count: int) -> None:
        """Wait for the provider."""
        ended: list[object] = []
        while len(ended) < count:
            await asyncio.sleep(0.1)
            ended = [batch for batch in self._account.batches() if batch["status"] == "completed"]

    async def _patch(self, number: int, change: object) -> None:
        body = orjson.dumps(change)
        answer = await self._api.call("patch", self._job(number), body=body, content_type=MERGE_PATCH)
        orjson.loads(answer)

    async def _status(self, number: int, phase: str, batch_id: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [
            {"type": name, "status": "True", "lastTransitionTime": now, "reason": "Running", "message": "x" * 80}
            for name in ("Routed", "Submitted", "Finished", "Reconciling")
        ]
        status = {"phase": phase, "batchID": batch_id, "conditions": conditions, "lastPollTime": now}
        patch: list[dict[str, object]] = [{"op": "test", "path": "/metadata/name", "value": f"floor-{number}"}]
        patch.append({"op": "add", "path": "/status", "value": status})
        target = self._job(number, "status")
        orjson.loads(await self._api.call("patch", target, body=orjson.dumps(patch), content_type=JSON_PATCH))

    async def _event(self, number: int) -> None:
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": "floor-"},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "floor",
            "reportingInstance": "floor",
            "action": "BatchCreated",
            "reason": "BatchCreated",
            "type": "Normal",
            "note": "x" * 80,
            "regarding": {
                "apiVersion": API,
                "kind": "BatchJob",
                "namespace": self._namespace,
                "name": f"floor-{number}",
            },
        }
        await self._api.call("create", Target("events.k8s.io/v1", "events", self._namespace), body=orjson.dumps(event))
