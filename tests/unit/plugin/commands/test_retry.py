"""A second paid run is made when it is asked for, and never by accident."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_server import ApiServer
from support.plugin import Done, invoked


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server with a job that has ended, and its file."""
    with ApiServer(tmp_path) as running:
        running.put("batchfiles", "questions", spec={"targetModelNames": ["gpt"], "source": {"inline": "{}"}})
        running.put("batchjobs", "run", spec={"inputFileRef": {"name": "questions"}}, status={"phase": "Succeeded"})
        yield running


def retried(server: ApiServer, *arguments: str, code: int = 0) -> Done:
    """The end of `retry run`."""
    return invoked("retry", "run", *arguments, "--kubeconfig", server.kubeconfig, code=code)


@pytest.mark.parametrize("more", [(), ("--name", "again"), ("--dry-run",)])
def test_a_job_that_is_run_again_already_is_not_run_twice(server: ApiServer, more: tuple[str, ...]):
    """A `retry` that is repeated is refused, and names the run that goes on; what pays twice is `--force`."""
    assert retried(server).out == "run-retry-1\n"

    refused = retried(server, *more, code=1)

    assert "being run again already: kubectl llmbatch watch run-retry-1" in refused.err
    assert server.names("batchjobs") == ["run", "run-retry-1"]
    assert retried(server, "--force").out == "run-retry-2\n"


def test_a_job_whose_run_has_ended_can_be_run_again(server: ApiServer):
    """Only a run that goes on stands in the way."""
    retried(server)
    server.get("batchjobs", "run-retry-1")["status"] = {"phase": "Failed"}

    assert retried(server).out == "run-retry-2\n"


def test_an_answer_that_was_lost_says_what_may_have_been_made(server: ApiServer):
    """Who repeats the command blindly would else pay twice; and is refused by then."""
    server.lost.add(("POST", "/batchjobs"))

    lost = retried(server, code=5)

    assert "kubectl get batchjob run-retry-1 -n team" in lost.err
    assert server.names("batchjobs") == ["run", "run-retry-1"]
    assert "already" in retried(server, code=1).err


def test_a_file_that_is_being_deleted_cannot_be_run_again(server: ApiServer):
    """The new job would find it gone."""
    server.get("batchfiles", "questions")["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert "BatchFile questions is being deleted" in retried(server, code=1).err
    assert server.names("batchjobs") == ["run"]
