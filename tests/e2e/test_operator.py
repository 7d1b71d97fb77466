"""The operator in real pods: installed, killed, moved, upgraded and uninstalled, and no batch lost or made twice."""

from __future__ import annotations

import tarfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from e2e.clusters import PodCluster
from e2e.figures import Figures
from e2e.node.images import PROJECT, version_of
from e2e.provider import EXAMPLES
from e2e.release import CHART, LABEL, NAMESPACE, Release
from support.cluster import ApiError, Cluster, Object, condition, poll
from support.emulator import Account
from support.jobs import custom_ids, status
from support.world import World

JOBS = 30
PATIENCE = 120.0
INSTALL_SECONDS, READY_SECONDS, MEGABYTES = 60.0, 3.0, 120.0
AFTER_A_KILL, AFTER_A_STOP = 20.0, 5.0
PREVIOUS = Path(__file__).resolve().parent / "previous"

Furnish = Callable[[], World]


def test_helm_installs_it(chart: Release, image: str, pods: PodCluster, figures: Figures):
    """`helm install --wait` leaves two pods at work, and none takes more memory than it should."""
    chart.uninstall()
    figures.add("helm install --wait", chart.install(CHART, image), "s", INSTALL_SECONDS)
    chart.until_ready()

    memory = max(megabytes(pods.cluster, pod) for pod in chart.pods())
    figures.add("a pod's memory, idle", memory, "MB", MEGABYTES)
    assert memory <= MEGABYTES


def test_a_pod_takes_anothers_place(release: Release, figures: Figures):
    """A standby that is gone comes back, and the leader stays."""
    leader = release.leader()["metadata"]["name"]
    (standby,) = (pod["metadata"]["name"] for pod in release.pods() if pod["metadata"]["name"] != leader)
    release.cluster.delete("Pod", standby, NAMESPACE)
    release.until_ready()

    (fresh,) = (pod for pod in release.pods() if pod["metadata"]["name"] not in (leader, standby))
    figures.add("a pod's start until it is Ready", seconds_until_ready(fresh), "s", READY_SECONDS)
    assert release.leader()["metadata"]["name"] == leader


