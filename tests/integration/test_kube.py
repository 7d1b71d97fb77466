"""The Kubernetes client against a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.ports import free_port
from llmbatch.api.batchfile import BatchFile
from llmbatch.api.batchjob import BatchJob
from llmbatch.api.modeldeployment import ModelDeployment
from llmbatch.domain.errors import OutputConflict, OutputDenied, OutputTooLarge
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.engine.clock import SystemClock
from llmbatch.kube.client import Kube
from llmbatch.kube.connect import connect
from llmbatch.kube.errors import Conflict, Forbidden, Gone, Invalid, InvalidObject, Unreachable
from llmbatch.kube.events import Events
from llmbatch.kube.lease import ApiLeases, Elector, LeadershipLost
from llmbatch.kube.outputs import OutputKind
from llmbatch.kube.secrets import SecretReader
from support.cluster import Cluster, Object

CallRecord = tuple[str, str, str]


class Connected:
    """A client as the operator has one, with the calls that it made and a guard that can be shut."""

    def __init__(self) -> None:
        self.calls: list[CallRecord] = []
        self.may_write = True

    async def connect(self, kubeconfig: Path) -> Kube:
        def observe(verb: str, resource: str, code: str, seconds: float) -> None:
            assert seconds > 0
            self.calls.append((verb, resource, code))

        self.kube = Kube(await connect({"KUBECONFIG": str(kubeconfig)}, observe=observe), self.guard)
        return self.kube

    def guard(self) -> None:
        if not self.may_write:
            raise LeadershipLost("not the leader")


@pytest.fixture
async def connected(cluster: Cluster) -> AsyncIterator[Connected]:
    made = Connected()
    await made.connect(cluster.kubeconfig)
    yield made
    await made.kube.api.close()


@pytest.fixture
def kube(connected: Connected) -> Kube:
    return connected.kube


def a_job(name: str = "run-1", **spec: object) -> Object:
    return {
        "apiVersion": "llmbatch.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name},
        "spec": {"inputFileRef": {"name": "questions"}, **spec},
    }


async def read_job(kube: Kube, namespace: str, name: str = "run-1") -> BatchJob:
    job = await kube.get(BatchJob, namespace, name)
    assert job is not None
    return job


async def test_a_resource_is_read_as_its_model(kube: Kube, cluster: Cluster, namespace: str):
    """What kubectl applied comes back as Python; what is not there, or can't be, is None."""
    cluster.create(a_job(metadata={"team": "search"}), namespace)
    job = await read_job(kube, namespace)

    assert (job.metadata.namespace, job.metadata.generation) == (namespace, 1)
    assert job.spec.metadata == {"team": "search"}
    for name in ("absent", "", "..", "../../secrets/s", "a/b", "a?b=c", "%2e%2e"):
        assert await kube.get(BatchJob, namespace, name) is None


async def test_an_object_that_does_not_fit_its_schema_is_named_without_its_content(
    kube: Kube, cluster: Cluster, namespace: str
):
    """A model stricter than what is stored raises InvalidObject for one, and hides no other in a list."""

    class StrictJob(BatchJob):
        must_be_there: int

    cluster.create(a_job(metadata={"team": "very-private"}), namespace)
    with pytest.raises(InvalidObject, match="mustBeThere") as caught:
        await kube.get(StrictJob, namespace, "run-1")

    assert "very-private" not in str(caught.value)
    assert [item async for item in kube.list(StrictJob, namespace)] == []


async def test_lists_come_in_pages(connected: Connected, cluster: Cluster, namespaces: Callable[[], str]):
    """Every object comes once, whole or metadata only, of one namespace or of all, and by label."""
    kube = connected.kube
    here, there = namespaces(), namespaces()
    for n in range(7):
        job = a_job(f"run-{n}")
        job["metadata"]["labels"] = {"odd": str(n % 2)}
        cluster.create(job, here)
    cluster.create(a_job("run-x"), there)

    whole = [job.metadata.name async for job in kube.list(BatchJob, here, limit=3)]
    assert whole == [f"run-{n}" for n in range(7)]
    assert [call for call in connected.calls if call[0] == "list"] == [("list", "batchjobs", "200")] * 3
    assert [job.metadata.name async for job in kube.list(BatchJob, here, label_selector="odd=1")] == [
        "run-1",
        "run-3",
        "run-5",
    ]
    slim = [meta async for meta in kube.list_metadata(BatchJob, here, limit=2)]
    stored = {item["metadata"]["name"]: item["metadata"] for item in cluster.list("BatchJob", here)}
    assert {meta.name: (meta.namespace, meta.uid, meta.resource_version) for meta in slim} == {
        name: (here, meta["uid"], meta["resourceVersion"]) for name, meta in stored.items()
    }
    assert [meta async for meta in kube.list_metadata(BatchFile, there)] == []
    assert [file async for file in kube.list(BatchFile, there)] == []
    everywhere = {(meta.namespace, meta.name) async for meta in kube.list_metadata(BatchJob)}
    assert {(here, "run-0"), (there, "run-x")} <= everywhere


