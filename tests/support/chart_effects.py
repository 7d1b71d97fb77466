"""What each value of the chart does: one that is not the default, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llmbatch import __version__
from support.helm import Object, Rendered

See = Callable[[Rendered], object]


@dataclass(frozen=True)
class Effect:
    """With the value `name` set, beside those `given`, `see` finds `want` in what is rendered."""

    name: str
    value: object
    see: See
    want: object
    given: Mapping[str, object] = field(default_factory=dict)


def nested(values: Mapping[str, object]) -> Object:
    """Values by the names that they have in the documentation, as helm takes them."""
    made: Object = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        at = made
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = value
    return made


def argument(name: str, value: object, flag: str, **given: object) -> Effect:
    """The operator gets a flag."""
    return Effect(name, value, lambda made: flag in made.container["args"], True, given)


def pod(name: str, value: object, key: str | None = None) -> Effect:
    """It stands in the pods' spec as it is."""
    return Effect(name, value, lambda made: made.pod["spec"].get(key or name), value)


def container(name: str, value: object, key: str | None = None, want: object = None) -> Effect:
    """It stands in the container as it is, or as `want`."""
    return Effect(name, value, lambda made: made.container.get(key or name), value if want is None else want)


def probe(name: str) -> Effect:
    """One setting of a probe is changed, and its handler stays."""

    def see(made: Rendered) -> object:
        found = made.container[name]
        return found["periodSeconds"], "httpGet" in found

    return Effect(name, {"periodSeconds": 77}, see, (77, True))


def labelled(name: str, kind: str, **given: object) -> Effect:
    """Labels are added to those that an object has."""
    return Effect(name, {"a": "b"}, lambda made: made.all(kind)[0]["metadata"]["labels"].get("a"), "b", given)


def annotated(name: str, kind: str, **given: object) -> Effect:
    """An object has the annotations."""
    return Effect(name, {"a": "b"}, lambda made: made.one(kind)["metadata"].get("annotations"), {"a": "b"}, given)


def extra(group: str, kind: str) -> list[Effect]:
    """What the objects for Prometheus and Grafana have in common."""
    given = {f"metrics.{group}.enabled": True}
    return [
        Effect(f"metrics.{group}.enabled", True, lambda made: len(made.all(kind)), 1),
        Effect(
            f"metrics.{group}.namespace", "seen", lambda made: made.one(kind)["metadata"]["namespace"], "seen", given
        ),
        labelled(f"metrics.{group}.labels", kind, **given),
    ]


def monitor(group: str, kind: str, endpoints: str) -> list[Effect]:
    """A ServiceMonitor or a PodMonitor."""

    def scrape(name: str, value: object) -> Effect:
        given = {f"metrics.{group}.enabled": True}
        return Effect(
            f"metrics.{group}.{name}", value, lambda made: made.one(kind)["spec"][endpoints][0].get(name), value, given
        )

    rules = [{"action": "labeldrop", "regex": "pod"}]
    return [
        *extra(group, kind),
        scrape("interval", "10s"),
        scrape("scrapeTimeout", "5s"),
        scrape("relabelings", rules),
        scrape("metricRelabelings", rules),
    ]


def policy(name: str, value: object, see: Callable[[Object], object], want: object) -> Effect:
    """The NetworkPolicy says so."""
    return Effect(
        f"networkPolicy.{name}",
        value,
        lambda made: see(made.one("NetworkPolicy")["spec"]),
        want,
        {"networkPolicy.enabled": True},
    )


def budget(name: str, value: object, want: object, **given: object) -> Effect:
    """The PodDisruptionBudget's limits."""

    def see(made: Rendered) -> object:
        return [{key: one["spec"].get(key) for key in ("maxUnavailable", "minAvailable")} for one in made.all(BUDGET)]

    return Effect(f"podDisruptionBudget.{name}", value, see, want, given)


def watched(made: Rendered) -> list[tuple[str, str]]:
    """Where the operator's account may do what."""
    roles = [role for role in made.all("Role") if any("llmbatch.dev" in rule["apiGroups"] for rule in role["rules"])]
    return [(role["metadata"]["namespace"], role["metadata"]["name"]) for role in roles]


