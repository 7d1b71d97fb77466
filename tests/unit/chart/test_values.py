"""The chart's values: each has its effect, is documented and in the schema, and bad ones are refused with a reason."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import cast

import click
import pytest
import yaml
from typer.main import get_command
from values_table import Undocumented, documented, table, with_table

from llmbatch.app.cli import main
from llmbatch.domain.ambient import AmbientPrefix
from support.chart_effects import EFFECTS, Effect, nested
from support.helm import CHART, VALUE_SETS, Object, Refused, Rendered, helm, render, value_set

VALUES = (CHART / "values.yaml").read_text(encoding="utf-8")
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
PAGES = (CHART / "README.md", CHART.parents[1] / "docs" / "chart.md")


# --- what they do ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", EFFECTS, ids=[effect.name for effect in EFFECTS])
def test_a_value_does_what_it_is_for(effect: Effect):
    """A value that is set is seen in what is rendered, and without it something else is there."""
    # No other value has to do with the definitions, which are most of what is rendered.
    given = effect.given if effect.name.startswith("crds.") else {"crds.enabled": False, **effect.given}
    before, after = render(nested(given)), render(nested({**given, effect.name: effect.value}))

    assert effect.see(after) == effect.want
    assert _seen(effect, before) != effect.want


def _seen(effect: Effect, made: Rendered) -> object:
    try:
        return effect.see(made)
    except ValueError:
        return "the object is not there"


def test_each_value_has_its_effect():
    """No value is documented that nothing comes of."""
    assert {effect.name for effect in EFFECTS} == {value.name for value in documented(VALUES)}


# --- how they are told ----------------------------------------------------------------------------------------------


def test_the_pages_show_the_values_as_they_are():
    """Generating again changes not one byte."""
    new = table(documented(VALUES))

    assert [page for page in PAGES if with_table(page.read_text(), new) != page.read_text()] == []


def test_a_value_without_a_comment_is_refused():
    """Nobody adds a value without saying what it is for."""
    with pytest.raises(Undocumented, match=r"^group\.second$"):
        documented("group:\n  # Told.\n  first: 1\n  second: 2\n")


def test_a_page_without_a_place_for_the_table_is_refused():
    """A mark that was removed by mistake does not silently end the page's table."""
    with pytest.raises(ValueError, match="marks are missing"):
        with_table("# Values\n", "| a |\n")


# --- the schema -----------------------------------------------------------------------------------------------------


def schema_of(name: str) -> Object:
    """What the schema says of a value by its documented name."""
    found = SCHEMA
    for part in name.split("."):
        found = resolved(found["properties"][part])
    return found


def resolved(schema: Object) -> Object:
    """A schema with its reference followed."""
    reference = schema.get("$ref")
    return SCHEMA["definitions"][reference.rsplit("/", 1)[-1]] if reference else schema


def closed(schema: Object, name: str = "") -> Iterator[tuple[str, bool]]:
    """Each object of the schema with properties, and whether it takes no other ones."""
    schema = resolved(schema)
    if "properties" in schema:
        yield name, schema.get("additionalProperties") is False
    for key, inner in schema.get("properties", {}).items():
        yield from closed(inner, f"{name}.{key}")


@pytest.mark.parametrize("name", [value.name for value in documented(VALUES)])
def test_the_schema_knows_each_value(name: str):
    """A value that is documented is taken, and checked for its type at least."""
    schema = schema_of(name)

    assert "type" in schema or "enum" in schema


def test_the_schema_knows_no_other_value():
    """What the schema takes is in values.yaml, but for what a chart above this one says to it and to helm."""

    def names(schema: Object, values: object, prefix: str = "") -> Iterator[str]:
        for key, inner in resolved(schema).get("properties", {}).items():
            if not isinstance(values, dict) or key not in values:
                yield prefix + key
            elif values[key]:
                yield from names(inner, values[key], f"{prefix}{key}.")

    optional = {"resources.claims", "livenessProbe.successThreshold", "readinessProbe.initialDelaySeconds",
                "readinessProbe.successThreshold"}  # fmt: skip
    assert set(names(SCHEMA, yaml.safe_load(VALUES))) - optional == {"global", "enabled"}


