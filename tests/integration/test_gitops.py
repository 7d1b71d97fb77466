"""Argo CD and Flux apply the same manifests again and again: nothing differs, nothing changes, nothing runs twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import kstatus
from support.argocd import LAST_APPLIED, health, predicted, script_of
from support.cluster import Cluster, Object, condition
from support.diagnostics import Diagnostics
from support.emulator import Account
from support.shared_operator import SharedOperator, shared_operator
from support.world import World

BATCHES = Path(__file__).resolve().parents[2] / "examples" / "argocd" / "batches"
OURS = ("ModelDeployment", "BatchFile", "BatchJob")
PREFIX = "llmbatch.dev/"
PATIENCE = 60.0

CLIENT = ("apply",)
SERVER = ("apply", "--server-side", "--force-conflicts", "--field-manager", "argocd-controller")
REPLACE = ("replace",)
WAYS = {"client-side": CLIENT, "server-side": SERVER, "replace": REPLACE}


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1")
    with shared_operator(cluster, tmp_path_factory.mktemp("gitops"), namespaces=24, flags=flags) as running:
        yield running


@dataclass
class Repository:
    """The manifests of examples/argocd as a team has them in Git, on a provider of this test's own."""

    world: World
    account: Account
    folder: Path
    spec: dict[str, Any] = field(default_factory=dict)
    """What the job's spec has besides; None takes a field out."""

    def replace(self, file: str, old: str, new: str) -> None:
        """Change a file; it must hold what is changed."""
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def manifests(self) -> list[Object]:
        """What kustomize makes of them, as Argo CD and Flux run it."""
        shown = self.world.cluster.kubectl("kustomize", str(self.folder)).stdout
        found: list[Object] = list(yaml.safe_load_all(shown))
        for item in found:
            item["metadata"]["namespace"] = self.world.namespace
            if item["kind"] == "ModelDeployment":
                item["spec"]["openAI"]["baseURL"] = self.account.url
            if item["kind"] == "BatchJob":
                item["spec"] = {key: value for key, value in {**item["spec"], **self.spec}.items() if value is not None}
        return found

    def sync(self, way: Sequence[str] = SERVER, *, check: bool = True) -> str:
        """Put them into the cluster, and answer what kubectl says."""
        text = yaml.safe_dump_all(self.manifests())
        done = self.world.cluster.kubectl(*way, "--validate=strict", "-f", "-", stdin=text, check=check)
        return done.stdout + done.stderr

    def applied(self, *kinds: str) -> list[Object]:
        """The manifests of these kinds; without any, of all that are ours."""
        return [item for item in self.manifests() if item["kind"] in (kinds or OURS)]

    def live(self, *kinds: str) -> list[Object]:
        """What became of them in the cluster."""
        return [self.world.get(item["kind"], item["metadata"]["name"]) for item in self.applied(*kinds)]


@pytest.fixture
def repository(
    shared: SharedOperator, account: Callable[..., Account], diagnostics: Diagnostics, tmp_path: Path
) -> Repository:
    """A repository, and a namespace with the Secret that is not in Git."""
    world, openai = shared.world(diagnostics), account("openai", provider="openai")
    world.secret("openai", api_key=openai.key)
    return Repository(world, openai, Path(shutil.copytree(BATCHES, tmp_path / "batches")))


def kept(item: Object) -> Mapping[str, Any]:
    """What applying the same again may not change."""
    annotations = {key: value for key, value in item["metadata"]["annotations"].items() if key != LAST_APPLIED}
    metadata = {key: item["metadata"].get(key) for key in ("uid", "generation", "finalizers", "labels")}
    return {**metadata, "annotations": annotations, "spec": item["spec"], "status": item["status"]}


def versions(items: Sequence[Object]) -> list[str]:
    """Their resourceVersions."""
    return [item["metadata"]["resourceVersion"] for item in items]


def settle(repository: Repository) -> None:
    """Return when the operator has seen all that was written before: it has run a job that was made after that."""
    world = repository.world
    (file,) = repository.applied("BatchFile")
    world.job("later", file=file["metadata"]["name"])
    assert world.finished("later")["status"]["phase"] == "Succeeded"


# --- the same again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("client-side", "client-side"),
        ("server-side", "server-side"),
        ("client-side", "server-side"),
        ("server-side", "client-side"),
    ],
)
def test_applying_the_same_again_changes_nothing_and_runs_nothing(repository, first, again):
    """After the job has finished its manifests differ from nothing, and are applied without effect: one batch."""
    repository.sync(WAYS[first])
    repository.world.finished("run-1")
    before = repository.live("BatchFile", "BatchJob")
    text = yaml.safe_dump_all(repository.manifests())

    difference = repository.world.cluster.kubectl("diff", *WAYS[first][1:], "-f", "-", stdin=text, check=False)
    repository.sync(WAYS[again])
    repository.sync(WAYS[again])

    assert (difference.returncode, difference.stdout) == (0, "")
    settle(repository)
    after = repository.live("BatchFile", "BatchJob")
    assert [kept(item) for item in after] == [kept(item) for item in before]
    if first == again:
        assert versions(after) == versions(before)
    assert len(repository.account.batches()) == 2
    assert repository.account.calls().count("files.create") == 1