async def test_annotations_and_finalizers_are_written_only_on_what_was_read(
    kube: Kube, cluster: Cluster, namespace: str
):
    """A patch of the metadata that is based on an older version is a Conflict and changes nothing."""
    cluster.create(a_job(), namespace)
    job = await read_job(kube, namespace)
    patched = await kube.patch_metadata(job, annotations={"llmbatch.dev/deployment": "default/east", "x": "1"})
    again = await kube.patch_metadata(patched, annotations={"x": None}, finalizers=["llmbatch.dev/finalizer"])

    assert again.metadata.annotations == {"llmbatch.dev/deployment": "default/east"}
    assert again.metadata.finalizers == ["llmbatch.dev/finalizer"]
    with pytest.raises(Conflict):
        await kube.patch_metadata(job, annotations={"llmbatch.dev/deployment": "default/west"})
    assert (await read_job(kube, namespace)).metadata == again.metadata
    await kube.patch_metadata(again, finalizers=[])


async def test_status_is_replaced_whole_whatever_the_version(kube: Kube, cluster: Cluster, namespace: str):
    """A status patch does not mind that annotations changed meanwhile, and leaves nothing of the old status."""
    cluster.create(a_job(), namespace)
    job = await read_job(kube, namespace)
    await kube.patch_status(job, {"phase": "Submitting", "progress": "0/5"})
    await kube.patch_metadata(await read_job(kube, namespace), annotations={"x": "1"})
    written = await kube.patch_status(job, {"phase": "InProgress"})

    assert written.status.phase == "InProgress"
    assert "progress" not in cluster.get("BatchJob", "run-1", namespace)["status"]
    assert written.metadata.annotations == {"x": "1"}
    assert written.metadata.generation == 1


async def test_a_status_of_an_older_version_is_refused_where_the_version_matters(
    kube: Kube, cluster: Cluster, namespace: str
):
    """What says where a batch is may be written only by who has read the newest version; it is a Conflict."""
    cluster.create(a_job(), namespace)
    old = await read_job(kube, namespace)
    newer = await kube.patch_metadata(old, annotations={"x": "1"})

    with pytest.raises(Conflict):
        await kube.patch_status(old, {"phase": "InProgress"}, at_version=True)

    written = await kube.patch_status(newer, {"phase": "Submitting"}, at_version=True)
    assert written.status.phase == "Submitting"


async def test_another_object_of_the_same_name_is_never_written(kube: Kube, cluster: Cluster, namespace: str):
    """What was read and then made anew is Gone for status, not patched in its metadata, and not deleted."""
    cluster.create(a_job(), namespace)
    old = await read_job(kube, namespace)
    cluster.delete("BatchJob", "run-1", namespace)
    cluster.create(a_job(), namespace)

    with pytest.raises(Gone):
        await kube.patch_status(old, {"phase": "InProgress"})
    with pytest.raises((Conflict, Gone)):
        await kube.patch_metadata(old, annotations={"x": "1"})
    meta = {
        **old.metadata.model_dump(),
        "resource_version": (await read_job(kube, namespace)).metadata.resource_version,
    }
    with pytest.raises(Gone):
        await kube.patch_metadata(
            old.model_copy(update={"metadata": type(old.metadata)(**meta)}), annotations={"x": "1"}
        )
    with pytest.raises(Conflict):
        await kube.delete(old)
    stored = cluster.get("BatchJob", "run-1", namespace)
    assert "annotations" not in stored["metadata"]
    assert stored.get("status", {}).get("phase") != "InProgress"


