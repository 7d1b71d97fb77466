"""Whose batch a job's record may name, and whose account a reconcile may ask: the real reconciler in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmbatch.domain.remote import RemoteBatch, Tag
from support.job_bench import CLUSTER, NAMESPACE, RUN, Bench, Provider

EAST, FOREIGN = "team/east", "victim/private"


def record_of(route: str, **record: Any) -> dict[str, str]:
    """What a record looks like: `batch_id`, or a pending create where there is none."""
    if "batch_id" in record:
        return {"llmbatch.dev/deployment": route, "llmbatch.dev/batch-id": record["batch_id"]}
    pending = {"attempt": 1, "deployment": route, "time": "2026-01-01T00:00:00Z", "inputFileID": "file-private"}
    return {"llmbatch.dev/deployment": route, "llmbatch.dev/create-pending": json.dumps(pending)}


def two_tenants(**fields: Any) -> Bench:
    """A job's own namespace, and another one whose deployment serves the same model."""
    bench = Bench(**fields)
    bench.deployment("east")
    bench.deployment("private", namespace="victim")
    bench.file(EAST)
    return bench


async def a_batch(provider: Provider, *, uid: str, name: str = "run", file_id: str = "file-east") -> RemoteBatch:
    """A batch that was made for a job of this cluster."""
    tag = Tag(CLUSTER, NAMESPACE, name, uid, 0, 1)
    made = await provider.create_batch(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", metadata=tag.metadata()
    )
    provider.calls.clear()
    return made


@pytest.mark.parametrize("record", [{"batch_id": "batch_1"}, {}], ids=["a batch", "a pending create"])
async def test_a_forged_record_asks_nothing_of_another_tenant_s_account(record):
    """Annotations that lead to another tenant's deployment count for nothing: not a call, no room, no look-up."""
    bench = two_tenants()
    bench.job(metadata={"annotations": record_of(FOREIGN, **record)})
    process = bench.start()
    assert process.index.load(FOREIGN) == (0, 0)

    job = await process.running()

    assert bench.provider("private").calls == []
    assert [job.status.batch_id] == list(bench.provider("east").held)


async def test_a_forged_record_costs_nothing_when_its_job_goes():
    """Deleting a job with a forged record asks nothing of the account that it names."""
    bench = two_tenants()
    forged = {"annotations": record_of(FOREIGN, batch_id="batch_1"), "finalizers": ["llmbatch.dev/finalizer"]}
    bench.job(metadata={**forged, "deletionTimestamp": "2026-01-01T00:00:00Z"})

    await bench.start().until(lambda job: job is None)

    assert bench.provider("private").calls == []


async def test_a_record_on_a_shared_deployment_is_restored():
    """A job that lost its status goes on with its batch on a deployment of a shared namespace."""
    bench = two_tenants(shared=["victim"])
    made = await a_batch(bench.provider("private"), uid="uid-team-run")
    bench.job(metadata={"annotations": record_of(FOREIGN, batch_id=made.id)})

    job = await bench.start().running()

    assert job.status.batch_id == made.id
    assert len(bench.batches()) == 1


async def test_a_batch_on_a_deployment_that_is_no_longer_shared_is_followed():
    """What status confirms is the operator's own record, whoever may use the deployment now."""
    bench = two_tenants(shared=["victim"])
    made = await a_batch(bench.provider("private"), uid="uid-team-run")
    bench.job(metadata={"annotations": record_of(FOREIGN, batch_id=made.id)})
    await bench.start().running()
    bench.shared = frozenset()

    process = bench.start()
    bench.cluster.writes.clear()
    await process.round()
    await process.round()
    assert bench.cluster.writes == []
    bench.provider("private").become(made.id, "cancelled")
    await process.until(lambda job: job is not None and job.status.phase.finished)

    assert bench.stored().status.batch_id == made.id
    assert len(bench.batches()) == 1


async def test_a_status_does_not_make_a_batch_somebody_s_that_is_tagged_otherwise():
    """Of a batch with a tag, the tag says whose it is: the other one's is let go, and another one is made."""
    bench = two_tenants()
    other = await a_batch(bench.provider("east"), uid="uid-of-another", name="another")
    route = {"namespace": "team", "name": "east"}
    shard = {"index": 0, "deployment": route, "batchID": other.id, "attempt": 1, "phase": "InProgress"}
    bench.job(status={"phase": "InProgress", "shards": [shard], "batchID": other.id})

    await bench.start().until(lambda job: job is not None and job.status.batch_id not in (None, other.id))

    assert bench.provider("east").count("cancel") == 0
    assert len(bench.batches()) == 2


async def test_a_batch_of_another_input_is_not_restored():
    """A batch that was made for this name, but of another file, is not this job's."""
    bench = two_tenants()
    other = await a_batch(bench.provider("east"), uid="uid-of-old", file_id="file-of-old")
    bench.job(metadata={"annotations": record_of(EAST, batch_id=other.id)})

    await bench.start().until(lambda job: job is not None and job.status.batch_id not in (None, other.id))

    assert bench.stored().status.input_file_id == "file-east"


async def test_a_job_tells_nothing_of_the_secrets_of_another_tenant():
    """Where a shared deployment has lost its Secret, a job says who must mend it, and not what the Secret is called."""
    bench = two_tenants(shared=["victim"])
    made = await a_batch(bench.provider("private"), uid="uid-team-run")
    bench.job(metadata={"annotations": record_of(FOREIGN, batch_id=made.id)})
    bench.secrets.clear()

    await bench.start().until(lambda job: job is not None and job.status.conditions)

    told = bench.stored().status.model_dump_json()
    assert "the key of ModelDeployment victim/private is missing" in told
    assert "Secret victim" not in told


def test_nothing_is_forged_in_what_the_operator_writes():
    """The own namespace's deployments count without any sharing."""
    bench = two_tenants()
    bench.job(metadata={"annotations": record_of(EAST, batch_id="batch_1")})

    assert bench.start().index.jobs[RUN].batch_id == "batch_1"
