"""No time at all is a limit too, and a name may be as long as Kubernetes lets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_server import NOW, ApiServer
from support.plugin import Plugin, invoked

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
