"""Objects that another version of the operator wrote are never passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmbatch.kube.errors import Unreadable
from llmbatch.plugin.commands.watch import Lines
from llmbatch.plugin.jobs.watched import Watched
from llmbatch.plugin.options import Format
from support.api_server import ApiServer
from support.plugin import Done, invoked


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server with a job that ended, and two jobs and a deployment that this version cannot read."""
    with ApiServer(tmp_path) as running:
        running.put("batchjobs", "a", spec={"inputFileRef": {"name": "questions"}}, status={"phase": "Succeeded"})
        running.put("batchjobs", "b", spec={"inputFileRef": {"name": "questions"}}, status={"phase": "Dreaming"})
        running.put("batchjobs", "d", spec={})
        running.put("modeldeployments", "later", spec={"modelName": "gpt", "weight": "heavy"})
        yield running


def unreadable(name: str) -> Unreadable:
    """What is told of a job of that name."""
    error = Unreadable("")
    error.name = name
    return error


def done(server: ApiServer, *arguments: str, code: int) -> Done:
    """The end of a command."""
    return invoked(*arguments, "--kubeconfig", server.kubeconfig, code=code)


def test_a_sum_without_all_jobs_is_no_success(server: ApiServer):
    """`cost` adds up what it can read, names the rest and leaves with 1."""
    told = done(server, "cost", "-o", "json", code=1)

    assert told.json["total"]["jobs"] == 1
    assert "2 jobs cannot be read by version" in told.err
    assert told.err.strip().endswith("b, d; they are in no sum")


def test_a_list_without_all_deployments_is_no_success(server: ApiServer):
    """`models` too."""
    assert "1 deployments cannot be read by version" in done(server, "models", code=1).err


def test_a_job_that_cannot_be_read_is_not_called_missing(server: ApiServer):
    """`watch d` says what is the matter, with 1 and not 3, and a job beside it can be watched."""
    assert "BatchJob team/d cannot be read by version" in done(server, "watch", "d", code=1).err
    assert done(server, "watch", "a", code=1).err == ""


def test_watching_all_jobs_tells_which_are_not_shown(capsys: pytest.CaptureFixture[str]):
    """They are told once, beside the lines, and another one when it comes."""
    watched = Watched(frozenset())
    lines = Lines(watched, Format.TABLE, namespaces=False)
    for name in ("a", "a", "b"):
        watched.refuse(unreadable(name))
        lines.show()

    told = capsys.readouterr()
    assert told.out == ""
    assert [line.partition(": ")[2] for line in told.err.splitlines()] == ["a", "a, b"]


def test_a_job_that_nobody_waits_for_may_be_unreadable():
    """Only those that are named matter to who named them."""
    watched = Watched(frozenset({"a"}))
    watched.refuse(unreadable("b"))

    assert watched.unreadable == set()
    with pytest.raises(Unreadable):
        watched.refuse(unreadable("a"))