def test_a_misspelt_value_is_refused_at_every_depth():
    """Every object that is ours takes its own keys and no others."""
    assert [name for name, is_closed in closed(SCHEMA) if not is_closed] == []


BAD = [
    ({"replicas": 3}, "additional properties 'replicas' not allowed"),
    ({"crds": {"install": True}}, "at '/crds': additional properties 'install' not allowed"),
    ({"replicaCount": "2"}, "at '/replicaCount': got string, want integer"),
    ({"replicaCount": -1}, "at '/replicaCount': minimum: got -1, want 0"),
    ({"image": {"pullPolicy": "Sometimes"}}, "value must be one of 'Always', 'IfNotPresent', 'Never'"),
    ({"image": {"repository": "https://reg/batch"}}, "at '/image/repository': 'https://reg/batch' does not match"),
    ({"logLevel": "trace"}, "at '/logLevel': value must be one of 'debug', 'info', 'warning'"),
    ({"pollInterval": "often"}, "at '/pollInterval': 'often' does not match"),
    ({"pollInterval": 0}, "* pollInterval is 0: it must be 0.2 to 3600 seconds"),
    ({"pollInterval": "3600.5"}, "* pollInterval is 3600.5: it must be 0.2 to 3600 seconds"),
    ({"watchNamespaces": ["Team"]}, "at '/watchNamespaces/0': 'Team' does not match"),
    ({"watchNamespaces": ["a", "a"]}, "at '/watchNamespaces': items at 0 and 1 are equal"),
    ({"allowNetworks": ["10.0.0.0"]}, "at '/allowNetworks/0': '10.0.0.0' does not match"),
    ({"allowNetworks": ["10.1.2.3/8"]}, "* allowNetworks: 10.1.2.3/8 is an address in a network; with /8 the bits"),
    ({"allowNetworks": ["10.1.3.0/23"]}, "* allowNetworks: 10.1.3.0/23 is an address in a network; with /23"),
    ({"allowNetworks": ["10.1.2.0/33"]}, "* allowNetworks: 10.1.2.0/33 is no network; write it as 10.1.0.0/16"),
    ({"allowNetworks": ["2001:db8::1/32"]}, "* allowNetworks: 2001:db8::1/32 is an address in a network; with /32"),
    ({"networkPolicy": {"providers": {"except": ["1.2.3.4/8"]}}}, "* networkPolicy.providers.except: 1.2.3.4/8 is an"),
    ({"ambientCredentialPrefixes": ["gs://b/p/"]}, "at '/ambientCredentialPrefixes/0': 'gs://b/p/' does not match"),
    ({"ambientCredentialPrefixes": ["s3://b/p"]}, "at '/ambientCredentialPrefixes/0': 's3://b/p' does not match"),
    ({"resources": {"limits": {"memory": "512MB"}}}, "at '/resources/limits/memory': '512MB' does not match"),
    ({"commonLabels": {"a": True}}, "at '/commonLabels/a': got boolean, want string"),
    ({"extraArgs": ["workers=2"]}, "at '/extraArgs/0': 'workers=2' does not match pattern '^--[a-z]'"),
    ({"extraArgs": ["--no-leader-elect"]}, "* extraArgs: --no-leader-elect is set by leaderElection.enabled"),
    (
        {"extraEnv": [{"name": "LLMBATCH_LEADER_ELECT", "value": "false"}]},
        "* extraEnv: LLMBATCH_LEADER_ELECT is set by leaderElection.enabled",
    ),
    ({"extraEnv": [{"name": "llmbatch_namespace"}]}, "* extraEnv: llmbatch_namespace is set by watchNamespaces"),
    ({"metrics": {"prometheusRule": {"costPerHour": "a lot"}}}, "at '/metrics/prometheusRule/costPerHour': 'a lot' do"),
    (
        {"metrics": {"prometheusRule": {"disabled": ["LLMBatchNoLeader", "NoLeader"]}}},
        "* metrics.prometheusRule.disabled: there is no alert NoLeader",
    ),
    ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "at '/metrics/serviceMonitor/interval': '30' does not match"),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "at '/podDisruptionBudget/maxUnavailable': minimum: got 0"),
    ({"podDisruptionBudget": {"minAvailable": 2}}, "* podDisruptionBudget.minAvailable is 2 of 2 pods: no node could"),
    ({"podDisruptionBudget": {"minAvailable": "51%"}}, "* podDisruptionBudget.minAvailable is 51% of 2 pods: no node"),
    ({"podDisruptionBudget": {"minAvailable": "100%"}}, "* podDisruptionBudget.minAvailable is 100% of 2 pods: no no"),
    (
        {"replicaCount": 3, "podDisruptionBudget": {"minAvailable": "67%"}},
        "* podDisruptionBudget.minAvailable is 67% of 3 pods: no node could be drained",
    ),
    (
        {"podDisruptionBudget": {"maxUnavailable": None}},
        "* podDisruptionBudget.enabled needs maxUnavailable or minAvailable",
    ),
    ({"leaderElection": {"enabled": False}}, "* replicaCount is 2: more than one pod needs leaderElection.enabled"),
    ({"serviceAccount": {"create": False}}, "* serviceAccount.create is false: name the account in serviceAccount.nam"),
    (
        {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}},
        "* metrics.serviceMonitor.enabled needs metrics.service.enabled",
    ),
    (
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        "* metrics.serviceMonitor.enabled and metrics.podMonitor.enabled together would count everything twice",
    ),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=[json.dumps(values) for values, _ in BAD])