def secret_verbs(made: Rendered) -> list[str]:
    """What the operator may do to Secrets."""
    (rule,) = (rule for rule in made.one("ClusterRole", "llmbatch-operator")["rules"] if "secrets" in rule["resources"])
    return rule["verbs"]


def alerts(made: Rendered) -> dict[str, Object]:
    """The alerts by name."""
    return {rule["alert"]: rule for group in made.one("PrometheusRule")["spec"]["groups"] for rule in group["rules"]}


ALERTS = {"metrics.prometheusRule.enabled": True}
BUDGET = "PodDisruptionBudget"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
PEERS = [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]
RULE = {"ports": [{"port": 3128}]}
VARIABLE = {"name": "A", "value": "b"}
SPREAD = [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]

EFFECTS = [
    container("image.repository", "reg.example.com/batch", "image", f"reg.example.com/batch:{__version__}"),
    container("image.tag", "1.2.3", "image", "llmbatch-operator:1.2.3"),
    container("image.digest", DIGEST, "image", f"llmbatch-operator:{__version__}@{DIGEST}"),
    container("image.pullPolicy", "Always", "imagePullPolicy"),
    pod("imagePullSecrets", [{"name": "registry"}]),
    Effect("replicaCount", 3, lambda made: made.one("Deployment")["spec"]["replicas"], 3),
    argument("leaderElection.enabled", False, "--no-leader-elect", replicaCount=1),
    argument("watchNamespaces", ["team"], "--namespace=team"),
    Effect("watchNamespaces", ["team"], watched, [("team", "llmbatch-operator")]),
    argument("sharedNamespaces", ["models"], "--shared-deployment-namespace=models"),
    argument("allowNetworks", ["10.0.0.0/8"], "--allow-network=10.0.0.0/8"),
    argument("ambientCredentialPrefixes", ["s3://bucket/p/"], "--ambient-credential-prefix=s3://bucket/p/"),
    argument("clusterID", "east", "--cluster-id=east"),
    argument("pollInterval", 10, "--poll-interval=10"),
    argument("logLevel", "debug", "--log-level=debug"),
    argument("logFormat", "text", "--log-format=text"),
    argument("extraArgs", ["--workers=32"], "--workers=32"),
    Effect("crds.enabled", False, lambda made: len(made.all("CustomResourceDefinition")), 0),
    Effect(
        "crds.keep",
        False,
        lambda made: [crd["metadata"].get("annotations") for crd in made.all("CustomResourceDefinition")],
        [None, None, None],
    ),
    Effect("nameOverride", "queue", lambda made: made.one("Deployment")["metadata"]["name"], "llmbatch-operator-queue"),
    Effect("fullnameOverride", "batches", lambda made: made.one("Deployment")["metadata"]["name"], "batches"),
    labelled("commonLabels", "Role"),
    Effect("commonLabels", {"a": "b"}, lambda made: made.pod["metadata"]["labels"].get("a"), "b"),
    Effect("podAnnotations", {"a": "b"}, lambda made: made.pod["metadata"].get("annotations"), {"a": "b"}),
    Effect("podLabels", {"a": "b"}, lambda made: made.pod["metadata"]["labels"].get("a"), "b"),
    Effect("serviceAccount.create", False, lambda made: made.all("ServiceAccount"), [], {"serviceAccount.name": "own"}),
    pod("serviceAccount.name", "own", "serviceAccountName"),
    Effect("serviceAccount.name", "own", lambda made: made.one("ClusterRoleBinding")["subjects"][0]["name"], "own"),
    annotated("serviceAccount.annotations", "ServiceAccount"),
    labelled("serviceAccount.labels", "ServiceAccount"),
    Effect("rbac.create", False, lambda made: made.all("Role") + made.all("ClusterRoleBinding"), []),
    Effect("rbac.aggregatedRoles", False, lambda made: len(made.all("ClusterRole")), 1),
    Effect("rbac.secretOutputs", False, secret_verbs, ["get"]),
    container("resources", {"limits": {"memory": "1Gi"}}, want={
        "requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}
    }),
    pod("priorityClassName", "high"),
    pod("topologySpreadConstraints", SPREAD),
    pod("nodeSelector", {"disk": "fast"}),
    pod("tolerations", [{"key": "dedicated", "operator": "Exists"}]),
    pod("affinity", {"nodeAffinity": {}}),
    budget("enabled", False, []),
    budget("maxUnavailable", "50%", [{"maxUnavailable": "50%", "minAvailable": None}]),
    budget("minAvailable", 1, [{"maxUnavailable": None, "minAvailable": 1}]),
    pod("podSecurityContext", {"runAsNonRoot": False, "seccompProfile": {"type": "Unconfined"}}, "securityContext"),
    container("securityContext", {
        "allowPrivilegeEscalation": True, "readOnlyRootFilesystem": False, "capabilities": {"drop": []}
    }),
    probe("livenessProbe"),
    probe("readinessProbe"),
    pod("terminationGracePeriodSeconds", 60),
    Effect("extraEnv", [VARIABLE], lambda made: made.container["env"][-1], VARIABLE),
    container("extraEnvFrom", [{"secretRef": {"name": "s"}}], "envFrom"),
    pod("extraVolumes", [{"name": "v", "emptyDir": {}}], "volumes"),
    container("extraVolumeMounts", [{"name": "v", "mountPath": "/v"}], "volumeMounts"),
    Effect("metrics.service.enabled", False, lambda made: len(made.all("Service")), 0),
    Effect("metrics.service.port", 9090, lambda made: made.one("Service")["spec"]["ports"][0]["port"], 9090),
    annotated("metrics.service.annotations", "Service"),
    labelled("metrics.service.labels", "Service"),
    *monitor("serviceMonitor", "ServiceMonitor", "endpoints"),
    *monitor("podMonitor", "PodMonitor", "podMetricsEndpoints"),
    *extra("prometheusRule", "PrometheusRule"),
    Effect(
        "metrics.prometheusRule.costPerHour",
        2.5,
        lambda made: alerts(made)["LLMBatchCostRate"]["expr"].rpartition(" > ")[2],
        "2.5",
        ALERTS,
    ),
    Effect(
        "metrics.prometheusRule.runbookURL",
        "https://docs.example.com/monitoring.html",
        lambda made: alerts(made)["LLMBatchNoLeader"]["annotations"].get("runbook_url"),
        "https://docs.example.com/monitoring.html#llmbatchnoleader",
        ALERTS,
    ),
    Effect(
        "metrics.prometheusRule.disabled",
        ["LLMBatchNoLeader"],
        lambda made: "LLMBatchNoLeader" in alerts(made),
        False,
        ALERTS,
    ),
    *extra("dashboard", "ConfigMap"),
    annotated("metrics.dashboard.annotations", "ConfigMap", **{"metrics.dashboard.enabled": True}),
    Effect("networkPolicy.enabled", True, lambda made: len(made.all("NetworkPolicy")), 1),
    policy("dns.to", PEERS, lambda spec: spec["egress"][0].get("to"), PEERS),
    policy("dns.port", 5353, lambda spec: {port["port"] for port in spec["egress"][0]["ports"]}, {5353}),
    policy("apiServer.cidrs", ["10.0.0.1/32"], lambda spec: spec["egress"][1]["to"], [
        {"ipBlock": {"cidr": "10.0.0.1/32"}}
    ]),
    policy("apiServer.ports", [6443], lambda spec: spec["egress"][1]["ports"], [{"port": 6443}]),
    policy("providers.cidrs", [], lambda spec: len(spec["egress"]), 2),
    policy("providers.except", ["10.0.0.0/8"], lambda spec: spec["egress"][2]["to"], [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}, {"ipBlock": {"cidr": "::/0"}}
    ]),
    policy("providers.ports", [8443], lambda spec: spec["egress"][2]["ports"], [{"port": 8443}]),
    policy("metricsFrom", PEERS, lambda spec: spec["ingress"][0].get("from"), PEERS),
    policy("extraEgress", [RULE], lambda spec: spec["egress"][-1], RULE),
    policy("extraIngress", [RULE], lambda spec: spec["ingress"][-1], RULE),
]  # fmt: skip
