"""The chart on a real API server: what it takes of each way to install, and what becomes of jobs and definitions."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import manifests
import pytest
import yaml

from controlplane.session import Session, await_address
from support.cluster import Cluster, poll
from support.helm import CHART, NAMESPACE, RELEASE, VALUE_SETS, Object, Refused, Rendered, helm, render, value_set
from toolchain.find import program

ROOT = CHART.parents[1]
SETS = sorted(VALUE_SETS.glob("*.yaml"))
MONITORING = Path(__file__).parents[1] / "support" / "monitoring_crds.yaml"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
APPLY = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "--filename=-")
JOB = {
    "apiVersion": "llmbatch.dev/v1alpha1",
    "kind": "BatchJob",
    "metadata": {"name": "precious"},
    "spec": {"inputFileRef": {"name": "questions"}},
}

every_set = pytest.mark.parametrize("path", SETS, ids=[path.stem for path in SETS])


# --- the suite's own cluster: nothing is installed, the server only says what it would do ----------------------------


@pytest.fixture(scope="session")
def monitored(cluster: Cluster) -> Cluster:
    """The cluster with the kinds of the Prometheus operator."""
    cluster.kubectl(*APPLY, stdin=MONITORING.read_text())
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"--filename={MONITORING}")
    return cluster


@pytest.fixture
def restricted(cluster: Cluster, namespace: str) -> str:
    """A namespace that takes no pod below the restricted standard, and warns of what would make one."""
    cluster.patch("Namespace", namespace, None, {"metadata": {"labels": RESTRICTED}})
    return namespace


@every_set
def test_the_api_server_takes_all_that_is_rendered(monitored: Cluster, restricted: str, path: Path):
    """Every field of every object is known, every value is valid, and nothing is warned of."""
    made = render(value_set(path), namespace=restricted)
    for name in {item["metadata"].get("namespace") for item in made} - {None, restricted}:
        monitored.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "")

    done = monitored.kubectl(*APPLY, "--dry-run=server", stdin=made.text)

    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(list(made))


def pod(values: Object, namespace: str) -> str:
    """A pod like those of the operator."""
    made = render(values, namespace=namespace).pod
    spec = {**made["spec"], "serviceAccountName": "default"}
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {**made["metadata"], "name": "x"}, "spec": spec}
    )


@every_set
def test_the_pods_are_let_into_a_restricted_namespace(cluster: Cluster, restricted: str, path: Path):
    """The API server's own check of the restricted Pod Security Standard lets them in."""
    cluster.wait_for("ServiceAccount", "default", restricted, lambda found: True)

    done = cluster.kubectl(
        "create",
        "--dry-run=server",
        f"--namespace={restricted}",
        "--filename=-",
        stdin=pod(value_set(path), restricted),
    )

    assert (done.stdout, done.stderr) == ("pod/x created (server dry run)\n", "")


def test_a_restricted_namespace_does_check(cluster: Cluster, restricted: str):
    """A pod that asks for more is refused there."""
    cluster.wait_for("ServiceAccount", "default", restricted, lambda found: True)
    values = {"securityContext": {"allowPrivilegeEscalation": True}}

    done = cluster.kubectl(
        "create",
        "--dry-run=server",
        f"--namespace={restricted}",
        "--filename=-",
        stdin=pod(values, restricted),
        check=False,
    )

    assert 'violates PodSecurity "restricted' in done.stderr


def may(cluster: Cluster, user: str, asked: str, namespace: str) -> bool:
    """Whether the API server lets a user do this, such as `list batchjobs`, in a namespace."""
    verb, resource = asked.split()
    name, _, subresource = resource.partition("/")
    about = {
        "namespace": namespace,
        "verb": verb,
        "group": "llmbatch.dev",
        "resource": name,
        "subresource": subresource,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {},
        "spec": {"user": user, "resourceAttributes": about},
    }
    return cluster.create(review, "")["status"]["allowed"]


def test_tenants_get_their_rights_with_the_clusters_own_roles(cluster: Cluster, namespace: str):
    """Whoever is given `view`, `edit` or `admin` in a namespace can see jobs, run them, or make deployments there."""
    cluster.apply((role for role in render().all("ClusterRole") if role["metadata"]["name"] != RELEASE), "")
    for role in ("view", "edit", "admin"):
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"{role}er"}],
        }
        cluster.apply(binding, namespace)

    def told(user: str) -> dict[str, bool]:
        asked = ("list batchjobs", "create batchjobs", "create modeldeployments", "patch batchjobs/status")
        return {one: may(cluster, user, one, namespace) for one in asked}

    # The cluster's own roles and the authoriser's view of them follow a moment later.
    assert poll(lambda: told("adminer")["create modeldeployments"] and told("viewer")["list batchjobs"], 30)
    assert poll(lambda: told("editer")["create batchjobs"], 30)
    assert list(told("viewer").values()) == [True, False, False, False]
    assert list(told("editer").values()) == [True, True, False, False]
    assert list(told("adminer").values()) == [True, True, True, False]


