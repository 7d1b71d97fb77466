"""What lies at the edges: no time at all, names of the greatest length, bytes that a terminal would obey."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_server import NOW, ApiServer
from support.plugin import Plugin, invoked
from support.terminal import Terminal

SPEC = {"inputFileRef": {"name": "questions"}}
ENDED = {"phase": "Succeeded", "completionTime": NOW, "cost": {"amount": "1.000000", "source": "spec"}}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server."""
    with ApiServer(tmp_path) as running:
        yield running


@pytest.mark.parametrize("arguments", [("watch", "run-1"), ("cancel", "run-1", "--wait")])
def test_no_time_is_over_at_once(api: ApiServer, arguments: tuple[str, ...]):
    """`--timeout 0` does not wait for ever."""
    api.put("batchjobs", "run-1", spec=SPEC, status={"phase": "InProgress"})

    assert Plugin(api.kubeconfig).run(*arguments, "--timeout", "0", code=124).out == ""


def test_no_time_ago_is_now(api: ApiServer):
    """`--since 0s` leaves out what ended before, and the longest time is none that a date cannot be."""
    api.put("batchjobs", "run-1", spec=SPEC, status=ENDED)

    def jobs(since: str) -> int:
        told = invoked("cost", "--since", since, "-o", "json", "--kubeconfig", api.kubeconfig)
        return told.json["total"]["jobs"]

    assert (jobs("0s"), jobs("36500d")) == (0, 1)


def test_results_that_bear_no_label_of_their_job_are_told_of(api: ApiServer):
    """A label holds 63 characters; the results of a job with a longer name, which is gone, are found by their name."""
    name = "a" * 64

    told = invoked("results", name, "--kubeconfig", api.kubeconfig, code=3)

    assert told.err.endswith(f"kubectl get configmap {name}-output\n")
    assert not [call for call in api.calls if "labelSelector" in call.query]


def test_results_on_a_terminal_move_no_cursor(api: ApiServer):
    """What a model wrote is shown there, and obeyed nowhere; a pipe has it as it is."""
    status = {
        "phase": "Succeeded",
        "output": {"location": "configmap/answers", "bytes": 9, "lines": 1},
    }
    job = api.put("batchjobs", "run-1", spec={**SPEC, "output": {"configMap": {"name": "answers"}}}, status=status)
    labels = {"llmbatch.dev/job-uid": job["metadata"]["uid"]}
    api.put("configmaps", "answers", metadata={"labels": labels}, data={"output.jsonl": "seen\x9b2Jtoo\n"})
    plugin = Plugin(api.kubeconfig)

    with Terminal(plugin.command("results", "run-1"), plugin.environ) as terminal:
        assert terminal.exit_code() == 0
    assert terminal.output.decode() == "seen\ufffd2Jtoo\r\n"
    assert plugin.run("results", "run-1").out == "seen\x9b2Jtoo\n"