def test_a_bad_value_is_refused_with_what_is_wrong(values: Mapping[str, object], message: str):
    """The error names the value and says what would be taken."""
    with pytest.raises(Refused) as caught:
        render(values)

    assert message in str(caught.value)


def test_all_that_is_wrong_is_told_at_once():
    """Nobody mends one value only to hear of the next."""
    with pytest.raises(Refused) as caught:
        render({"leaderElection": {"enabled": False}, "serviceAccount": {"create": False}})

    assert "replicaCount" in str(caught.value)
    assert "serviceAccount" in str(caught.value)


# --- what is taken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("replicas", "least"), [(2, "50%"), (3, "66%"), (3, 2), (1, "100%")])
def test_a_budget_that_leaves_a_pod_to_drain_is_taken(replicas: int, least: object):
    """Percentages are rounded up, as the cluster does; with one pod there is no budget that could block."""
    made = render(
        {"crds": {"enabled": False}, "replicaCount": replicas, "podDisruptionBudget": {"minAvailable": least}}
    )

    assert [budget["spec"]["minAvailable"] for budget in made.all("PodDisruptionBudget")] == [least] * (replicas > 1)


def test_numbers_can_be_set_on_the_command_line():
    """`--set` makes a string of a number with a fraction."""
    made = Rendered(
        helm("template", str(CHART), "--set=pollInterval=0.5,metrics.prometheusRule.enabled=true",
             "--set=metrics.prometheusRule.costPerHour=0.25")
    )  # fmt: skip
    alerts = [rule for group in made.one("PrometheusRule")["spec"]["groups"] for rule in group["rules"]]

    assert "--poll-interval=0.5" in made.container["args"]
    assert [rule["expr"].rpartition(" ")[2] for rule in alerts if rule["alert"] == "LLMBatchCostRate"] == ["0.25"]


def refused(values: Mapping[str, object]) -> str:
    """What helm says of values that it does not take."""
    with pytest.raises(Refused) as caught:
        render(values)
    return str(caught.value)


