"""What the chart installs: pods under the restricted standard, exact rights, the resources' own definitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click
import pytest
import yaml
from typer.main import get_command

from llmbatch import __version__
from llmbatch.app.cli import main
from llmbatch.app.settings import Settings
from support.helm import CHART, NAMESPACE, RELEASE, VALUE_SETS, Object, Rendered, helm, render, value_set

ROOT = CHART.parents[1]
SETS = sorted(VALUE_SETS.glob("*.yaml"))
WRITES = {"create", "update", "patch", "delete", "deletecollection"}

every_set = pytest.mark.parametrize("path", SETS, ids=[path.stem for path in SETS])


def rules(made: Rendered) -> Iterator[Object]:
    """Every rule of every role."""
    for kind in ("Role", "ClusterRole"):
        for role in made.all(kind):
            yield from role["rules"]


# --- the chart itself -----------------------------------------------------------------------------------------------


@every_set
def test_lint_finds_nothing(path: Path):
    """`helm lint --strict` has no complaint about any way to install it."""
    helm("lint", "--strict", "--quiet", str(CHART), f"--values={path}")


def test_the_chart_has_the_operators_version():
    """Chart, image and operator are released together."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


@every_set
def test_no_two_objects_have_one_name(path: Path):
    """Nothing is rendered twice, and everything that has a namespace says so."""
    made = render(value_set(path))
    told = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in made]
    cluster_wide = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}

    assert len(told) == len(set(told))
    assert {kind for kind, namespace, _ in told if namespace is None} <= cluster_wide


@every_set
def test_every_object_says_whose_it_is(path: Path):
    """The recommended labels are on everything, and an administrator's labels take the place of none."""
    values = value_set(path)
    made = render({**values, "commonLabels": {"app.kubernetes.io/instance": "stolen", "team": "x"}})

    for item in made:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/version"] == __version__
        assert labels["team"] == "x"


@every_set
def test_selectors_find_the_pods_and_nothing_else(path: Path):
    """Whatever selects the pods does so by labels that they have and that no upgrade changes."""
    made = render(value_set(path))
    deployment = made.one("Deployment")
    labels = deployment["spec"]["selector"]["matchLabels"]
    selecting = [
        *(item["spec"]["selector"]["matchLabels"] for item in made.all("PodDisruptionBudget")),
        *(item["spec"]["selector"]["matchLabels"] for item in made.all("PodMonitor")),
        *(item["spec"]["podSelector"]["matchLabels"] for item in made.all("NetworkPolicy")),
        *(item["spec"]["selector"] for item in made.all("Service")),
    ]

    assert labels.keys() == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    assert labels.items() <= made.pod["metadata"]["labels"].items()
    assert [found for found in selecting if found != labels] == []