@pytest.mark.parametrize("held", [True, False], ids=["running", "finished"])
def test_a_replace_is_mended_and_runs_nothing(repository, held):
    """Replace=true takes the operator's annotations and finalizer away; they come back, and there is one batch."""
    if held:
        repository.account.hold()
    repository.sync(CLIENT)
    wait = repository.world.running if held else repository.world.finished
    before = wait("run-1", timeout=PATIENCE)["metadata"]
    ours = {key: value for key, value in before["annotations"].items() if key.startswith(PREFIX)}

    repository.sync(REPLACE)

    repository.world.until(
        "BatchJob",
        "run-1",
        lambda job: ours.items() <= job["metadata"]["annotations"].items() and job["metadata"].get("finalizers"),
    )
    repository.account.release()
    job = repository.world.finished("run-1")
    assert (job["metadata"]["uid"], job["metadata"]["generation"]) == (before["uid"], before["generation"])
    settle(repository)
    assert len(repository.account.batches()) == 2


def test_what_git_does_not_name_stays_as_a_person_set_it(repository):
    """A job that somebody cancelled stays cancelled, though Git says nothing of it, and shows no difference."""
    repository.account.hold()
    repository.sync()
    repository.world.running("run-1", timeout=PATIENCE)
    repository.world.cluster.patch("BatchJob", "run-1", repository.world.namespace, {"spec": {"cancel": True}})

    repository.sync()

    job = repository.world.finished("run-1")
    assert job["status"]["phase"] == "Cancelled"
    assert health(job).status == "Healthy"
    assert predicted(job, *repository.applied("BatchJob"), *repository.applied("BatchJob")) == job


# --- what a sync would see --------------------------------------------------------------------------------------------


def paths(fields: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The leaves of what a field manager owns, as `fieldsV1` has them."""
    for name, below in fields.items():
        if below:
            yield from paths(below, (*at, name))
        elif name != ".":
            yield (*at, name)


def is_the_operators(path: tuple[str, ...]) -> bool:
    """Whether a field is of those that the operator may write."""
    match path:
        case ("f:status", *_) | ("f:metadata", "f:finalizers", *_):
            return True
        case ("f:metadata", "f:annotations", name):
            return name.startswith(f"f:{PREFIX}")
    return False


def test_the_operator_owns_its_annotations_the_finalizer_and_status(repository):
    """Server-side apply finds nothing in conflict: no field of spec, no label and no other annotation is its own."""
    repository.sync(SERVER)
    repository.world.finished("run-1")

    entries = [entry for item in repository.live() for entry in item["metadata"]["managedFields"]]

    operators = [entry for entry in entries if entry["manager"] != "argocd-controller"]
    owned = {path for entry in operators for path in paths(entry["fieldsV1"])}
    assert {path[0] for path in owned} == {"f:metadata", "f:status"}
    assert [path for path in owned if not is_the_operators(path)] == []


@pytest.mark.parametrize("way", ["client-side", "server-side"])
def test_argo_cd_sees_no_difference_at_any_time(repository, way):
    """Its three-way comparison finds each object, while the job runs and when it has finished, as it is in Git."""
    repository.account.hold()
    repository.sync(WAYS[way])

    def differing() -> list[str]:
        return [
            item["kind"]
            for item, live in zip(repository.applied(), repository.live(), strict=True)
            if predicted(live, item, last_applied(live) or item) != live
        ]

    repository.world.running("run-1", timeout=PATIENCE)
    while_running = differing()
    repository.account.release()
    repository.world.finished("run-1")

    assert (while_running, differing()) == ([], [])


def last_applied(live: Object) -> Object | None:
    """What client-side apply left of the manifest."""
    noted = live["metadata"].get("annotations", {}).get(LAST_APPLIED)
    return json.loads(noted) if noted else None


def test_what_argo_cd_tracks_a_job_by_is_not_on_its_output(repository):
    """A ConfigMap of results that bore the Application's marks would be pruned by it, being in no repository."""
    marks = {"argocd.argoproj.io/tracking-id": "batches:llmbatch.dev/BatchJob:team/run-1"}
    labels = {"app.kubernetes.io/instance": "batches", "argocd.argoproj.io/instance": "batches"}
    repository.replace("run/batchjob.yaml", "  annotations:\n", f"  labels: {labels}\n  annotations:\n")
    repository.replace("run/batchjob.yaml", "  annotations:\n", f"  annotations:\n    {json.dumps(marks)[1:-1]}\n")

    repository.sync()
    job = repository.world.finished("run-1")

    output = repository.world.get("ConfigMap", "answers-1")["metadata"]
    assert labels.items() <= job["metadata"]["labels"].items()
    assert marks.items() <= job["metadata"]["annotations"].items()
    assert not labels.keys() & output.get("labels", {}).keys()
    assert not marks.keys() & output.get("annotations", {}).keys()
    assert "ownerReferences" not in output


# --- health on the way ------------------------------------------------------------------------------------------------


def history(world: World, plural: str, since: str) -> list[Object]:
    """Every version of the namespace's resources of a kind that came after a resourceVersion, oldest first."""
    query = f"watch=1&timeoutSeconds=1&resourceVersion={since}"
    path = f"/apis/llmbatch.dev/v1alpha1/namespaces/{world.namespace}/{plural}?{query}"
    return [json.loads(line)["object"] for line in world.cluster.kubectl("get", "--raw", path).stdout.splitlines()]


def runs(values: Sequence[str]) -> list[str]:
    """The values without repetitions that follow each other."""
    return [*values[:1], *(value for before, value in pairwise(values) if value != before)]


@pytest.mark.parametrize("plural", ["batchjobs", "batchfiles", "modeldeployments"])
def test_health_only_gets_better(repository, plural):
    """From the first version to the last: Progressing and then Healthy, InProgress and then Current."""
    since = repository.world.cluster.get("Namespace", repository.world.namespace)["metadata"]["resourceVersion"]
    repository.sync()
    repository.world.finished("run-1")

    seen = history(repository.world, plural, since)

    assert runs([health(item).status for item in seen]) == ["Progressing", "Healthy"]
    assert runs([found.status for found in kstatus.statuses(seen)]) == ["InProgress", "Current"]


# --- the checks ---------------------------------------------------------------------------------------------------


def test_the_checks_are_put_into_argocd_cm(cluster, namespace):
    """The command of the documentation adds them, and leaves alone what else is configured there."""
    configured = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "argocd-cm"}, "data": {"url": "it"}}
    cluster.apply(configured, namespace)

    patch = ("--patch-file", str(BATCHES.parent / "argocd-cm.yaml"))
    cluster.kubectl("patch", "configmap", "argocd-cm", "--namespace", namespace, *patch)

    data = cluster.get("ConfigMap", "argocd-cm", namespace)["data"]
    checks = {f"resource.customizations.health.llmbatch.dev_{kind}": script_of(kind) for kind in OURS}
    assert data == {"url": "it", **checks}


