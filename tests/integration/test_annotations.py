"""Annotations are the operator's record, and anybody may edit them: forged, copied or dropped, one batch is made."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from support.cluster import Object, condition
from support.emulator import Account
from support.world import World

FLAGS = ("--poll-interval", "0.5", "--probe-interval", "1", "--create-timeout", "2", "--create-grace", "0")
LOST_SOON = ("--not-found-grace", "2")
PATIENCE = 60.0
PREFIX = "llmbatch.dev/"


def annotated(**values: Any) -> dict[str, Any]:
    """Metadata with the operator's annotations: `deployment`, `create_pending`, `batch_id`."""
    return {"annotations": {PREFIX + name.replace("_", "-"): value for name, value in values.items()}}


def pending(deployment: str, file_id: str | None = None, attempt: int = 1) -> str:
    """A `create-pending` as the operator writes it."""
    fields: dict[str, Any] = {"attempt": attempt, "deployment": deployment, "time": "2026-01-01T00:00:00Z"}
    return json.dumps(fields | ({"inputFileID": file_id} if file_id else {}))


def tagged(account, world: World, name: str) -> list[str]:
    """The batches that were made for a job of that name."""
    wanted = f"{world.namespace}/{name}"
    return [batch["id"] for batch in account.batches() if batch["metadata"]["llmbatch-job"] == wanted]


@pytest.fixture
def openai(account):
    """An account whose batches stay in progress until they are released."""
    made = account("openai", provider="openai")
    made.hold()
    return made


@pytest.fixture
def ready(world, openai, operator) -> World:
    """A namespace with an operator, a deployment and a file that is ready."""
    operator(world.namespace, flags=(*FLAGS, *LOST_SOON))
    world.openai("east", openai)
    world.file()
    world.ready("BatchFile", "questions", timeout=PATIENCE)
    return world


def test_the_batch_of_another_job_is_not_taken(ready, openai):
    """A job whose annotation names another job's batch gets one of its own, and the other is left alone."""
    ready.job("first")
    taken = ready.running("first", timeout=PATIENCE)["status"]["batchID"]
    ready.job("thief", metadata=annotated(deployment=f"{ready.namespace}/east", batch_id=taken))

    thief = ready.running("thief", timeout=PATIENCE)

    assert thief["status"]["batchID"] != taken
    assert tagged(openai, ready, "thief") == [thief["status"]["batchID"]]
    ready.delete("BatchJob", "thief")
    ready.gone("BatchJob", "thief", timeout=PATIENCE)
    openai.release()
    assert ready.finished("first")["status"]["phase"] == "Succeeded"


def test_a_stranger_s_batch_is_not_taken(ready, openai):
    """A job whose annotation names a batch that nobody of ours made gets one of its own."""
    openai.foreign_batches(1)
    foreign = next(batch["id"] for batch in openai.batches(foreign=True) if batch["foreign"])
    ready.job(metadata=annotated(deployment=f"{ready.namespace}/east", batch_id=foreign))

    job = ready.running(timeout=PATIENCE)

    assert [job["status"]["batchID"]] == tagged(openai, ready, "run")


def test_an_id_that_the_provider_does_not_know_ends_the_job_and_makes_no_batch(ready, openai):
    """A batch id of nothing ends in BatchNotFound after the grace, and the provider is never asked for a new one."""
    ready.job(metadata=annotated(deployment=f"{ready.namespace}/east", batch_id="batch_of_nothing"))

    job = ready.finished(timeout=PATIENCE)

    assert job["status"]["phase"] == "Failed"
    assert (condition(job, "Failed") or {})["reason"] == "BatchNotFound"
    assert openai.calls().count("batches.create") == 0


@pytest.mark.parametrize("value", ["", "{", "[]", '{"attempt":"x"}', "null", "9" * 2000])
def test_a_pending_create_that_makes_no_sense_leads_to_one_batch(ready, openai, value):
    """Garbage in create-pending is a create whose answer was lost, or none at all: one batch comes of it."""
    ready.job(metadata=annotated(deployment=f"{ready.namespace}/east", create_pending=value))

    job = ready.running(timeout=PATIENCE)

    assert tagged(openai, ready, "run") == [job["status"]["batchID"]]


def test_a_route_by_hand_is_put_back(ready, openai, account):
    """The route of a running job that was changed by hand is put back, and no call goes to the other deployment."""
    other = account("other", provider="openai")
    ready.job()
    batch_id = ready.running(timeout=PATIENCE)["status"]["batchID"]
    ready.openai("west", other)
    ready.ready("ModelDeployment", "west", timeout=PATIENCE)
    route = PREFIX + "deployment"

    ready.cluster.patch(
        "BatchJob", "run", ready.namespace, {"metadata": {"annotations": {route: f"{ready.namespace}/west"}}}
    )

    ready.until("BatchJob", "run", lambda job: job["metadata"]["annotations"][route] == f"{ready.namespace}/east")
    openai.release()
    assert ready.finished()["status"]["batchID"] == batch_id
    assert [call for call in other.calls().log if call.id == batch_id] == []
    assert len(openai.batches()) == 1
    assert other.batches() == []


@pytest.fixture
def victim(world, openai, account, operator, namespaces) -> tuple[World, Account]:
    """Another tenant with a file on an account of its own; one operator works for both namespaces."""
    theirs = account("victim", provider="openai")
    theirs.hold()
    tenant = World(world.cluster, namespaces())
    operator(world.namespace, tenant.namespace, flags=FLAGS)
    for place, held, name in ((world, openai, "east"), (tenant, theirs, "private")):
        place.openai(name, held)
        place.file()
        place.ready("BatchFile", "questions", timeout=PATIENCE)
    return tenant, theirs


