"""The operator installed for one namespace, with Roles there in place of a ClusterRole."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from support.cluster import ApiError
from support.helm import render
from support.installed import install
from support.rights import FORBIDDEN, asked_in
from support.world import World

FLAGS = ("--poll-interval", "0.5", "--probe-interval", "1")


@pytest.fixture
def elsewhere(world: World, namespaces) -> World:
    """Another tenant's namespace, in which the operator is not to work."""
    return World(world.cluster, namespaces())


def test_in_one_namespace_roles_are_enough(world, elsewhere, account, operator, tmp_path: Path):
    """As the chart installs it with watchNamespaces, it holds its Lease, does all of a job, and is refused nothing."""
    release = render({"watchNamespaces": [world.namespace]}, release=world.namespace, namespace=world.namespace)
    installed = install(world.cluster, release, tmp_path)
    for place in (world, elsewhere):
        place.openai("east", account("east", provider="openai"))
        place.file()
        place.job(output={"secret": {"name": "answers"}})
    running = operator(flags=(*installed.flags, *FLAGS), kubeconfig=installed.cluster.kubeconfig)

    assert world.finished()["status"]["phase"] == "Succeeded"
    answers = base64.b64decode(world.get("Secret", "answers")["data"]["output.jsonl"])
    assert len(answers.splitlines()) == 3
    assert running.metric("llmbatch_leader") == 1
    assert "finalizers" not in elsewhere.get("BatchJob", "run")["metadata"]
    mine = [asked for asked in asked_in(world.cluster.audit_log) if f":{world.namespace}:" in asked.user]
    assert mine
    assert [asked for asked in mine if asked.decision == FORBIDDEN] == []


def test_in_one_namespace_nothing_else_can_be_read(world, elsewhere, tmp_path: Path):
    """The account of such a release is refused everything in other namespaces, the namespace itself too."""
    release = render({"watchNamespaces": [world.namespace]}, release=world.namespace, namespace=world.namespace)
    account = install(world.cluster, release, tmp_path).cluster

    def answer(kind: str, name: str, place: World) -> int:
        with pytest.raises(ApiError) as refused:
            account.get(kind, name, place.namespace)
        return refused.value.status

    kinds = ("Secret", "ConfigMap", "BatchJob", "Lease")
    assert {kind: answer(kind, "any", elsewhere) for kind in kinds} == dict.fromkeys(kinds, 403)
    assert answer("Namespace", elsewhere.namespace, elsewhere) == 403
    assert answer("Secret", "any", world) == 404