def test_a_service_monitor_finds_the_service():
    """What Prometheus is told to scrape is there: labels, namespace and port."""
    made = render(value_set(VALUE_SETS / "monitored.yaml"))
    spec, service = made.one("ServiceMonitor")["spec"], made.one("Service")

    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert spec["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
    assert spec["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}


@pytest.mark.parametrize(
    "release", ["batch", "llmbatch-operator", "a-release-with-a-name-as-long-as-helm-allows-it-to-be"]
)
def test_long_names_stay_within_the_limits(release: str):
    """The longest release name that helm takes still gives names that every kind of object may have."""
    names = [item["metadata"]["name"] for item in render(release=release)]

    assert len(release) <= 53
    assert [name for name in names if len(name) > 63] == []


MONITORED = {
    name: {"enabled": True, "namespace": "monitoring"} for name in ("serviceMonitor", "prometheusRule", "dashboard")
}


def test_releases_of_one_name_do_not_meet():
    """Teams can each have one of the same name: what lies outside of their namespaces is called after these. Only in
    the namespaces that they work in would they meet, where two would do the same work."""
    values = {"crds": {"enabled": False}, "rbac": {"aggregatedRoles": False}, "metrics": MONITORED}
    one, other = (
        {
            (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"])
            for item in render({**values, "watchNamespaces": [f"work-of-{namespace}"]}, namespace=namespace)
        }
        for namespace in ("team-a", "team-b")
    )

    assert {kind for kind, *_ in one} > {"Role", "RoleBinding", "ServiceMonitor", "PrometheusRule", "ConfigMap"}
    assert one & other == set()


def test_in_its_own_namespace_a_release_needs_no_longer_names():
    """A namespace that is named though it is the release's changes nothing."""
    values = {"metrics": {name: {**given, "namespace": NAMESPACE} for name, given in MONITORED.items()}}
    made = render(values)

    assert {item["metadata"]["name"] for item in made if item["metadata"].get("namespace") == NAMESPACE} == {
        RELEASE,
        f"{RELEASE}-metrics",
        f"{RELEASE}-lease",
    }


def shape(found: object) -> object:
    """What stands where, with the type in place of each text and number."""
    if isinstance(found, dict):
        return {key: shape(inner) for key, inner in found.items()}
    return [shape(inner) for inner in found] if isinstance(found, list) else type(found)


def named(name: str) -> Rendered:
    """A release in which everything that can be called like this is."""
    metrics = {key: {**given, "namespace": name} for key, given in MONITORED.items()}
    values = {
        "crds": {"enabled": False},
        "fullnameOverride": name,
        "nameOverride": name,
        "priorityClassName": name,
        "serviceAccount": {"name": name},
        "imagePullSecrets": [{"name": name}],
        "watchNamespaces": [name],
        "networkPolicy": {"enabled": True},
        "metrics": metrics,
    }
    return render(values, release=name, namespace=name)


def test_a_name_that_looks_like_a_number_is_a_name():
    """A namespace, a release or a class may be called 123; the API server takes no number for it."""
    assert shape(list(named("123"))) == shape(list(named("abc")))


def test_a_rollout_is_caused_by_the_pods_alone():
    """A label that tells of the chart's version does not restart pods whose image stays."""
    assert "helm.sh/chart" not in render().pod["metadata"]["labels"]


# --- the pods -------------------------------------------------------------------------------------------------------


@every_set
def test_pods_keep_the_restricted_standard(path: Path):
    """Every demand of the restricted Pod Security Standard is met in words, and the root is read-only.

    The API server's own check is in the integration suite.
    """
    made = render(value_set(path))
    spec, container = made.pod["spec"], made.container

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


def test_the_chart_asks_for_no_user():
    """The image has one, and a cluster that gives each namespace its own range can give another."""
    context = render().pod["spec"]["securityContext"]

    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()


@every_set
def test_only_the_operator_gets_the_token(path: Path):
    """Another pod that runs under the account by mistake has no way to the API server."""
    made = render(value_set(path))

    assert [account["automountServiceAccountToken"] for account in made.all("ServiceAccount")] == [False]
    assert made.pod["spec"]["automountServiceAccountToken"] is True


@every_set
def test_the_operator_takes_the_command_line(path: Path):
    """Every flag is one that the operator has, with a value that can be read."""
    program = cast(click.Group, get_command(main))
    name, *arguments = render(value_set(path)).container["args"]

    flags = program.commands[name].make_context(name, list(arguments)).params

    assert Settings(**{flag: value for flag, value in flags.items() if value not in (None, [])})


def test_the_lease_is_the_releases_own():
    """It lies in the release's namespace under the release's name, and the operator may write that one only."""
    made = render(release="batch", namespace="apart")
    role = made.one("Role", "batch-llmbatch-operator-lease")

    assert "--lease-namespace=$(POD_NAMESPACE)" in made.container["args"]
    assert "--lease-name=batch-llmbatch-operator" in made.container["args"]
    assert role["metadata"]["namespace"] == "apart"
    assert [rule["resourceNames"] for rule in role["rules"] if "update" in rule["verbs"]] == [
        ["batch-llmbatch-operator"]
    ]


def test_no_variable_switches_leader_election_off():
    """A flag wins over LLMBATCH_LEADER_ELECT, which may come from a ConfigMap that the chart cannot see."""
    assert "--leader-elect" in render().container["args"]


def test_the_holder_of_the_lease_names_the_pod():
    """The operator learns the pod's name and namespace from the pod."""
    fields = {found["name"]: found["valueFrom"]["fieldRef"]["fieldPath"] for found in render().container["env"]}

    assert fields == {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}


def test_a_single_pod_can_be_drained():
    """With one pod there is no budget, which could only block."""
    assert render({"replicaCount": 1}).all("PodDisruptionBudget") == []


def test_a_budget_does_not_keep_broken_pods():
    """A node whose pods never become ready can be drained all the same."""
    assert render().one("PodDisruptionBudget")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_pods_are_spread_by_revision():
    """Two pods of the new revision do not share a node because those of the old one are on the others."""
    for constraint in render().pod["spec"]["topologySpreadConstraints"]:
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]
        assert constraint["labelSelector"]["matchLabels"].items() <= render().pod["metadata"]["labels"].items()


# --- rights ---------------------------------------------------------------------------------------------------------


@every_set
def test_no_right_is_on_everything(path: Path):
    """Every rule names its groups, resources and verbs."""
    for rule in rules(render(value_set(path))):
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]


@every_set
def test_secrets_are_never_listed(path: Path):
    """The operator reads single Secrets that resources name; it sees no others."""
    for rule in rules(render(value_set(path))):
        if "secrets" in rule["resources"]:
            assert set(rule["verbs"]) <= {"get", "create", "update"}


def test_with_watched_namespaces_there_is_no_right_on_the_cluster():
    """Each namespace has a Role with the same rules as the ClusterRole, and no ClusterRole is left."""
    everywhere = render().one("ClusterRole", RELEASE)["rules"]
    made = render(value_set(VALUE_SETS / "namespaces.yaml"))
    roles = [role for role in made.all("Role") if role["metadata"]["name"] == RELEASE]

    assert made.all("ClusterRole") + made.all("ClusterRoleBinding") == []
    assert [role["metadata"]["namespace"] for role in roles] == ["chart-team-a", "chart-team-b", "chart-models"]
    assert [role["rules"] for role in roles] == [everywhere] * 3


def test_with_watched_namespaces_the_name_of_the_cluster_can_be_read():
    """Without a configured name the UID of kube-system is read: that, and nothing else there."""
    made = render({"watchNamespaces": ["team"]})
    role = made.one("Role", f"{RELEASE}-cluster.{NAMESPACE}")

    assert role["metadata"]["namespace"] == "kube-system"
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}
    ]
    assert render({"watchNamespaces": ["team"], "clusterID": "east"}).all("Role")[0]["metadata"]["namespace"] == "team"