def test_the_kustomization_can_be_applied(cluster: Cluster):
    """kustomize makes of the chart what the API server takes, with the example's values and patch."""
    folder = ROOT / "examples" / "kustomize"
    built = cluster.kubectl("kustomize", "--enable-helm", f"--helm-command={program('helm')}", str(folder)).stdout
    made = Rendered(built)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, "")

    done = cluster.kubectl(*APPLY, "--dry-run=server", stdin=built)

    assert done.stderr == ""
    assert made.pod["spec"]["dnsConfig"] == {"options": [{"name": "ndots", "value": "2"}]}
    assert "--shared-deployment-namespace=models" in made.container["args"]


def test_what_the_notes_say_works(cluster: Cluster, namespace: str, tmp_path: Path):
    """Each command that helm ends with can be pasted into a shell; only those that wait for pods are left out here."""
    told = helm(
        "install", RELEASE, str(CHART), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={namespace}",
        "--dry-run=server", "--take-ownership", f"--set=watchNamespaces={{{namespace}}}",
    )  # fmt: skip
    commands = [block for block in told.partition("\nNOTES:\n")[2].split("\n\n") if block.startswith("kubectl ")]
    now = [command for command in commands if not re.search(r" (rollout status|wait|get .*--watch)\b", command)]
    kubectl = f'kubectl() {{ "{cluster.kubectl_path}" --kubeconfig "{cluster.kubeconfig}" "$@"; }}'

    for command in now:
        script = f"{kubectl}\n{command}"
        surroundings = {"OPENAI_API_KEY": "not-a-key", "HOME": str(tmp_path)}
        subprocess.run(["bash", "-euc", script], env=surroundings, check=True, timeout=60)

    assert (len(commands), len(now)) == (6, 3)
    assert cluster.get("BatchJob", "hello", namespace)["spec"]["inputFileRef"]["name"] == "hello"
    assert cluster.get("BatchFile", "hello", namespace)
    assert (
        cluster.get("ModelDeployment", "openai", namespace)["spec"]["openAI"]["auth"]["secretKeyRef"]["name"]
        == "openai"
    )
    assert cluster.get("Secret", "openai", namespace)


# --- clusters of one test's own: things are installed --------------------------------------------------------------


@pytest.fixture
def empty(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A control plane in which nothing of ours is."""
    session = Session.begin()
    try:
        yield Cluster.at(await_address(session.folder))
    finally:
        session.stop()


Helm = Callable[..., str]


@pytest.fixture
def release(empty: Cluster) -> Helm:
    """Runs helm on that cluster: `release("install", "--set=…")`."""

    def run(verb: str, *arguments: str) -> str:
        chart = [] if verb == "uninstall" else [str(CHART), "--create-namespace"] if verb == "install" else [str(CHART)]
        return helm(verb, RELEASE, *chart, f"--kubeconfig={empty.kubeconfig}", f"--namespace={NAMESPACE}", *arguments)

    return run


def definitions(cluster: Cluster) -> list[str]:
    """The names of our definitions in the cluster."""
    names = [crd["metadata"]["name"] for crd in cluster.list("CustomResourceDefinition")]
    return [name for name in names if name.endswith(".llmbatch.dev")]


def test_a_release_comes_and_goes_and_the_jobs_stay(empty: Cluster, release: Helm):
    """Installed, upgraded, uninstalled, installed again: the job is the same one all the time. Only where it was said
    that the definitions need not be kept do they go, and the job with them."""
    release("install")
    empty.wait_for("CustomResourceDefinition", "batchjobs.llmbatch.dev", None, established)
    uid = empty.create(JOB, "default")["metadata"]["uid"]

    release("upgrade", "--set=replicaCount=3")
    release("uninstall", "--wait")
    left = [item["metadata"]["name"] for item in empty.list("Deployment", NAMESPACE)]
    release("install")

    assert left == []
    assert empty.get("BatchJob", "precious", "default")["metadata"]["uid"] == uid
    assert empty.get("Deployment", RELEASE, NAMESPACE)["spec"]["replicas"] == 2

    release("upgrade", "--set=crds.keep=false")
    release("uninstall", "--wait")

    assert definitions(empty) == []


def established(crd: Object) -> bool:
    """Whether the API server serves a definition's kind."""
    return any(found["type"] == "Established" and found["status"] == "True" for found in crd["status"]["conditions"])


def test_what_kubectl_installed_can_be_taken_over(empty: Cluster, release: Helm):
    """The plain manifests can be applied as they are. Helm says that they are not its own; told to take them, it does,
    and no job is lost."""
    empty.kubectl("apply", "--server-side", "--filename=-", stdin=manifests.rendered(program("helm")))
    empty.wait_for("CustomResourceDefinition", "batchjobs.llmbatch.dev", None, established)
    uid = empty.create(JOB, "default")["metadata"]["uid"]

    with pytest.raises(Refused, match="invalid ownership metadata"):
        release("install")
    release("install", "--take-ownership")
    release("upgrade", "--set=replicaCount=3")

    assert empty.get("Deployment", RELEASE, NAMESPACE)["spec"]["replicas"] == 3
    assert empty.get("BatchJob", "precious", "default")["metadata"]["uid"] == uid
