"""Whom the change of a deployment wakes, and whom it leaves alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from llmbatch.api import BatchFile, BatchJob, ModelDeployment
from llmbatch.engine.queue import Key
from llmbatch.reconcile.index.index import Index, key_of

_versions = itertools.count(1)


def metadata(name: str, namespace: str) -> dict[str, Any]:
    """The metadata of a stored object, newer than all before."""
    fixed = {"creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1, "resourceVersion": str(next(_versions))}
    return {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", **fixed}


def a_deployment(namespace: str, *, weight: int = 1) -> ModelDeployment:
    """One that serves `gpt`."""
    block = {"model": "gpt", "auth": {"secretKeyRef": {"name": "s", "key": "k"}}}
    spec = {"modelName": "gpt", "openAI": block, "weight": weight}
    return ModelDeployment.model_validate({"metadata": metadata("east", namespace), "spec": spec})


def a_file(namespace: str) -> BatchFile:
    """One for `gpt`."""
    spec = {"targetModelNames": ["gpt"], "source": {"inline": "x"}}
    return BatchFile.model_validate({"metadata": metadata("questions", namespace), "spec": spec})


def a_job(namespace: str, name: str = "run", *, route: str | None = None, phase: str = "Pending") -> BatchJob:
    """One for `gpt`, which waits, or runs on a deployment."""
    spec = {"inputFileRef": {"name": "questions"}, "targetModelName": "gpt"}
    made = metadata(name, namespace)
    if route:
        made["annotations"] = {"llmbatch.dev/deployment": route, "llmbatch.dev/batch-id": "batch_1"}
    return BatchJob.model_validate({"metadata": made, "spec": spec, "status": {"phase": phase}})


def filled(*, shared: tuple[str, ...] = ()) -> tuple[Index, set[Key], set[Key]]:
    """An index with a file and a waiting job in each of two namespaces, and what lies in `home` and in `other`."""
    index = Index(shared_namespaces=shared)
    found: list[set[Key]] = []
    for namespace in ("home", "other"):
        made = [a_file(namespace), a_job(namespace)]
        for resource in made:
            index.put(resource)
        found.append({key_of(resource) for resource in made})
    return index, found[0], found[1]


def test_a_deployment_wakes_its_own_namespace_and_no_other():
    """A tenant who patches a deployment all the time keeps nobody else's files and jobs busy."""
    index, mine, _ = filled()

    assert index.put(a_deployment("home")) == mine
    assert index.put(a_deployment("home", weight=2)) == mine
    assert index.remove(key_of(a_deployment("home"))) == mine


def test_a_deployment_of_a_shared_namespace_wakes_all_who_may_use_it():
    """Whether it admits them is looked at when they are reconciled."""
    index, mine, theirs = filled(shared=("home",))

    assert index.put(a_deployment("home")) == mine | theirs
    assert index.put(a_deployment("other")) == theirs


@pytest.mark.parametrize(("shared", "everybody"), [((), False), (("home",), True)])
def test_room_that_becomes_free_wakes_those_who_may_have_it(shared, everybody):
    """The end of a batch is nothing to jobs that cannot be run on its deployment."""
    index, _, _ = filled(shared=shared)
    index.put(a_job("home", "first", route="home/east"))

    woken = index.put(a_job("home", "first", route="home/east", phase="Succeeded"))

    waiting = {key_of(a_job("home"))} | ({key_of(a_job("other"))} if everybody else set())
    assert {key for key in woken if key.kind == BatchJob.KIND} == waiting


def test_a_job_elsewhere_is_no_reason_to_ask_a_deployment_how_it_is():
    """Only those who could be run on it depend on it."""
    alone, sharing = Index(), Index(shared_namespaces=["home"])
    for index in (alone, sharing):
        index.put(a_job("other"))
        assert index.depends_on(a_deployment("other"))

    assert not alone.depends_on(a_deployment("home"))
    assert sharing.depends_on(a_deployment("home"))


def test_what_is_no_longer_asked_for_is_forgotten():
    """A job that is gone or finished is woken by no deployment."""
    index, mine, theirs = filled(shared=("home",))

    for key in theirs:
        index.remove(key)

    assert index.put(a_deployment("home")) == mine