# --- order ------------------------------------------------------------------------------------------------------------


def test_waves_make_deployments_then_files_then_jobs(repository):
    """What a wave needs is made by an earlier one, and the last one, which no sync waits for, is that of the jobs."""
    waves = [
        (int(item["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0)), item["kind"])
        for item in repository.manifests()
    ]

    assert sorted(waves) == [(0, "ConfigMap"), (0, "ModelDeployment"), (1, "BatchFile"), (2, "BatchJob")]


# --- another run ------------------------------------------------------------------------------------------------------


def test_another_suffix_is_another_run_and_leaves_the_first_alone(repository):
    """The second run has a ConfigMap, a file, a job and an output of its own; the first stays as it was."""
    repository.sync()
    repository.world.finished("run-1")
    before = kept(repository.world.get("BatchJob", "run-1"))

    repository.replace("run/kustomization.yaml", '"-1"', '"-2"')
    repository.replace("run/requests.jsonl", "Norway", "Bhutan")
    repository.sync()
    repository.world.finished("run-2")

    assert len(repository.account.batches()) == 2
    assert kept(repository.world.get("BatchJob", "run-1")) == before
    assert sorted(repository.world.output("answers-1")) == sorted(repository.world.output("answers-2"))
    sent = [repository.account.content(batch["input_file_id"]) for batch in repository.account.batches()]
    assert sorted(b"Bhutan" in content for content in sent) == [False, True]


def test_other_requests_under_the_same_suffix_are_refused_and_run_nothing(repository):
    """The hash in the ConfigMap's name makes it a change of the file's source, which the API server refuses."""
    repository.sync()
    repository.world.finished("run-1")
    before = [kept(item) for item in repository.live("BatchFile", "BatchJob")]

    repository.replace("run/requests.jsonl", "Norway", "Bhutan")
    said = repository.sync(check=False)

    assert "configMapKeyRef cannot change" in said
    settle(repository)
    assert [kept(item) for item in repository.live("BatchFile", "BatchJob")] == before
    assert len(repository.account.batches()) == 2


@pytest.mark.parametrize(
    ("spec", "batches", "end"),
    [
        ({"output": None}, 2, "Completed"),
        ({}, 1, "OutputConflict"),
        ({"output": None, "deletionPolicy": "Retain"}, 1, "Completed"),
    ],
    ids=["without an output", "with an output that is kept", "with its batch retained"],
)
def test_a_job_that_its_time_to_live_deleted_and_a_sync_made_again(repository, spec, batches, end):
    """It runs and costs again, unless its output is still there, or its batch was left for it to take up."""
    repository.spec |= {"ttlSecondsAfterFinished": 1, **spec}
    repository.sync()
    first = repository.world.finished("run-1")["metadata"]["uid"]
    repository.world.gone("BatchJob", "run-1", timeout=PATIENCE)

    repository.spec["ttlSecondsAfterFinished"] = 3600
    repository.sync()

    job = repository.world.finished("run-1")
    assert job["metadata"]["uid"] != first
    assert (condition(job, "Finished") or {})["reason"] == end
    assert len(repository.account.batches()) == batches