@every_set
def test_every_role_is_bound_to_the_operators_account(path: Path):
    """No role of the operator is without its binding, and none is bound to anybody else."""
    made = render(value_set(path))
    account = {
        "kind": "ServiceAccount",
        "name": made.pod["spec"]["serviceAccountName"],
        "namespace": made.one("Deployment")["metadata"]["namespace"],
    }
    bindings = made.all("RoleBinding") + made.all("ClusterRoleBinding")
    bound = {(item["roleRef"]["kind"], item["metadata"].get("namespace"), item["roleRef"]["name"]) for item in bindings}
    roles = {(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
             for kind in ("Role", "ClusterRole") for item in made.all(kind)}  # fmt: skip
    for_tenants = {("ClusterRole", None, f"llmbatch-{name}") for name in ("view", "edit", "admin")}

    assert bound == roles - for_tenants
    assert [binding for binding in bindings if binding["subjects"] != [account]] == []


def granted(role: Object) -> set[tuple[str, str]]:
    """Resources and verbs of a role."""
    return {(name, verb) for rule in role["rules"] for name in rule["resources"] for verb in rule["verbs"]}


def test_tenants_get_what_the_security_model_lets_them():
    """`view` reads, `edit` runs jobs, only `admin` makes deployments, and nobody writes status."""
    made = render()
    view, edit, admin = (granted(made.one("ClusterRole", f"llmbatch-{name}")) for name in ("view", "edit", "admin"))
    kinds = {"modeldeployments", "batchfiles", "batchjobs"}

    assert view == {(kind, verb) for kind in kinds for verb in ("get", "list", "watch")}
    assert edit == {(kind, verb) for kind in kinds - {"modeldeployments"} for verb in WRITES}
    assert admin == {("modeldeployments", verb) for verb in WRITES}


def test_tenants_roles_add_to_the_clusters_own():
    """Each is a part of the cluster's role of that name and of those above it."""
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    parts = {
        role["metadata"]["name"]: {
            label.removeprefix(prefix) for label in role["metadata"]["labels"] if prefix in label
        }
        for role in render().all("ClusterRole")
    }

    assert parts == {
        "llmbatch-view": {"view", "edit", "admin"},
        "llmbatch-edit": {"edit", "admin"},
        "llmbatch-admin": {"admin"},
        RELEASE: set(),
    }


# --- the resources' definitions -------------------------------------------------------------------------------------


def definitions() -> dict[str, Object]:
    """The checked-in definitions by name."""
    made = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    return {crd["metadata"]["name"]: crd for crd in made}


def test_the_definitions_are_those_of_the_models():
    """Helm installs the same definitions, but for labels and annotations, that kubectl would from `crds/`."""
    made = {crd["metadata"]["name"]: crd for crd in render().all("CustomResourceDefinition")}

    assert {name: {**crd, "metadata": {"name": name}} for name, crd in made.items()} == definitions()


def test_an_uninstall_keeps_the_jobs():
    """Helm leaves the definitions, and so every job, unless it is told otherwise."""
    policies = [crd["metadata"]["annotations"] for crd in render().all("CustomResourceDefinition")]

    assert policies == [{"helm.sh/resource-policy": "keep"}] * 3


# --- network --------------------------------------------------------------------------------------------------------


def test_the_policy_lets_through_what_is_named_and_what_is_allowed():
    """Names, the API server, providers and the allowed networks; in, only the metrics."""
    spec = render(value_set(VALUE_SETS / "locked-down.yaml")).one("NetworkPolicy")["spec"]
    dns, api_server, providers, allowed, proxy = spec["egress"]

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [port["protocol"] for port in dns["ports"]] == ["UDP", "TCP"]
    assert api_server["to"] == [{"ipBlock": {"cidr": "10.96.0.1/32"}}]
    assert [peer["ipBlock"] for peer in providers["to"]] == [
        {"cidr": "198.51.100.0/24"},
        {"cidr": "192.168.40.0/21", "except": ["192.168.42.0/24"]},
        {"cidr": "2001:db8:40::/48"},
    ]
    assert [peer["ipBlock"]["cidr"] for peer in allowed["to"]] == ["10.20.0.0/16", "fd12:3456::/32"]
    assert proxy["ports"] == [{"port": 3128}]
    assert [rule["ports"] for rule in spec["ingress"]] == [[{"port": "metrics"}]]


def excepted(**providers: list[str]) -> dict[str, list[str]]:
    """The exceptions to each network of the providers."""
    spec = render({"networkPolicy": {"enabled": True, "providers": providers}}).one("NetworkPolicy")["spec"]
    return {peer["ipBlock"]["cidr"]: peer["ipBlock"].get("except", []) for peer in spec["egress"][2]["to"]}


def test_exceptions_are_of_the_networks_family():
    """The API server takes no IPv4 exception to an IPv6 network."""
    blocks = excepted()

    assert [network for network in blocks["0.0.0.0/0"] if ":" in network] == []
    assert [network for network in blocks["::/0"] if ":" not in network] == []
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(blocks["0.0.0.0/0"])


def test_exceptions_lie_within_the_network():
    """The API server takes none that is not a part of the network, so that networks can be narrowed alone."""
    cidrs = ["10.1.0.0/16", "198.51.100.0/24", "fd00::/8", "2001:db8::/32"]
    blocks = excepted(cidrs=cidrs, **{"except": ["10.0.0.0/8", "10.1.128.0/17", "10.1.0.0/16", "FD12::/16"]})

    assert blocks == dict(zip(cidrs, (["10.1.128.0/17"], [], ["FD12::/16"], []), strict=True))
    assert not any(excepted(cidrs=cidrs).values())


# --- monitoring -----------------------------------------------------------------------------------------------------


def test_alerts_and_dashboard_are_the_generated_ones():
    """Helm's own templating leaves theirs alone; only the alerts' selectors get the release's namespace."""
    made = render(value_set(VALUE_SETS / "monitored.yaml"), namespace="apart")
    files = CHART / "files"
    generated = (files / "rules.yaml").read_text()

    assert 'namespace="apart"' in made.one("PrometheusRule")["spec"]["groups"][0]["rules"][0]["expr"]
    assert made.one("PrometheusRule")["spec"] == yaml.safe_load(
        generated.replace('namespace=~".*"', 'namespace="apart"')
    )
    assert made.one("ConfigMap")["data"]["llmbatch-operator.json"].rstrip() == (
        (files / "dashboard.json").read_text().rstrip()
    )