async def test_what_is_gone_is_gone(kube: Kube, cluster: Cluster, namespace: str):
    """Patches of a deleted object raise Gone; deleting it again is well."""
    cluster.create(a_job(), namespace)
    job = await read_job(kube, namespace)
    await kube.delete(job)

    assert await kube.get(BatchJob, namespace, "run-1") is None
    await kube.delete(job)
    with pytest.raises(Gone):
        await kube.patch_status(job, {"phase": "InProgress"})
    with pytest.raises(Gone):
        await kube.patch_metadata(job, annotations={"x": "1"})


async def test_a_status_that_the_schema_refuses_is_invalid_and_not_quoted(kube: Kube, cluster: Cluster, namespace: str):
    """A refusal of content is told from a failed test, and names the field without its value."""
    cluster.create(a_job(), namespace)
    with pytest.raises(Invalid) as caught:
        await kube.patch_status(await read_job(kube, namespace), {"phase": "a very private completion"})

    assert not isinstance(caught.value, Gone)
    assert "status.phase" in str(caught.value)
    assert "private" not in str(caught.value)


async def test_nothing_is_written_when_the_guard_says_no(connected: Connected, cluster: Cluster, namespace: str):
    """Every writing call asks first, and then the API server hears nothing of it; reads go on."""
    kube = connected.kube
    cluster.create(a_job(), namespace)
    job = await read_job(kube, namespace)
    owner = OutputOwner("run-1", namespace, job.metadata.uid)
    connected.may_write = False
    connected.calls.clear()

    with pytest.raises(LeadershipLost):
        await kube.patch_status(job, {"phase": "InProgress"})
    with pytest.raises(LeadershipLost):
        await kube.patch_metadata(job, annotations={"x": "1"})
    with pytest.raises(LeadershipLost):
        await kube.delete(job)
    with pytest.raises(LeadershipLost):
        await Events(kube, SystemClock(), instance="test").record(job, "Normal", "Tested", "message")
    with pytest.raises(LeadershipLost):
        await kube.write_output("ConfigMap", namespace, "out", {"k": b"v"}, owner=owner, retain=True)
    assert not connected.calls
    assert await read_job(kube, namespace) == job


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
async def test_output_is_written_replaced_and_written_only_once(
    connected: Connected, cluster: Cluster, namespace: str, kind: OutputKind
):
    """An output reads back byte for byte; the same job may replace it, and the same content is no write."""
    kube = connected.kube
    owner = OutputOwner("run-1", namespace, "uid-1")
    read = kube.config_map if kind == "ConfigMap" else kube.secret
    first = {"output.jsonl": '{"a":"naïve ж"}\n'.encode(), "binary": b"\xff\xfe\x00"}
    await kube.write_output(kind, namespace, "out", first, owner=owner, retain=True)
    assert await read(namespace, "out") == first
    stored = cluster.get(kind, "out", namespace)["metadata"]
    assert stored["labels"]["llmbatch.dev/job-uid"] == "uid-1"
    assert "ownerReferences" not in stored

    connected.calls.clear()
    await kube.write_output(kind, namespace, "out", first, owner=owner, retain=True)
    assert [verb for verb, _, code in connected.calls if code < "300"] == ["get"]
    second = {"output.jsonl": b"other\n"}
    await kube.write_output(kind, namespace, "out", second, owner=owner, retain=True)

    assert await read(namespace, "out") == second
    assert cluster.get(kind, "out", namespace)["metadata"]["uid"] == stored["uid"]


async def test_an_output_that_is_not_this_jobs_is_left_alone(kube: Kube, cluster: Cluster, namespace: str):
    """Neither a stranger's object nor that of an earlier job of the same name is overwritten."""
    cluster.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {"k": "v"}}, namespace
    )
    with pytest.raises(OutputConflict, match="mine"):
        await kube.write_output(
            "ConfigMap", namespace, "mine", {"k": b"x"}, owner=OutputOwner("j", namespace, "u"), retain=True
        )
    await kube.write_output(
        "ConfigMap", namespace, "old", {"k": b"1"}, owner=OutputOwner("j", namespace, "u-1"), retain=True
    )
    with pytest.raises(OutputConflict):
        await kube.write_output(
            "ConfigMap", namespace, "old", {"k": b"2"}, owner=OutputOwner("j", namespace, "u-2"), retain=True
        )

    assert await kube.config_map(namespace, "mine") == {"k": b"v"}
    assert await kube.config_map(namespace, "old") == {"k": b"1"}