def test_flags_that_the_chart_sets_are_refused_beside_it():
    """Leader election is not switched off under two pods, and flags do not part from Roles, ports and probes."""
    sets = [render({**value_set(path), "extraArgs": []}) for path in VALUE_SETS.glob("*.yaml")]
    used = {argument.partition("=")[0] for made in sets for argument in made.container["args"][1:]}
    program = cast(click.Group, get_command(main))
    known = {name for option in program.commands["run"].params for name in (*option.opts, *option.secondary_opts)}
    owned = used | {"--metrics-address", "--health-address"}
    free = sorted(known - owned - {"--help"})

    told = refused({"extraArgs": [*sorted(owned), *(f"{flag}=1" for flag in owned)]})

    assert {"--namespace", "--leader-elect", "--no-leader-elect", "--lease-name"} <= owned <= known
    assert [flag for flag in owned if told.count(f"* extraArgs: {flag} is set by ") != 2] == []
    assert render({"extraArgs": free}).container["args"][-len(free) :] == free


def networks() -> Iterator[str]:
    """Networks and what looks like some: of every length, with and without host bits, spelt in every way."""
    chance = random.Random(1)
    for length in range(33):
        yield str(IPv4Network((chance.getrandbits(32), length), strict=False))
        yield f"{IPv4Network((chance.getrandbits(32), 32)).network_address}/{length}"
    for length in range(0, 129, 5):
        whole = IPv6Network((chance.getrandbits(128), length), strict=False)
        yield str(whole)
        yield whole.exploded.upper()
        yield f"{IPv6Network((chance.getrandbits(128), 128)).network_address}/{length}"
    yield from ("::/0", "::1/128", "1::/16", "0::0/0", "fd00::/8", "1:2:3:4:5:6:7::/112", "::2:3:4:5:6:7:8/128")
    yield from ("::/129", "1:2:3/64", "1::2::/64", ":::/0", ":1::/64", "1:/64", "1::2:/128", "12345::/64", ":/0")
    yield from ("1:2:3:4:5:6:7:8::/128", "1:2:3:4::5:6:7:8/128", "1:2:3:4:5:6:7:8:9/128", "::ffff/64")
    yield from ("10.0.0.0/33", "10.0.0/24", "10.0.0.256/32", "10.0.0.0.0/8", "08.0.0.0/8", "010.0.0.0/8", "10..0.0/8")


def is_network(text: str) -> bool:
    """Whether it is one for the operator and the API server."""
    try:
        return bool(ip_network(text))
    except ValueError:
        return False


def test_networks_are_judged_as_the_operator_judges_them():
    """Both families, of every length: what is none is refused here, and nothing else."""
    asked = list(dict.fromkeys(networks()))
    wrong = [network for network in asked if not is_network(network)]
    good = [network for network in asked if network not in wrong]

    told = refused({"allowNetworks": asked})
    made = render({"allowNetworks": good})

    assert [line.split()[2] for line in told.splitlines() if line.startswith("* allowNetworks: ")] == wrong
    assert [f"--allow-network={network}" for network in good] == [
        argument for argument in made.container["args"] if argument.startswith("--allow-network")
    ]


PREFIXES = [
    "s3://bucket/", "s3://b.u-c/p/", "s3://bucket/{namespace}/", "s3://bucket/a/{namespace}/b=c@d+e/", "s3://bucket/.../",
    "s3://bucket/.a/", "s3://bucket/a../", "s3://bucket/k\u00fcche/", "s3://bucket/_/", "s3://bucket/../", "s3://bucket/./",
    "s3://bucket/a/../b/", "s3://bucket/x-{namespace}/", "s3://bucket/{name}/", "s3://bucket//", "s3://bucket/a b/",
    "s3://bucket/a*/", "s3://b/p/", "s3://-bucket/", "s3://bucket./", f"s3://{'b' * 64}/", "s3://Bucket/", "gs://bucket/",
    "s3://bucket", "s3://bucket/p", "s3://bucket/a%2fb/", "s3://bucket/p/\n",
]  # fmt: skip


def is_prefix(text: str) -> bool:
    """Whether the operator takes it."""
    try:
        return bool(AmbientPrefix.parse(text))
    except ValueError:
        return False


