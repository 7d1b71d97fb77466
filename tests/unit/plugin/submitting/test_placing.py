"""A submit that finds something there: what it takes for its own, what it refuses, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_server import ApiServer
from support.plugin import Done, invoked
from support.requests import a_file, a_line


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server that keeps what it is given."""
    with ApiServer(tmp_path) as running:
        yield running


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A file of one request."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(a_file(a_line("a")))
    return file


def submitted(server: ApiServer, file: Path, *arguments: str, code: int = 0) -> Done:
    """The end of `submit`, of the job ``run``."""
    return invoked("submit", file, "--name", "run", *arguments, "--kubeconfig", server.kubeconfig, code=code)


@pytest.mark.parametrize(
    ("first", "then", "differs"),
    [
        ((), ("--deadline", "1h"), "activeDeadlineSeconds"),
        (("--deadline", "1h"), ("--deadline", "2h"), "activeDeadlineSeconds"),
        ((), ("--backoff-limit", "0"), "backoffLimit"),
        (("--ttl", "1d"), (), "ttlSecondsAfterFinished"),
        (("--suspend",), (), "suspend"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(
    server: ApiServer, questions: Path, first: tuple[str, ...], then: tuple[str, ...], differs: str
):
    """A job goes on as it is; who submits it again in another way is told what differs, before any waiting."""
    submitted(server, questions, *first)

    told = submitted(server, questions, *then, code=1).err

    assert f"with other settings ({differs})" in told
    assert "nothing was made" in told


def test_settings_of_a_job_that_has_ended_do_not_matter(server: ApiServer, questions: Path):
    """Nothing goes on: it is found, and said to be an old one."""
    submitted(server, questions)
    server.get("batchjobs", "run")["status"] = {"phase": "Succeeded"}

    assert "submitted before" in submitted(server, questions, "--deadline", "1h").err


def test_the_owners_of_others_are_left_alone(server: ApiServer, questions: Path):
    """The ConfigMap of the requests gets one more owner; those that it has stay."""
    submitted(server, questions, "--to", "configmap")
    (name,) = server.names("configmaps")
    other = {"apiVersion": "v1", "kind": "Secret", "name": "other", "uid": "other"}
    server.get("configmaps", name)["metadata"]["ownerReferences"] = [other]

    for _ in range(2):
        submitted(server, questions, "--to", "configmap")

    owners = server.get("configmaps", name)["metadata"]["ownerReferences"]
    assert [owner["name"] for owner in owners] == ["other", name]


def test_an_owner_that_cannot_be_set_is_told(server: ApiServer, questions: Path):
    """Where others change the object between each look and write, the job is submitted and the rest is said."""
    server.conflicts.add("configmaps")

    assert "will outlive its BatchFile" in submitted(server, questions, "--to", "configmap").err
    assert server.names("batchjobs") == ["run"]


def test_a_manifest_that_leads_to_a_bucket_says_what_is_still_to_be_done(questions: Path):
    """Without a cluster nothing is uploaded, and the manifest alone would fail."""
    arguments = ("--to", "s3://bucket/runs", "--dry-run", "client", "-o", "yaml")

    told = invoked("submit", questions, *arguments)

    (url,) = [line.split()[-1] for line in told.out.splitlines() if "url: s3://" in line and ".jsonl" in line]
    assert f"the requests are not uploaded: put {questions} at {url}" in told.err


@pytest.mark.parametrize(
    ("option", "field"),
    [(("--completion-window", "12h"), "completionWindow"), (("--deadline", "0s"), "activeDeadlineSeconds")],
)
def test_a_manifest_that_the_api_server_would_refuse_is_not_printed(
    questions: Path, option: tuple[str, str], field: str
):
    """The schema is known without a cluster too."""
    told = invoked("submit", questions, *option, "--dry-run", "client", "-o", "yaml", code=2)

    assert told.out == ""
    assert field in told.err