def test_the_namespace_enforces_the_restricted_standard(release: Release):
    """The pods of the chart run where a pod that asks for more is refused."""
    container = {"name": "any", "image": "any"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": {"containers": [container]}}

    with pytest.raises(ApiError, match="restricted"):
        release.cluster.create(pod, NAMESPACE)


def test_the_example_runs(release: Release):
    """The model, file and job of examples/emulator end with answers."""
    release.cluster.apply((EXAMPLES / "jobs.yaml").read_text(), "llmbatch-demo")
    demo = World(release.cluster, "llmbatch-demo")

    assert status(demo.finished("run-1", timeout=PATIENCE))["phase"] == "Succeeded"
    assert custom_ids(demo.output("run-1-output")["output.jsonl"]) == ["capital-1", "capital-2", "haiku"]


def test_jobs_outlive_the_leaders_pod(
    release: Release, world: Furnish, account: Account, pods: PodCluster, figures: Figures
):
    """The leader's pod is deleted while batches are made: the other one works, and every job ends once."""
    account.hold()
    team = world()
    jobs = start_jobs(team)
    until_batches(account, 1)

    leader, former = release.leader(), release.holder()
    begun = time.monotonic()
    pods.cluster.delete("Pod", leader["metadata"]["name"], NAMESPACE)
    until_another_works(release, former, account)
    figures.add("clean stop: until the other pod works", time.monotonic() - begun, "s", AFTER_A_STOP)

    assert_each_ran_once(team, account, jobs)
    assert custom_ids(team.output("output-0")["output.jsonl"]) == ["request-0", "request-1", "request-2"]
    release.until_ready()
    memory = max(megabytes(pods.cluster, pod) for pod in release.pods())
    figures.add(f"a pod's memory after {JOBS} jobs", memory, "MB", MEGABYTES)
    assert memory <= MEGABYTES


def test_jobs_outlive_the_leaders_process(
    release: Release, world: Furnish, account: Account, pods: PodCluster, figures: Figures
):
    """The leader's process is killed while batches are made: another works, and every job ends once."""
    account.hold()
    team = world()
    jobs = start_jobs(team)
    until_batches(account, 1)

    leader, former = release.leader(), release.holder()
    begun = time.monotonic()
    pods.kill(leader)
    until_another_works(release, former, account)
    figures.add("SIGKILL: until another process works", time.monotonic() - begun, "s", AFTER_A_KILL)

    assert_each_ran_once(team, account, jobs)


def test_a_drain_leaves_one_pod_at_work(release: Release, world: Furnish, account: Account, pods: PodCluster):
    """A drain evicts a pod; the other one stays, by the budget, until there is room for a new one."""
    account.hold()
    team = world()
    jobs = start_jobs(team, 5)
    until_batches(account, 5)
    alone = len(schedulable(pods.cluster)) == 1
    node = release.leader()["spec"]["nodeName"]
    try:
        drained = pods.cluster.kubectl(
            "drain", node, f"--pod-selector={LABEL}", "--ignore-daemonsets", "--timeout=15s", check=False
        )
        if alone:  # nowhere to go: the budget holds the drain up rather than leave nobody at work
            assert drained.returncode
            assert "disruption budget" in drained.stderr
            (kept,) = release.ready_pods()
            with pytest.raises(ApiError, match="disruption budget") as refusal:
                evict(pods.cluster, kept)
            assert refusal.value.status == 429
        else:
            assert not drained.returncode, drained.stderr
        jobs.append(team.job("late"))
        until_batches(account, len(jobs))
    finally:
        pods.cluster.kubectl("uncordon", node)

    release.until_ready()
    assert_each_ran_once(team, account, jobs)


def test_jobs_outlive_an_uninstall(release: Release, image: str, world: Furnish, account: Account):
    """Uninstalled, the release leaves the kinds and the jobs; installed again, it goes on where it was."""
    account.hold()
    team = world()
    jobs = start_jobs(team)
    until_batches(account, JOBS)

    release.uninstall()
    account.release()
    assert {job["metadata"]["name"] for job in release.cluster.list("BatchJob", team.namespace)} == set(jobs)
    assert release.cluster.list("Deployment", NAMESPACE) == []

    release.install(CHART, image)
    assert_each_ran_once(team, account, jobs)


def test_jobs_outlive_an_upgrade(
    chart: Release, image: str, world: Furnish, account: Account, pods: PodCluster, tmp_path: Path, diagnostics
):
    """The previous release is upgraded under running jobs: there are always two pods, and every job ends once."""
    diagnostics.add("the operator's pods", chart.logs)
    before = previous_release(tmp_path)
    chart.uninstall()
    chart.install(before / "charts" / "llmbatch-operator", pods.provide(before))
    assert crd_versions(pods.cluster) == {version_of(before)}
    account.hold()
    team = world()
    jobs = start_jobs(team)
    until_batches(account, JOBS)

    with ThreadPoolExecutor() as pool:
        upgrade = pool.submit(chart.install, CHART, image)
        ready = [len(chart.ready_pods())]
        while not upgrade.done():
            ready.append(len(chart.ready_pods()))
        upgrade.result()

    assert min(ready) >= 1
    assert crd_versions(pods.cluster) == {version_of(PROJECT)}
    assert {pod["spec"]["containers"][0]["image"] for pod in chart.pods()} == {image}
    assert_each_ran_once(team, account, jobs)


def start_jobs(world: World, count: int = JOBS) -> list[str]:
    """Apply jobs of the namespace's file."""
    return [world.job(f"run-{at}", output={"configMap": {"name": f"output-{at}"}}) for at in range(count)]


def until_another_works(release: Release, former: str, account: Account) -> None:
    """Wait until another process than `former` holds the Lease, and a call of it has come to the provider."""
    assert poll(lambda: release.holder() not in ("", former), PATIENCE), f"{former!r} still holds the Lease"
    so_far = account.calls().total  # the former one holds back all calls when the Lease is no longer its own
    assert poll(lambda: account.calls().total > so_far, PATIENCE), "nobody calls the provider"


def tags(account: Account) -> Counter[str]:
    """The jobs that the provider has batches of, by uid."""
    return Counter(batch["metadata"]["llmbatch-uid"] for batch in account.batches())


def until_batches(account: Account, count: int) -> None:
    """Wait until the provider has so many batches."""
    reached = poll(lambda: len(account.batches()) >= count, PATIENCE)
    assert reached, f"the provider has {len(account.batches())} batches, not {count}"


def assert_each_ran_once(world: World, account: Account, jobs: list[str]) -> None:
    """Every job ends well, and the provider was asked for one batch for each."""
    account.release()
    for name in jobs:
        assert status(world.finished(name, timeout=PATIENCE))["phase"] == "Succeeded"
    assert tags(account) == Counter(world.get("BatchJob", name)["metadata"]["uid"] for name in jobs)
    assert account.calls().count("batches.create", 200) == len(jobs)


def seconds_until_ready(pod: Object) -> float:
    """From the start of the container to the pod's being Ready; Kubernetes tells both in whole seconds."""
    (container,) = pod["status"]["containerStatuses"]
    ready = condition(pod, "Ready") or {}
    begun, ended = (
        datetime.fromisoformat(text)
        for text in (container["state"]["running"]["startedAt"], ready["lastTransitionTime"])
    )
    return (ended - begun).total_seconds()


def megabytes(cluster: Cluster, pod: Object) -> float:
    """A pod's working set as its kubelet tells it, which `kubectl top` shows; it looks every ten seconds or so."""
    found: list[float] = []

    def told() -> bool:
        summary = cluster.request("GET", f"/api/v1/nodes/{pod['spec']['nodeName']}/proxy/stats/summary")
        mine = (one["memory"] for one in summary["pods"] if one["podRef"]["uid"] == pod["metadata"]["uid"])
        found[:] = [memory["workingSetBytes"] / 1e6 for memory in mine if memory.get("workingSetBytes")]
        return bool(found)

    assert poll(told, PATIENCE), "the kubelet does not tell the pod's memory"
    return found[0]


def schedulable(cluster: Cluster) -> list[Object]:
    """The nodes that take pods."""
    return [node for node in cluster.list("Node") if not node["spec"].get("taints")]


def evict(cluster: Cluster, pod: Object) -> None:
    """Ask for an eviction, as a drain does. Raises ApiError."""
    name = pod["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
    cluster.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction", body)


def crd_versions(cluster: Cluster) -> set[str]:
    """The versions of the chart that the definitions of our kinds come from."""
    found = (item["metadata"] for item in cluster.list("CustomResourceDefinition"))
    return {
        metadata["labels"]["app.kubernetes.io/version"]
        for metadata in found
        if metadata["name"].endswith(".llmbatch.dev")
    }


def previous_release(folder: Path) -> Path:
    """The source of the release before this one, unpacked."""
    (archive,) = PREVIOUS.glob("*.tar.xz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    (project,) = folder.iterdir()
    return project