def test_a_forged_pending_create_spends_nothing_of_another_tenant(world, openai, victim):
    """A job that claims a pending create on another tenant's deployment gets its batch on its own, and none there."""
    tenant, theirs = victim
    copies = tenant.get("BatchFile", "questions")["status"]["deployments"]
    route = f"{tenant.namespace}/private"
    forged = annotated(deployment=route, create_pending=pending(route, copies[0]["files"][0]["fileID"]))

    world.job("forger", metadata=forged)
    job = world.running("forger", timeout=PATIENCE)

    assert job["status"]["deployment"] == {"namespace": world.namespace, "name": "east"}
    assert theirs.calls().count("batches.create") == 0
    assert len(openai.batches()) == 1


def test_a_forged_route_to_another_tenant_leads_nowhere(world, openai, victim):
    """A job whose annotations name another tenant's deployment and batch gets a batch of its own, on its own."""
    tenant, theirs = victim
    tenant.job()
    batch_id = tenant.running(timeout=PATIENCE)["status"]["batchID"]

    world.job("forger", metadata=annotated(deployment=f"{tenant.namespace}/private", batch_id=batch_id))
    job = world.running("forger", timeout=PATIENCE)

    assert job["status"]["deployment"] == {"namespace": world.namespace, "name": "east"}
    assert [job["status"]["batchID"]] == [batch["id"] for batch in openai.batches()]
    assert [batch["id"] for batch in theirs.batches()] == [batch_id]


def test_a_forged_route_takes_up_no_room_of_another_tenant(world, openai, victim):
    """Jobs that only claim to run on another tenant's deployment leave its headroom to those who may use it."""
    tenant, _ = victim
    tenant.cluster.patch("ModelDeployment", "private", tenant.namespace, {"spec": {"limits": {"maxActiveBatches": 1}}})
    world.job("forger", suspend=True, metadata=annotated(deployment=f"{tenant.namespace}/private"))
    world.until("BatchJob", "forger", lambda job: job.get("status", {}).get("phase") == "Suspended", timeout=PATIENCE)

    tenant.job()

    assert tenant.running(timeout=PATIENCE)["status"]["deployment"]["name"] == "private"


def copy_of(world: World, name: str, other: str) -> Object:
    """What `kubectl get -o yaml`, another name and `kubectl apply` make."""
    shown = yaml.safe_load(world.cluster.kubectl("-n", world.namespace, "get", "batchjob", name, "-o", "yaml").stdout)
    shown["metadata"]["name"] = other
    for dropped in ("uid", "resourceVersion", "creationTimestamp"):
        shown["metadata"].pop(dropped)
    text = yaml.safe_dump(shown)
    world.cluster.kubectl("-n", world.namespace, "apply", "-f", "-", stdin=text)
    return world.get("BatchJob", other)


def test_a_copy_of_a_job_gets_a_batch_of_its_own(ready, openai):
    """A job that was copied with all its annotations, running or finished, runs by itself."""
    ready.job()
    first = ready.running(timeout=PATIENCE)["status"]["batchID"]
    copy_of(ready, "run", "copy")

    second = ready.running("copy", timeout=PATIENCE)["status"]["batchID"]
    openai.release()
    ready.finished()
    copy_of(ready, "run", "late-copy")
    third = ready.finished("late-copy")["status"]["batchID"]

    assert len({first, second, third}) == 3
    assert ready.finished("copy")["status"]["phase"] == "Succeeded"
    assert len(openai.batches()) == 3


def replace_bare(world: World, name: str) -> None:
    """`kubectl replace` with a manifest that knows nothing of the operator: annotations and finalizer go."""
    shown = world.get("BatchJob", name)
    bare = {key: shown[key] for key in ("apiVersion", "kind", "spec")}
    bare["metadata"] = {"name": name, "namespace": world.namespace}
    world.cluster.kubectl("replace", "-f", "-", stdin=json.dumps(bare))


@pytest.mark.parametrize("finished", [False, True], ids=["running", "finished"])
def test_what_a_replace_dropped_is_put_back(ready, openai, finished):
    """`kubectl replace` drops annotations and finalizer of a job; both come back, and no second batch is made."""
    ready.job()
    before = ready.running(timeout=PATIENCE)
    if finished:
        openai.release()
        before = ready.finished()
    ready.until("BatchJob", "run", lambda job: job["status"].get("batchID"))
    kept = ready.get("BatchJob", "run")["metadata"]

    replace_bare(ready, "run")

    after = ready.until("BatchJob", "run", lambda job: job["metadata"].get("annotations") == kept["annotations"])
    assert after["metadata"]["finalizers"] == kept["finalizers"]
    openai.release()
    assert ready.finished()["status"]["batchID"] == before["status"]["batchID"]
    assert len(openai.batches()) == 1


def test_a_replace_in_the_middle_of_a_create_makes_no_second_batch(ready, openai):
    """The record of a create that was never answered is put back when a `kubectl replace` drops it meanwhile."""
    openai.fault("hang_after_success", "batches.create")
    openai.fault("list_lag", "batches.list", times="always", seconds=3600)
    ready.job()
    ready.until("BatchJob", "run", lambda job: job.get("status", {}).get("phase") == "Submitting", timeout=PATIENCE)

    replace_bare(ready, "run")

    ready.until(
        "BatchJob",
        "run",
        lambda job: PREFIX + "create-pending" in job["metadata"].get("annotations", {}),
        timeout=PATIENCE,
    )
    openai.clear_faults()
    job = ready.running(timeout=PATIENCE)
    assert tagged(openai, ready, "run") == [job["status"]["batchID"]]
    assert openai.calls().count("batches.create") == 1
