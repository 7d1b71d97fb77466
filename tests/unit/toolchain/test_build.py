"""Building the control plane once, whatever happens meanwhile. Go is a script that writes what it is told to."""

from __future__ import annotations

import io
import signal

import pytest

from support.cluster import poll
from support.machine import GO, Machine
from toolchain.progress import ProgressLine

NAMES = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]
DEADLINE = 60.0


def built(machine: Machine) -> list[str]:
    """The programs that were built on it."""
    return sorted(path.name for path in machine.cache.glob("*/bin/*"))


def test_what_was_built_once_is_not_built_again(machine: Machine):
    """The second run answers the same without a call of Go's compiler."""
    machine.open_gate()
    first, _ = machine.run().communicate(timeout=DEADLINE)
    second, said = machine.run().communicate(timeout=DEADLINE)

    assert [line.split()[:2] for line in first.splitlines()] == [[name, "built"] for name in NAMES]
    assert built(machine) == NAMES
    assert (second, said) == (first, "")
    assert machine.go_builds == 1


def test_of_two_builds_at_the_same_time_the_second_waits_and_says_so(machine: Machine):
    """Two test runs on a fresh machine share one build."""
    first = machine.run()
    assert poll(lambda: machine.go_builds == 1, DEADLINE)
    second = machine.run()
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    machine.open_gate()

    assert first.communicate(timeout=DEADLINE)[0] == second.communicate(timeout=DEADLINE)[0]
    assert machine.go_builds == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(machine: Machine, number: signal.Signals):
    """After Ctrl-C the cache is as it was before."""
    build = machine.run()
    assert poll(lambda: machine.go_builds == 1, DEADLINE)
    build.send_signal(number)
    build.communicate(timeout=DEADLINE)

    assert build.returncode != 0
    assert machine.left_in_cache() == []


def test_what_a_killed_build_left_is_removed_by_the_next(machine: Machine):
    """SIGKILL gives nobody the time to clean up; the next build does it, and builds whole."""
    build = machine.run()
    assert poll(lambda: machine.go_builds == 1, DEADLINE)
    build.kill()
    build.communicate(timeout=DEADLINE)
    assert len(machine.left_in_cache()) == 1
    machine.open_gate()

    machine.run().communicate(timeout=DEADLINE)

    assert len(machine.left_in_cache()) == 1
    assert built(machine) == NAMES


def test_a_failed_build_says_what_go_said_and_leaves_nothing(machine: Machine):
    """The message is Go's own."""
    machine.put(machine.folder / "bin" / "go", GO.replace("echo build >>", "echo no space left on device; exit 1; :"))
    build = machine.run()
    _, said = build.communicate(timeout=DEADLINE)

    assert build.returncode == 1
    assert "no space left on device" in said
    assert machine.left_in_cache() == []


def test_without_a_terminal_progress_is_a_line_every_twenty_seconds():
    """A log of a build of minutes stays short and says how long it took."""
    now = [0.0]
    stream = io.StringIO()
    line = ProgressLine(stream, clock=lambda: now[0])
    for second in range(45):
        now[0] = float(second)
        line.show(f"compiling {second}")

    assert stream.getvalue().splitlines() == ["compiling 0 (0 s)", "compiling 20 (20 s)", "compiling 40 (40 s)"]
