"""The plugin's view of running jobs: as a real process, on a real terminal, against a real API server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import Cluster
from support.diagnostics import Diagnostics
from support.emulator import Account, chat_lines
from support.shared_operator import SharedOperator, shared_operator
from support.terminal import Terminal
from support.world import World

SOURCE = Path(__file__).resolve().parents[2] / "operator"
OUTPUT = {"configMap": {"name": "answers"}}


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1", "--retry-scale", "0.1")
    with shared_operator(cluster, tmp_path_factory.mktemp("plugin"), namespaces=30, flags=flags) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


def command(world: World, *arguments: str) -> list[str]:
    """The plugin in the test's namespace."""
    return [sys.executable, "-m", "llmbatch.plugin", *arguments, "--namespace", world.namespace]


def environment(world: World) -> dict[str, str]:
    """Where the plugin finds the cluster and itself."""
    return {"KUBECONFIG": str(world.cluster.kubeconfig), "PYTHONPATH": str(SOURCE)}


def plugin(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command to its end, in a pipe."""
    import os

    return subprocess.run(
        command(world, *arguments),
        env={**os.environ, **environment(world)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def on_terminal(world: World, *arguments: str, columns: int = 120, lines: int = 24) -> Terminal:
    """One command on a terminal."""
    return Terminal(command(world, *arguments), environment(world), columns=columns, lines=lines)


def held_job(world: World, account: Account, *names: str) -> None:
    """Jobs that run until the account is released."""
    account.hold()
    world.openai("openai", account)
    world.file(lines=chat_lines(4, model="gpt-4o-mini-batch"))
    for name in names:
        world.job(name)
    for name in names:
        world.running(name)


def test_the_live_table_ends_with_the_jobs_and_leaves_its_last_state(world, account):
    """A person sees a bar a job; when all named jobs are done, the screen is as before, with the final table on it."""
    provider = account("openai", provider="openai")
    held_job(world, provider, "run-1", "run-2")

    with on_terminal(world, "watch", "run-1", "run-2") as terminal:
        terminal.wait(lambda text: text.count("InProgress") == 2 and "2 running" in text)
        assert terminal.screen.alternate
        assert terminal.screen.cursor_hidden
        provider.release()

        assert terminal.exit_code() == 0
        assert not terminal.screen.alternate
        assert not terminal.screen.cursor_hidden
        assert "2 succeeded; 8/8 requests" in terminal.text
        assert terminal.text.count("████████████████████ 100%") == 2
