"""The control plane that the other tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cluster import ApiError, Cluster, Write, poll

ASK_FOR_ONE = """
import signal
from controlplane.session import Session, await_address
session = Session.begin()
await_address(session.folder)
print(session.folder, session.process.pid, flush=True)
signal.pause()
"""


def test_an_applied_object_comes_back_and_can_be_patched_listed_and_deleted(cluster: Cluster, namespace: str):
    """The client of the tests speaks to a real API server."""
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: one, labels: {a: b}}, data: {k: v}}", namespace)
    cluster.patch("configmaps", "one", namespace, {"data": {"k": "w"}})
    cluster.patch("cm", "one", namespace, [{"op": "test", "path": "/data/k", "value": "w"}])

    assert cluster.get("ConfigMap", "one", namespace)["data"] == {"k": "w"}
    assert [item["kind"] for item in cluster.list("cm", namespace, selector="a=b")] == ["ConfigMap"]
    assert cluster.list("cm", namespace, selector="a=c") == []
    cluster.delete("ConfigMap", "one", namespace)
    cluster.wait_gone("ConfigMap", "one", namespace)


def test_kubectl_reads_what_the_client_wrote(cluster: Cluster, namespace: str):
    """kubectl stands beside the server and uses the same kubeconfig."""
    cluster.kubectl("apply", "-f", "-", "-n", namespace, stdin="{apiVersion: v1, kind: Secret, metadata: {name: s}}")

    assert cluster.get("Secret", "s", namespace)["type"] == "Opaque"


def test_waiting_in_vain_shows_the_object(cluster: Cluster, namespace: str):
    """A test that waits for what never comes says what was there instead."""
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"k": "v"}}, namespace)

    with pytest.raises(AssertionError, match="k: v"):
        cluster.wait_for("ConfigMap", "one", namespace, lambda _: False, timeout=0.1)


def test_an_owned_object_goes_with_its_owner(cluster: Cluster, namespace: str):
    """The garbage collector runs."""
    owner = cluster.create({"kind": "ConfigMap", "metadata": {"name": "owner"}}, namespace)
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    cluster.create({"kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [reference]}}, namespace)

    cluster.delete("ConfigMap", "owner", namespace)

    cluster.wait_gone("ConfigMap", "owned", namespace)


def test_a_namespace_gets_its_service_account_and_goes_with_all_in_it(cluster: Cluster, namespaces: Callable[[], str]):
    """The ServiceAccount and namespace controllers run."""
    name = namespaces()
    cluster.create({"kind": "ConfigMap", "metadata": {"name": "one"}}, name)
    cluster.wait_for("ServiceAccount", "default", name, bool)

    cluster.delete("Namespace", name)

    cluster.wait_gone("Namespace", name)


def test_a_service_account_may_do_what_its_role_says_and_no_more(cluster: Cluster, namespace: str, tmp_path: Path):
    """RBAC is enforced, for tests of the operator's own rights."""
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]

    reader = cluster.service_account("reader", namespace, tmp_path, rules=rules)

    assert reader.list("ConfigMap", namespace) == cluster.list("ConfigMap", namespace)
    with pytest.raises(ApiError) as refused:
        reader.list("Secret", namespace)
    assert refused.value.status == 403


def test_the_writes_of_a_client_in_a_namespace_can_be_counted(cluster: Cluster, namespace: str):
    """Reads, other namespaces and the writes of the tests themselves are left out."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.request("POST", path, {"metadata": {"name": "one"}}, user_agent="somebody")
    cluster.request("GET", f"{path}/one", user_agent="somebody")
    cluster.patch("ConfigMap", "one", namespace, {"data": {"k": "v"}})

    assert cluster.writes(namespace) == [Write("create", "configmaps", "", "one", 201, "somebody")]
    assert cluster.writes(namespace, "batchjobs") == []


@pytest.mark.parametrize("victim", ["the one who asked", "the one who serves"])
def test_nothing_of_a_control_plane_outlives_a_kill(victim: str):
    """SIGKILL of either process leaves no server running."""
    path = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-c", ASK_FOR_ONE]
    with subprocess.Popen(command, env={**os.environ, **path}, text=True, stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        folder, serving = asking.stdout.readline().split()
        assert len(_processes_of(folder)) == 4  # etcd, the API server, the controller-manager, and who serves
        try:
            os.kill(asking.pid if victim == "the one who asked" else int(serving), signal.SIGKILL)

            assert poll(lambda: _processes_of(folder) == [], 30), _processes_of(folder)
        finally:
            asking.kill()


def _processes_of(folder: str) -> list[str]:
    """The command lines of running processes that name the folder."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if folder in line:
            found.append(line)
    return found
