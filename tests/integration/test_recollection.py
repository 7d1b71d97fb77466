"""Results that are collected a second time, because nobody wrote down that they had been."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_proxy import ApiProxy
from support.cluster import Cluster
from support.jobs import json_lines

FLAGS = ("--poll-interval", "0.5", "--probe-interval", "1")


@pytest.fixture
def proxy(as_operator: Cluster, tmp_path: Path) -> Iterator[ApiProxy]:
    """A line to the API server that can be cut."""
    with ApiProxy(as_operator, tmp_path) as running:
        yield running


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_results_that_were_changed_before_they_were_told_of_are_put_right(world, account, operator, proxy, kind):
    """Killed between writing results and the status, the operator collects again, over what somebody changed there."""
    world.openai("east", account("east", provider="openai"))
    world.file()
    ended = proxy.hold("PATCH", "/batchjobs/run/status", body="Succeeded")
    first = operator(world.namespace, flags=FLAGS, kubeconfig=proxy.kubeconfig)
    world.job(output={f"{kind[0].lower()}{kind[1:]}": {"name": "answers"}})
    ended.wait()
    first.kill()
    written = world.get(kind, "answers")["data"]["output.jsonl"]
    world.cluster.patch(kind, "answers", world.namespace, {"data": {"output.jsonl": "Y2hhbmdlZA=="}})

    operator(world.namespace, flags=FLAGS)

    assert world.finished()["status"]["phase"] == "Succeeded"
    found = world.get(kind, "answers")["data"]["output.jsonl"]
    assert found == written
    assert len(json_lines(found.encode() if kind == "ConfigMap" else base64.b64decode(found))) == 3