async def test_an_output_can_be_checked_before_anything_is_spent(
    connected: Connected, cluster: Cluster, namespace: str
):
    """A name that is free, or this job's own, is well; a stranger's is a conflict. Nothing is written."""
    kube = connected.kube
    mine, other = OutputOwner("j", namespace, "u-1"), OutputOwner("j", namespace, "u-2")
    await kube.check_output("ConfigMap", namespace, "out", owner=mine)
    await kube.write_output("ConfigMap", namespace, "out", {"k": b"1"}, owner=mine, retain=True)
    connected.calls.clear()
    await kube.check_output("ConfigMap", namespace, "out", owner=mine)
    with pytest.raises(OutputConflict):
        await kube.check_output("ConfigMap", namespace, "out", owner=other)

    assert {verb for verb, _, _ in connected.calls} == {"get"}


async def test_an_output_that_is_not_retained_goes_with_its_job(kube: Kube, cluster: Cluster, namespace: str):
    """The garbage collector removes it; a retained one stays."""
    cluster.create(a_job(), namespace)
    job = await read_job(kube, namespace)
    owner = OutputOwner("run-1", namespace, job.metadata.uid)
    await kube.write_output("Secret", namespace, "goes", {"k": b"v"}, owner=owner, retain=False)
    await kube.write_output("Secret", namespace, "stays", {"k": b"v"}, owner=owner, retain=True)
    await kube.delete(job)

    cluster.wait_gone("Secret", "goes", namespace)
    assert await kube.secret(namespace, "stays") == {"k": b"v"}


async def test_a_megabyte_of_another_alphabet_fits_and_more_does_not(kube: Kube, namespace: str):
    """The limit is the API server's, in bytes of the content and not of its JSON."""
    owner = OutputOwner("run-1", namespace, "u")
    text = ("ж" * (1_048_576 // 2)).encode()
    await kube.write_output("ConfigMap", namespace, "fits", {"k": text}, owner=owner, retain=True)
    assert await kube.config_map(namespace, "fits") == {"k": text}

    more: list[tuple[OutputKind, int]] = [("ConfigMap", 1_048_577), ("Secret", 1_048_577), ("ConfigMap", 8_000_000)]
    for kind, size in more:
        with pytest.raises(OutputTooLarge, match="url"):
            await kube.write_output(
                kind, namespace, f"more-{kind.lower()}", {"k": b"a" * size}, owner=owner, retain=True
            )


async def test_an_output_in_a_terminating_namespace_is_denied(kube: Kube, cluster: Cluster, namespace: str):
    """Nothing can be made there, which is said as what it is; an Event that fails there fails nobody."""
    job = a_job()
    job["metadata"]["finalizers"] = ["llmbatch.dev/finalizer"]
    cluster.create(job, namespace)
    cluster.delete("Namespace", namespace)
    cluster.wait_for("Namespace", namespace, None, lambda seen: "deletionTimestamp" in seen["metadata"])
    read = await read_job(kube, namespace)

    with pytest.raises(OutputDenied):
        await kube.write_output(
            "ConfigMap", namespace, "out", {"k": b"v"}, owner=OutputOwner("j", namespace, "u"), retain=True
        )
    with pytest.raises(Forbidden) as caught:
        await kube.create_event(namespace, an_event(read))
    assert caught.value.terminating
    await Events(kube, SystemClock(), instance="test").record(read, "Normal", "Tested", "message")
    view = await kube.namespace(namespace)
    assert view is not None
    assert view.terminating
    await kube.patch_metadata(await read_job(kube, namespace), finalizers=[])


def an_event(job: BatchJob) -> Object:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "direct", "namespace": job.metadata.namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "llmbatch-operator",
        "reportingInstance": "test",
        "action": "Tested",
        "reason": "Tested",
        "type": "Normal",
        "regarding": {"kind": "BatchJob", "namespace": job.metadata.namespace, "name": job.metadata.name},
    }


async def test_events_are_where_kubectl_describe_looks(kube: Kube, cluster: Cluster, namespace: str):
    """A recorded Event belongs to its object, also when message and name are as long as can be."""
    cluster.create(a_job("j" * 253), namespace)
    job = await read_job(kube, namespace, "j" * 253)
    events = Events(kube, SystemClock(), instance="i" * 300)
    await events.record(job, "Normal", "BatchCreated", "ж" * 3000)
    await events.record(job, "Normal", "BatchCreated", "ж" * 3000)

    [event] = [item for item in cluster.list("Event", namespace) if item.get("reason") == "BatchCreated"]
    about = event.get("regarding") or event["involvedObject"]
    assert (about["kind"], about["uid"]) == ("BatchJob", job.metadata.uid)


async def test_secrets_and_namespaces(kube: Kube, cluster: Cluster, namespace: str):
    """Keys come decoded, labels as they are, and the cluster has a UID."""
    cluster.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"api-key": "sk-1\n"}},
        namespace,
    )
    reader = SecretReader(kube, SystemClock())
    view = await kube.namespace(namespace)

    assert await reader.key(namespace, "s", "api-key") == "sk-1"
    assert await kube.secret(namespace, "absent") is None
    assert view is not None
    assert (view.labels["kubernetes.io/metadata.name"], view.terminating) == (namespace, False)
    assert await kube.namespace("absent") is None
    assert await kube.cluster_uid() == cluster.get("Namespace", "kube-system")["metadata"]["uid"]
    assert await kube.served() == {kind.PLURAL for kind in (BatchFile, BatchJob, ModelDeployment)}
    await kube.ping()
    assert kube.api.answered_at is not None


