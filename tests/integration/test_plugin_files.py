"""The plugin's way in and out: submitting files and fetching results, as a real process on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import Cluster
from support.diagnostics import Diagnostics
from support.emulator import Account, chat_lines
from support.jobs import custom_ids
from support.plugin import Plugin
from support.shared_operator import SharedOperator, shared_operator
from support.world import MODEL, World

THREE = ["request-0", "request-1", "request-2"]


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1", "--retry-scale", "0.1")
    with shared_operator(cluster, tmp_path_factory.mktemp("plugin"), namespaces=40, flags=flags) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


@pytest.fixture
def openai(world, account) -> Account:
    """An OpenAI account with a deployment in the test's namespace."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    return openai


@pytest.fixture
def plugin(world) -> Plugin:
    """The plugin in the test's namespace."""
    return Plugin(world.cluster.kubeconfig, world.namespace)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A file of three requests."""
    return a_file(tmp_path, 3)


def a_file(folder: Path, count: int, *, name: str = "questions.jsonl", text: str = "What is 6 times 7?") -> Path:
    file = folder / name
    file.write_bytes(chat_lines(count, model=MODEL, text=text))
    return file


def submitted(plugin: Plugin, *arguments: str | Path) -> str:
    """The name of the job that a submit made or found."""
    return plugin.run("submit", *arguments, "-o", "name").out.strip()


def test_a_file_becomes_answers_with_two_commands(world, openai, plugin, questions, tmp_path):
    """`submit --wait` ends when the job is complete, and `results` gives every answer."""
    done = plugin.run("submit", questions, "--model", MODEL, "--wait")

    name = done.out.split()[-2].rpartition("/")[2]
    assert "batchfile.llmbatch.dev/questions-" in done.out
    assert "Succeeded" in done.err
    assert custom_ids(plugin.run("results", name).out) == THREE
    target = tmp_path / "answers.jsonl"
    told = plugin.run("results", name, "-o", target)
    assert custom_ids(target.read_text()) == THREE
    assert told.out == ""
    assert "3 lines" in told.err
    assert plugin.run("results", name, "--summary").json["requestCounts"]["completed"] == 3
    assert "no request failed" in plugin.run("results", name, "--errors", code=1).err


def test_the_same_submit_twice_is_one_job(world, openai, plugin, questions):
    """A submit that is repeated finds what is there, says so, and costs nothing."""
    first = plugin.run("submit", questions, "--model", MODEL, "--wait")
    again = plugin.run("submit", questions, "--model", MODEL, "--wait")

    assert first.out.count("created") == 2
    assert again.out.count("unchanged") == 2
    assert "submitted before" in again.err
    assert len(openai.batches()) == 1


def test_another_name_is_another_run_of_the_same_file(world, openai, plugin, questions):
    """One upload serves two jobs that the user named."""
    for name in ("monday", "tuesday"):
        assert submitted(plugin, questions, "--model", MODEL, "--name", name, "--wait") == name

    assert len(openai.batches()) == 2
    assert len(world.cluster.list("BatchFile", world.namespace)) == 1
