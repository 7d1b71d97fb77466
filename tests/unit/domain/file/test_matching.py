"""Who may use a deployment."""

from __future__ import annotations

from typing import Any

import pytest

from llmbatch.api import ModelDeployment
from llmbatch.api.modeldeployment import LabelSelector
from llmbatch.domain.file.matching import admits, selects

GOLD = {"from": "Selector", "selector": {"matchLabels": {"tier": "gold"}}}


def a_deployment(allowed: dict[str, Any] | None = None) -> ModelDeployment:
    """A deployment in the namespace ``home``."""
    block = {"model": "gpt", "auth": {"secretKeyRef": {"name": "s", "key": "k"}}}
    spec = {"modelName": "m", "openAI": block} | ({"allowedNamespaces": allowed} if allowed else {})
    metadata = {"name": "d", "namespace": "home", "uid": "u", "creationTimestamp": "2026-03-01T12:00:00Z"}
    return ModelDeployment.model_validate({"metadata": metadata, "spec": spec})


def test_a_deployment_always_serves_its_own_namespace():
    """Whatever it says of others, and whether or not it is shared."""
    for allowed in (None, {"from": "Same"}, {"from": "All"}, GOLD):
        assert admits(a_deployment(allowed), "home", shared_namespaces=[], labels=None)


def test_what_is_offered_in_a_namespace_that_is_not_shared_has_no_effect():
    """Otherwise anyone could collect other tenants' prompts by offering a model of the same name."""
    for allowed in ({"from": "All"}, GOLD):
        assert not admits(a_deployment(allowed), "team", shared_namespaces=["other"], labels={"tier": "gold"})


@pytest.mark.parametrize(
    ("allowed", "labels", "wanted"),
    [
        (None, {"tier": "gold"}, False),
        ({"from": "Same"}, {"tier": "gold"}, False),
        ({"from": "All"}, None, True),
        (GOLD, {"tier": "gold", "other": "x"}, True),
        (GOLD, {"tier": "silver"}, False),
        (GOLD, {}, False),
        (GOLD, None, False),
    ],
)
def test_a_shared_deployment_serves_whom_it_admits(allowed, labels, wanted):
    """Same nobody else, All everyone, Selector by labels; labels that cannot be read admit nobody."""
    assert admits(a_deployment(allowed), "team", shared_namespaces=["home"], labels=labels) is wanted


@pytest.mark.parametrize(
    ("operator", "values", "labels", "wanted"),
    [
        ("In", ["a", "b"], {"k": "b"}, True),
        ("In", ["a", "b"], {"k": "c"}, False),
        ("In", ["a", "b"], {}, False),
        ("NotIn", ["a"], {"k": "a"}, False),
        ("NotIn", ["a"], {"k": "b"}, True),
        ("NotIn", ["a"], {}, True),
        ("Exists", [], {"k": ""}, True),
        ("Exists", [], {}, False),
        ("DoesNotExist", [], {}, True),
        ("DoesNotExist", [], {"k": "a"}, False),
    ],
)
def test_expressions_are_read_as_kubernetes_reads_them(operator, values, labels, wanted):
    """As in metav1.LabelSelector: a label that is not there is NotIn every list."""
    selector = LabelSelector.model_validate(
        {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}
    )

    assert selects(selector, labels) is wanted


def test_an_empty_selector_selects_everything_and_all_of_a_selector_must_hold():
    """Labels and expressions together."""
    both = LabelSelector.model_validate(
        {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}
    )

    assert selects(LabelSelector(), {})
    assert selects(both, {"a": "1", "b": "2"})
    assert not selects(both, {"a": "1"})
    assert not selects(both, {"b": "2"})