@pytest.mark.parametrize("path", ["../../{other}/secrets/s", "../configmaps/s", "s/../../../../{other}/secrets/s"])
async def test_a_name_cannot_lead_elsewhere(kube: Kube, cluster: Cluster, namespaces: Callable[[], str], path: str):
    """A reference that a tenant writes reads nothing of another namespace, and no other kind."""
    here, there = namespaces(), namespaces()
    content = {"metadata": {"name": "s"}, "data": {"key": "c2VjcmV0"}}
    cluster.create({"apiVersion": "v1", "kind": "Secret", **content}, there)
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", **content}, here)
    name = path.format(other=there)

    assert await kube.secret(here, name) is None
    assert await kube.config_map(here, name) is None
    with pytest.raises(OutputDenied):
        await kube.write_output("Secret", here, name, {"k": b"v"}, owner=OutputOwner("j", here, "u"), retain=True)


async def test_a_refusal_by_rbac_says_what_is_missing(cluster: Cluster, namespace: str, tmp_path: Path):
    """Forbidden names verb and resource, so that an administrator can correct the role."""
    nobody = cluster.service_account("nobody", namespace, tmp_path)
    connected = Connected()
    kube = await connected.connect(nobody.kubeconfig)
    with pytest.raises(Forbidden, match="secrets") as caught:
        await kube.secret(namespace, "s")

    assert not caught.value.terminating
    assert connected.calls == [("get", "secrets", "403")]
    await kube.api.close()


async def test_no_api_server_is_unreachable(cluster: Cluster, tmp_path: Path):
    """A refused connection is an error that a retry can help with, and is counted."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig.read_text().replace(cluster.url, f"https://127.0.0.1:{free_port()}"))
    connected = Connected()
    kube = await connected.connect(kubeconfig)
    with pytest.raises(Unreachable) as caught:
        await kube.ping()

    assert caught.value.retryable
    assert connected.calls == [("get", "", "error")]
    await kube.api.close()


async def test_an_election_on_a_real_lease(kube: Kube, cluster: Cluster, namespace: str):
    """Of two processes one leads; when it gives the lease back the other leads, and the Lease tells who."""
    clock = SystemClock()

    def elector(name: str) -> Elector:
        return Elector(
            ApiLeases(kube.api, namespace, "llmbatch"),
            name,
            clock,
            lease_duration=15,
            renew_deadline=10,
            retry_period=0.1,
        )

    first, second = elector("first"), elector("second")
    led = {"first": asyncio.Event(), "second": asyncio.Event()}
    tasks = [asyncio.create_task(first.run(led["first"].set))]
    await led["first"].wait()
    tasks.append(asyncio.create_task(second.run(led["second"].set)))
    before = cluster.get("Lease", "llmbatch", namespace)
    assert before["spec"]["holderIdentity"] == "first"
    changed = asyncio.to_thread(
        cluster.wait_for,
        "Lease",
        "llmbatch",
        namespace,
        lambda seen: seen["spec"]["renewTime"] != before["spec"]["renewTime"],
    )
    await changed
    assert (first.leading, second.leading) == (True, False)
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    await first.release()
    await asyncio.wait_for(led["second"].wait(), 10)

    spec = cluster.get("Lease", "llmbatch", namespace)["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 1)
    assert datetime.fromisoformat(spec["renewTime"]) <= datetime.now(UTC)
    second.guard()
    with pytest.raises(LeadershipLost):
        first.guard()
    tasks[1].cancel()