def test_prefixes_are_judged_as_the_operator_judges_them():
    """What keeps a pod from starting is refused here, and nothing else."""
    good = [prefix for prefix in PREFIXES if is_prefix(prefix)]
    told = refused({"ambientCredentialPrefixes": PREFIXES})

    assert [at for at in range(len(PREFIXES)) if f"at '/ambientCredentialPrefixes/{at}':" in told] == [
        at for at, prefix in enumerate(PREFIXES) if prefix not in good
    ]
    assert {f"--ambient-credential-prefix={prefix}" for prefix in good} <= set(
        render({"ambientCredentialPrefixes": good}).container["args"]
    )


# --- values that are taken away -------------------------------------------------------------------------------------


def emptied(values: Object, schema: Object, needed: bool) -> tuple[Object, list[str]]:
    """Values with each null that the schema needs, or each that it does not, and the names of those."""
    made: Object = {}
    names: list[str] = []
    required = schema.get("required", ())
    for key, value in values.items():
        inner = resolved(schema["properties"][key])
        if (key in required) is needed:
            made[key] = None
            names.append(key)
        elif inner.get("properties") and isinstance(value, dict):
            made[key], below = emptied(value, inner, needed)
            names += [f"{key}.{name}" for name in below]
    return made, names


def merged(values: Object, over: Object) -> Object:
    """The values with others laid over them, as helm does."""
    inner = {key: merged(values.get(key) or {}, value) for key, value in over.items() if isinstance(value, dict)}
    return {**values, **over, **inner}


ENABLED: Sequence[Object] = (
    {"watchNamespaces": ["team"]},
    {
        "leaderElection": {"enabled": False},
        "replicaCount": 1,
        "networkPolicy": {"enabled": True},
        "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")},
    },
    {"metrics": {"podMonitor": {"enabled": True}}},
)


@pytest.mark.parametrize("given", ENABLED, ids=lambda given: "-".join(given))
def test_values_that_are_taken_away_leave_valid_objects(given: Object):
    """With null for all that can be done without, what is rendered has no hole, whatever is enabled."""
    less, names = emptied(yaml.safe_load(VALUES), SCHEMA, needed=False)
    needed = {"crds": {"enabled": False}, "podDisruptionBudget": {"minAvailable": 1}}
    made = render(merged(less, {**needed, **given}))

    assert {"livenessProbe", "resources", "commonLabels", "sharedNamespaces", "networkPolicy.dns.to"} <= set(names)
    assert list(holes(list(made), "")) == []


def holes(found: object, at: str) -> Iterator[str]:
    """Where in objects there is nothing."""
    if found is None:
        yield at
    for key, inner in found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ():
        yield from holes(inner, f"{at}.{key}")


def test_a_value_that_is_needed_cannot_be_taken_away():
    """The error says which is missing, not where a template stumbled."""
    none, names = emptied(yaml.safe_load(VALUES), SCHEMA, needed=True)
    told = refused(none)

    assert {"image", "crds", "metrics", "networkPolicy", "replicaCount"} <= set(names)
    assert "at '': missing propert" in told
    assert [name for name in names if f"'{name}'" not in told] == []
    assert "at '/metrics/service': missing property 'port'" in refused({"metrics": {"service": {"port": None}}})


# --- within another chart -------------------------------------------------------------------------------------------


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A platform's chart that has this one as a dependency, under a condition."""
    parent = tmp_path / "platform"
    (parent / "charts").mkdir(parents=True)
    (parent / "charts" / "llmbatch-operator").symlink_to(CHART)
    dependency = {"name": "llmbatch-operator", "version": ">=0.0.0", "condition": "llmbatch-operator.enabled"}
    about = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(about))
    return parent


def test_the_chart_works_as_a_part_of_another(parent: Path):
    """Helm gives it `global` too, and what the condition is about."""
    values = {"global": {"domain": "example.com"}, "llmbatch-operator": {"enabled": True, "replicaCount": 3}}

    made = render(values, release="llm", chart=parent)

    assert made.one("Deployment")["metadata"]["name"] == "llm-llmbatch-operator"
    assert made.one("Deployment")["spec"]["replicas"] == 3


def test_a_part_of_another_chart_can_be_left_out(parent: Path):
    """With the condition false nothing of it is rendered."""
    assert list(render({"llmbatch-operator": {"enabled": False}}, chart=parent)) == []
