"""The node that is made of packages leaves the machine as it found it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.footprint import footprint, processes
from e2e.node.layout import Layout
from support.cluster import poll

TESTS = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "e2e.node"]
PATIENCE = 120.0


@contextmanager
def node_up() -> Iterator[subprocess.Popen[str]]:
    """`up`, once it says how to reach the node."""
    process = subprocess.Popen([*COMMAND, "up"], cwd=TESTS, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export KUBECONFIG=")
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_node_that_is_told_to_end_leaves_nothing():
    """Processes, mounts, cgroups, interfaces, routes, rules and settings are as they were before."""
    layout = Layout.of_user()
    before = footprint(layout)

    with node_up() as up:
        while_up = footprint(layout)
        subprocess.run([*COMMAND, "down"], cwd=TESTS, check=True)
        up.wait(PATIENCE)

    assert {kind for kind in before if while_up[kind] != before[kind]} == {
        "processes", "cgroups", "interfaces", "routes", "settings", "paths",
    }  # fmt: skip
    assert footprint(layout) == before


def test_a_node_whose_runner_is_killed_ends_and_is_tidied_up_after():
    """SIGKILL ends all of the node's processes by itself; what is left goes with the next `up` or `down`."""
    layout = Layout.of_user()
    before = footprint(layout)

    with node_up() as up:
        up.send_signal(signal.SIGKILL)
        up.wait(PATIENCE)
        assert poll(lambda: processes() == before["processes"], PATIENCE), "the node's processes run on"

    subprocess.run([*COMMAND, "down"], cwd=TESTS, check=True)
    assert footprint(layout) == before
