"""The models that a namespace may use, as far as deployments themselves tell."""

from __future__ import annotations

from typing import Any

from llmbatch.api import ModelDeployment
from llmbatch.plugin.commands.models import data, table
from llmbatch.plugin.offers import Offer, offers
from llmbatch.plugin.terminal.printing import Look, lines
from support.builders import NOW


def a_deployment(
    name: str, *, home: str = "team", model: str = "gpt", ready: str | None = "Ready", status: str = "True", **spec: Any
) -> ModelDeployment:
    """A deployment; ``ready`` is the reason of its Ready condition."""
    told = {"type": "Ready", "status": status, "reason": ready, "message": "so it is", "lastTransitionTime": NOW}
    return ModelDeployment.model_validate(
        {
            "metadata": {"name": name, "namespace": home, "uid": f"uid-{home}-{name}", "creationTimestamp": NOW},
            "spec": {
                "modelName": model,
                "openAI": {"model": "gpt-4o-mini", "auth": {"secretKeyRef": {"name": "key", "key": "key"}}},
                **spec,
            },
            "status": {"conditions": [told] if ready else []},
        }
    )


ALL = {"from": "All"}
PROD = {"from": "Selector", "selector": {"matchLabels": {"stage": "prod"}}}


def seen(*deployments: ModelDeployment, labels: dict[str, str] | None = None) -> dict[str, str]:
    """Access by deployment, for namespace ``team``."""
    found = offers(deployments, "team", {} if labels is None else labels)
    return {offer.deployment.metadata.name: offer.access for offered in found.values() for offer in offered}


def test_own_deployments_and_those_of_shared_namespaces_are_offered():
    """What another namespace keeps to itself is not offered."""
    assert seen(
        a_deployment("mine"),
        a_deployment("theirs", home="other"),
        a_deployment("open", home="platform", allowedNamespaces=ALL),
    ) == {"mine": "own", "open": "shared"}


def test_a_namespace_that_the_administrator_does_not_share_offers_nothing():
    """allowedNamespaces without the administrator's word has no effect, and its condition says so."""
    lure = a_deployment("lure", home="evil", ready="NotShared", allowedNamespaces=ALL)
    broken = a_deployment("broken", home="evil", ready="Unreachable", status="False", allowedNamespaces=ALL)

    assert seen(lure, broken) == {}


def test_what_only_the_operator_knows_is_unclear():
    """Before any deployment of a namespace was Ready, nothing tells whether it is shared."""
    assert seen(a_deployment("new", home="platform", ready=None, allowedNamespaces=ALL)) == {"new": "unclear"}


def test_a_selector_asks_the_labels_of_the_namespace():
    """Labels that may not be read leave it open."""
    prod = a_deployment("prod", home="platform", allowedNamespaces=PROD)

    assert seen(prod, labels={"stage": "prod"}) == {"prod": "shared"}
    assert seen(prod, labels={"stage": "test"}) == {}
    assert offers([prod], "team", None)["gpt"][0].access == "unclear"


def test_a_table_tells_health_share_and_limits():
    """One look shows what can take work now."""
    limits = {"maxRequestsPerFile": 50000, "maxFileBytes": "200Mi", "maxActiveBatches": 10}
    found = offers(
        [
            a_deployment("east", limits=limits, weight=3),
            a_deployment("west", home="platform", allowedNamespaces=ALL),
            a_deployment("old", ready="Unauthorized", status="False"),
        ],
        "team",
        {},
    )

    assert lines(table(found, "team"), Look()) == [
        "MODEL   DEPLOYMENT      READY   REASON         PROVIDER   WEIGHT   ACTIVE   "
        "LIMITS                          FROM",
        "gpt     platform/west   yes     Ready          OpenAI          1        -   "
        "-                               shared",
        "gpt     east            yes     Ready          OpenAI          3     -/10   "
        "50,000 requests, 200Mi a file   own",
        "gpt     old             no      Unauthorized   OpenAI          1        -   "
        "-                               own",
    ]


def test_programs_get_every_deployment_by_model():
    """The structured form counts what is ready, and holds limits as the spec has them."""
    told = data(offers([a_deployment("east", limits={"maxFileBytes": "200Mi"})], "team", {}))

    assert told["models"][0]["readyDeployments"] == 1
    assert told["models"][0]["deployments"] == [
        {
            "namespace": "team", "name": "east", "access": "own", "provider": "OpenAI", "ready": True,
            "reason": "Ready", "message": "so it is", "suspended": False, "weight": 1, "activeBatches": None,
            "enqueuedTokens": None, "limits": {"maxFileBytes": "200Mi"},
        }
    ]  # fmt: skip


def test_an_own_deployment_that_is_not_shared_is_simply_ready():
    """That others may not use it is no trouble for its own namespace."""
    assert Offer(a_deployment("east", ready="NotShared", allowedNamespaces=ALL), "own").reason == "Ready"
