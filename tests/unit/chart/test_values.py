"""The chart's values: each has its effect, is documented and in the schema, and bad ones are refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from values_table import Undocumented, documented, table, with_table

from support.chart_effects import EFFECTS, Effect, nested
from support.helm import CHART, Object, Refused, Rendered, render

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
    """What the schema takes is in values.yaml, but for `global`, which helm gives to a subchart."""

    def names(schema: Object, values: object, prefix: str = "") -> Iterator[str]:
        for key, inner in resolved(schema).get("properties", {}).items():
            if not isinstance(values, dict) or key not in values:
                yield prefix + key
            elif values[key]:
                yield from names(inner, values[key], f"{prefix}{key}.")

    optional = {"resources.claims", "livenessProbe.successThreshold", "readinessProbe.initialDelaySeconds",
                "readinessProbe.successThreshold"}  # fmt: skip
    assert set(names(SCHEMA, yaml.safe_load(VALUES))) - optional == {"global"}


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
    ({"pollInterval": 0}, "at '/pollInterval': minimum: got 0, want 0.2"),
    ({"watchNamespaces": ["Team"]}, "at '/watchNamespaces/0': 'Team' does not match"),
    ({"watchNamespaces": ["a", "a"]}, "at '/watchNamespaces': items at 0 and 1 are equal"),
    ({"allowNetworks": ["10.0.0.0"]}, "at '/allowNetworks/0': '10.0.0.0' does not match"),
    ({"allowNetworks": ["10.1.2.3/8"]}, "* allowNetworks: 10.1.2.3/8 is an address in a network; with /8 the bits"),
    ({"allowNetworks": ["10.1.3.0/23"]}, "* allowNetworks: 10.1.3.0/23 is an address in a network; with /23"),
    ({"allowNetworks": ["10.1.2.0/33"]}, "* allowNetworks: 10.1.2.0/33 is no network; write it as 10.1.0.0/16"),
    ({"allowNetworks": ["10.1.2/24"]}, "* allowNetworks: 10.1.2/24 is no network"),
    ({"allowNetworks": ["10.1.2.256/32"]}, "* allowNetworks: 10.1.2.256/32 is no network"),
    ({"networkPolicy": {"providers": {"except": ["1.2.3.4/8"]}}}, "* networkPolicy.providers.except: 1.2.3.4/8 is an"),
    ({"ambientCredentialPrefixes": ["gs://b/p/"]}, "at '/ambientCredentialPrefixes/0': 'gs://b/p/' does not match"),
    ({"ambientCredentialPrefixes": ["s3://b/p"]}, "at '/ambientCredentialPrefixes/0': 's3://b/p' does not match"),
    ({"resources": {"limits": {"memory": "512MB"}}}, "at '/resources/limits/memory': '512MB' does not match"),
    ({"commonLabels": {"a": True}}, "at '/commonLabels/a': got boolean, want string"),
    ({"extraArgs": ["workers=2"]}, "at '/extraArgs/0': 'workers=2' does not match pattern '^--[a-z]'"),
    ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "at '/metrics/serviceMonitor/interval': '30' does not match"),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "at '/podDisruptionBudget/maxUnavailable': minimum: got 0"),
    ({"podDisruptionBudget": {"minAvailable": 2}}, "* podDisruptionBudget.minAvailable is 2 of 2 pods: no node could"),
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


GOOD_NETWORKS = ["10.0.0.0/8", "10.1.2.0/23", "10.1.2.3/32", "0.0.0.0/0", "172.16.0.0/12", "fd00::/8", "::1/128"]


def test_networks_are_taken_as_the_operator_takes_them():
    """Every length of a network passes, and both families."""
    made = render({"allowNetworks": GOOD_NETWORKS})

    assert [f"--allow-network={network}" for network in GOOD_NETWORKS] == [
        argument for argument in made.container["args"] if argument.startswith("--allow-network")
    ]


def test_the_chart_works_as_a_part_of_another(tmp_path: Path):
    """A platform's chart can have it as a dependency; helm then gives it `global` too."""
    parent = tmp_path / "platform"
    (parent / "charts").mkdir(parents=True)
    (parent / "charts" / "llmbatch-operator").symlink_to(CHART)
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: platform\nversion: 1.0.0\n")

    made = render(
        {"global": {"domain": "example.com"}, "llmbatch-operator": {"replicaCount": 3}}, release="llm", chart=parent
    )

    assert made.one("Deployment")["metadata"]["name"] == "llm-llmbatch-operator"
    assert made.one("Deployment")["spec"]["replicas"] == 3
