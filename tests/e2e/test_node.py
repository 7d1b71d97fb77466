"""The node that is made of packages leaves the machine as it found it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.footprint import footprint, members, process_namespace
from e2e.node.layout import Layout
from e2e.node.traces import init_process
from support.cluster import poll

TESTS = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "e2e.node"]
PATIENCE = 120.0


@contextmanager
def node_up(layout: Layout) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`up`, once it says how to reach the node, and the process namespace of what runs there."""
    process = subprocess.Popen([*COMMAND, "up"], cwd=TESTS, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export KUBECONFIG=")
        init = init_process(layout)
        assert init is not None
        yield process, process_namespace(init)
    finally:
        process.kill()
        process.communicate()


def test_a_node_that_is_told_to_end_leaves_nothing():
    """Processes, mounts, cgroups, interfaces, routes, rules and settings are as they were before."""
    layout = Layout.of_user()
    before = footprint(layout)

    with node_up(layout) as (up, namespace):
        while_up = footprint(layout)
        assert members(namespace)
        subprocess.run([*COMMAND, "down"], cwd=TESTS, check=True)
        up.wait(PATIENCE)

    changed = {kind for kind in before if while_up[kind] != before[kind]}
    assert changed == {"cgroups", "interfaces", "routes", "settings", "paths"}
    assert footprint(layout) == before
    assert members(namespace) == []


def test_a_node_whose_runner_is_killed_ends_and_is_tidied_up_after():
    """SIGKILL ends all of the node's processes by itself; what is left goes with the next `up` or `down`."""
    layout = Layout.of_user()
    before = footprint(layout)

    with node_up(layout) as (up, namespace):
        up.send_signal(signal.SIGKILL)
        up.wait(PATIENCE)
        assert poll(lambda: not members(namespace), PATIENCE), "the node's processes run on"

    subprocess.run([*COMMAND, "down"], cwd=TESTS, check=True)
    assert footprint(layout) == before
