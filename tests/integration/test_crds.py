"""The resources on a real API server: what it takes, what it refuses and why, what it shows."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmbatch.api import KINDS
from llmbatch.api.base import Resource
from llmbatch.api.crdgen import resource_schema
from support.cluster import ApiError, Cluster
from support.crd_cases import (
    DEPLOYMENT,
    FILE,
    JOB,
    REFUSED_CHANGES,
    REFUSED_SPECS,
    TAKEN_CHANGES,
    TAKEN_SPECS,
    Change,
    merged,
    resource,
)
from support.full_resources import FULL

EXAMPLES = Path(__file__).parents[2] / "examples"
ELSEWHERE = {"argocd", "emulator", "kustomize"}
# --- what is refused at creation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [(k, s, m) for k, _, s, m in REFUSED_SPECS],
    ids=[f"{k}: {n}" for k, n, _, _ in REFUSED_SPECS],
)
def test_a_wrong_spec_is_refused_with_advice(
    cluster: Cluster, namespace: str, kind: str, spec: Change, message: str
) -> None:
    """Nobody finds out from a job that hangs what the schema could have told."""
    with pytest.raises(ApiError) as caught:
        cluster.create(resource(kind, spec), namespace)
    assert caught.value.status == 422
    assert message in caught.value.message


@pytest.mark.parametrize(("kind", "spec"), TAKEN_SPECS)
def test_what_lies_at_the_limit_is_taken(cluster: Cluster, namespace: str, kind: str, spec: Change) -> None:
    """The bounds are those that are documented, not one less."""
    stored = cluster.create(resource(kind, spec), namespace)["spec"]
    assert merged(stored, spec) == stored


# --- what may change, and what may not ---------------------------------------------------------------------------


def change_id(case: tuple[str, Change, Change, Any]) -> str:
    return f"{case[0]}: {json.dumps(case[2])[:70]}"


@pytest.mark.parametrize(("kind", "spec", "change", "message"), REFUSED_CHANGES, ids=map(change_id, REFUSED_CHANGES))
def test_what_is_bound_cannot_change_be_added_or_be_removed(
    cluster: Cluster, namespace: str, kind: str, spec: Change, change: Change, message: str
) -> None:
    """What a batch was made from stays what it was made from, and the refusal says what to do instead."""
    before = cluster.create(resource(kind, spec), namespace)["spec"]
    with pytest.raises(ApiError) as caught:
        cluster.patch(kind, "it", namespace, {"spec": change})
    assert caught.value.status == 422
    assert message in caught.value.message
    assert cluster.get(kind, "it", namespace)["spec"] == before


@pytest.mark.parametrize(("kind", "spec", "change"), TAKEN_CHANGES, ids=[change_id((*c, "")) for c in TAKEN_CHANGES])
def test_what_may_change_can(cluster: Cluster, namespace: str, kind: str, spec: Change, change: Change) -> None:
    """The levers that people need while a job runs stay free."""
    before = cluster.create(resource(kind, spec), namespace)["spec"]
    assert cluster.patch(kind, "it", namespace, {"spec": change})["spec"] == merged(before, change)


# --- what is filled in, kept and shown -----------------------------------------------------------------------------


def test_defaults_are_filled_in(cluster: Cluster, namespace: str) -> None:
    """What ``kubectl get -o yaml`` shows is what holds."""
    file = cluster.create(resource("BatchFile", FILE), namespace)["spec"]
    assert (file["providerFileTTL"], file["deletionPolicy"]) == ("720h", "Delete")
    job = cluster.create(resource("BatchJob", {**JOB, "output": {"configMap": {"name": "o"}}}), namespace)["spec"]
    assert (job["suspend"], job["cancel"], job["backoffLimit"], job["completionWindow"]) == (False, False, 3, "24h")
    assert job["output"]["configMap"]["retain"] is True
    deployment = cluster.create(resource("ModelDeployment", DEPLOYMENT), namespace)["spec"]
    assert deployment["openAI"]["baseURL"] == "https://api.openai.com/v1"
    assert (deployment["limits"], deployment["allowedNamespaces"]) == ({}, {"from": "Same"})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_a_round_trip_loses_no_field(cluster: Cluster, namespace: str, kind: type[Resource]) -> None:
    """A resource with every field set comes back from the API server as it was written, status included."""
    full = copy.deepcopy(FULL[kind.KIND])
    assert unset_fields(kind, full) == []
    cluster.create({key: value for key, value in full.items() if key != "status"}, namespace)
    name = full["metadata"]["name"]
    stored = cluster.patch(kind.KIND, name, namespace, {"status": full["status"]}, subresource="status")
    assert (stored["spec"], stored["status"]) == (full["spec"], full["status"])
    parsed = kind.model_validate(stored).wire()
    assert (parsed["spec"], parsed["status"]) == (full["spec"], full["status"])


def unset_fields(kind: type[Resource], full: dict[str, Any]) -> list[str]:
    """Fields of the schema that the example does not set; alternatives that exclude each other count as one."""
    excluded = {"spec.azureOpenAI", "spec.source.inline", "spec.source.configMapKeyRef",
                "spec.source.secretKeyRef", "spec.output.configMap", "spec.output.secret"}  # fmt: skip
    schema = resource_schema(kind)

    def missing(part: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        for name, field in part.get("properties", {}).items():
            inner = f"{path}.{name}".removeprefix(".")
            if inner in excluded:
                continue
            if name not in value or value[name] in ({}, []):
                yield inner
            else:
                yield from missing(field, value[name], inner)
        if "items" in part:
            for entry in value[:1]:
                yield from missing(part["items"], entry, f"{path}[]")

    return [path for field in ("spec", "status") for path in missing(schema["properties"][field], full[field], field)]


def test_kubectl_waits_for_a_finished_job(cluster: Cluster, namespace: str) -> None:
    """One condition tells of every end, so ``kubectl wait`` needs no more than one."""
    cluster.create(resource("BatchJob", JOB), namespace)
    finished = {
        "type": "Finished", "status": "True", "reason": "Completed", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    status = {"observedGeneration": 1, "conditions": [finished]}
    cluster.patch("BatchJob", "it", namespace, {"status": status}, subresource="status")
    arguments = ("wait", "batchjob/it", "-n", namespace, "--for=condition=Finished", "--timeout=10s")
    assert "condition met" in cluster.kubectl(*arguments).stdout


@pytest.mark.parametrize("kind", ["batchjobs", "batchfiles", "modeldeployments"])
def test_explain_describes_every_field(cluster: Cluster, kind: str) -> None:
    """``kubectl explain`` is the manual, and the API server publishes all of it."""
    definition = published_schema(cluster, kind)
    assert list(without_description(definition["properties"]["spec"], "spec")) == []
    assert list(without_description(definition["properties"]["status"], "status")) == []
    shown = cluster.kubectl("explain", kind).stdout
    for field in ("spec", "status"):
        assert definition["properties"][field]["description"] in " ".join(shown.split())


def published_schema(cluster: Cluster, plural: str) -> dict[str, Any]:
    schemas = cluster.request("GET", "/openapi/v3/apis/llmbatch.dev/v1alpha1")["components"]["schemas"]
    (found,) = [s for s in schemas.values() if own_kind(s).lower() + "s" == plural]
    return found


def own_kind(schema: dict[str, Any]) -> str:
    kinds = schema.get("x-kubernetes-group-version-kind", [])
    return kinds[0]["kind"] if kinds else ""


def without_description(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        if not field.get("description"):
            yield f"{path}.{name}"
        yield from without_description(field, f"{path}.{name}")
        if "items" in field:
            yield from without_description(field["items"], f"{path}.{name}[]")


COLUMNS = {
    "mdep": ["NAME", "MODEL", "PROVIDER", "READY", "ACTIVE", "AGE"],
    "bf": ["NAME", "MODELS", "REQUESTS", "READY", "AGE"],
    "bj": ["NAME", "MODEL", "DEPLOYMENT", "PHASE", "DONE/TOTAL", "COST", "AGE"],
}


def test_tables_have_their_columns(cluster: Cluster, namespace: str) -> None:
    """By short name each kind shows its columns, and values where the status has them."""
    for full in FULL.values():
        cluster.create({key: value for key, value in full.items() if key != "status"}, namespace)
        patch = {"status": full["status"]}
        cluster.patch(full["kind"], full["metadata"]["name"], namespace, patch, subresource="status")
    tables = {name: cluster.kubectl("get", name, "-n", namespace).stdout.splitlines() for name in COLUMNS}
    assert {name: table[0].split() for name, table in tables.items()} == COLUMNS
    assert tables["mdep"][1].split()[:5] == ["full", "m", "OpenAI", "True", "3"]
    assert tables["bf"][1].split()[:4] == ["full", '["m"]', "1000", "True"]
    assert tables["bj"][1].split()[:6] == ["full", "m", "east", "Succeeded", "1000/1000", "1.234567"]


def test_the_category_lists_all_kinds(cluster: Cluster, namespace: str) -> None:
    """``kubectl get llmbatch`` shows everything at once."""
    for kind, spec in (("ModelDeployment", DEPLOYMENT), ("BatchFile", FILE), ("BatchJob", JOB)):
        cluster.create(resource(kind, spec), namespace)
    shown = set(cluster.kubectl("get", "llmbatch", "-n", namespace, "-o", "name").stdout.split())
    assert shown == {
        f"{plural}.llmbatch.dev/it" for plural in ("modeldeployments", "batchfiles", "batchjobs")
    } or shown == {f"{kind}.llmbatch.dev/it" for kind in ("modeldeployment", "batchfile", "batchjob")}


# --- examples ------------------------------------------------------------------------------------------------------


def plain_examples() -> list[Path]:
    """Those for any namespace; what kustomize or Argo CD reads first, or needs real pods, has tests of its own."""
    return [path for path in sorted(EXAMPLES.rglob("*.yaml")) if not ELSEWHERE & set(path.relative_to(EXAMPLES).parts)]


@pytest.mark.parametrize("path", plain_examples(), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_example_applies(cluster: Cluster, namespace: str, path: Path) -> None:
    """Each example is taken as it is, warns of nothing, and holds no field that the API server would drop."""
    done = cluster.kubectl("apply", "--validate=strict", "-n", namespace, "-f", str(path))
    assert done.stderr == ""
    for line in lines_in(path):
        assert {"custom_id", "method", "url", "body"} == json.loads(line).keys()


def lines_in(path: Path) -> list[str]:
    texts: list[str] = []
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] == "ConfigMap":
            texts.append(document["data"]["requests.jsonl"])
        elif document["kind"] == "BatchFile":
            texts.append(document["spec"]["source"].get("inline", ""))
    return [line for text in texts for line in text.splitlines()]
