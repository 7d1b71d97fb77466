"""Building the control plane once, whatever happens meanwhile. Go is a script that writes what it is told to."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import poll
from toolchain.progress import ProgressLine

TESTS = Path(__file__).resolve().parents[1]
NAMES = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]
DEADLINE = 60.0
# Notes each build in $GO_CALLS, and builds only when $GO_GATE exists.
GO = """#!/bin/sh
case "$1" in
  env) echo go99.0 ;;
  list) echo one; echo two ;;
  build)
    echo build >> "$GO_CALLS"
    while [ "$1" != -o ]; do shift; done
    folder=$2; shift 2
    echo half > "$folder/half"
    trap 'exit 1' INT TERM
    until [ -e "$GO_GATE" ]; do sleep 0.02; done
    rm "$folder/half"
    for package in "$@"; do
      name=${package##*/}; [ "$name" != v3 ] || name=server
      echo "$package"; echo '#!/bin/sh' > "$folder/$name"; chmod +x "$folder/$name"
    done ;;
esac
"""


class Machine:
    """A machine with a Go, an empty cache, and builds that run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builds: list[subprocess.Popen[str]] = []
        (folder / "bin").mkdir()
        (folder / "bin" / "go").write_text(GO)
        (folder / "bin" / "go").chmod(0o755)

    @property
    def cache(self) -> Path:
        return self.folder / "cache" / "llmbatch-operator" / "controlplane"

    @property
    def go_builds(self) -> int:
        calls = self.folder / "calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def build(self, **environment: str) -> subprocess.Popen[str]:
        own = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(TESTS),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "GO_CALLS": str(self.folder / "calls"),
            "GO_GATE": str(self.folder / "gate"),
        }
        kept = {key: value for key, value in os.environ.items() if key != "KUBEBUILDER_ASSETS"}
        process = subprocess.Popen(
            [sys.executable, "-m", "controlplane", "build"],
            env={**kept, **own, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.builds.append(process)
        return process

    def left_in_cache(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir() if path.name != "lock")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine of this test's own; its builds end with the test."""
    made = Machine(tmp_path)
    yield made
    for process in made.builds:
        process.kill()
        process.communicate()


def test_what_was_built_once_is_not_built_again(machine: Machine):
    """The second build answers the same folder without a call of Go's compiler."""
    machine.open_gate()
    first, _ = machine.build().communicate(timeout=DEADLINE)
    second, said = machine.build().communicate(timeout=DEADLINE)

    assert sorted(path.name for path in Path(first.strip()).iterdir()) == NAMES
    assert (second, said) == (first, "")
    assert machine.go_builds == 1


def test_of_two_builds_at_the_same_time_the_second_waits_and_says_so(machine: Machine):
    """Two test runs on a fresh machine share one build."""
    first = machine.build()
    assert poll(lambda: machine.go_builds == 1, DEADLINE)
    second = machine.build()
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    machine.open_gate()

    assert first.communicate(timeout=DEADLINE)[0] == second.communicate(timeout=DEADLINE)[0]
    assert machine.go_builds == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(machine: Machine, number: signal.Signals):
    """After Ctrl-C the cache is as it was before."""
    build = machine.build()
    assert poll(lambda: machine.go_builds == 1, DEADLINE)
    build.send_signal(number)
    build.communicate(timeout=DEADLINE)

    assert build.returncode != 0
    assert machine.left_in_cache() == []


def test_what_a_killed_build_left_is_removed_by_the_next(machine: Machine):
    """SIGKILL gives nobody the time to clean up; the next build does it, and builds whole."""
    build = machine.build()
    assert poll(lambda: machine.go_builds == 1, DEADLINE)
    build.kill()
    build.communicate(timeout=DEADLINE)
    assert len(machine.left_in_cache()) == 1
    machine.open_gate()

    answer, _ = machine.build().communicate(timeout=DEADLINE)

    assert machine.left_in_cache() == [Path(answer.strip()).parent.name]
    assert sorted(path.name for path in Path(answer.strip()).iterdir()) == NAMES


def test_a_failed_build_says_what_go_said_and_leaves_nothing(machine: Machine):
    """The message is Go's own."""
    go = machine.folder / "bin" / "go"
    go.write_text(GO.replace('echo build >> "$GO_CALLS"', "echo no space left on device; exit 1"))
    build = machine.build()
    _, said = build.communicate(timeout=DEADLINE)

    assert build.returncode == 1
    assert "no space left on device" in said
    assert machine.left_in_cache() == []


def test_the_folder_of_kubebuilder_is_used_and_only_what_it_lacks_is_built(machine: Machine):
    """KUBEBUILDER_ASSETS of envtest has no controller-manager: that one alone comes from Go."""
    assets = machine.folder / "assets"
    assets.mkdir()
    for name in NAMES:
        (assets / name).write_text("#!/bin/sh\n")
        (assets / name).chmod(0o755)
    whole, _ = machine.build(KUBEBUILDER_ASSETS=str(assets)).communicate(timeout=DEADLINE)
    (assets / "kube-controller-manager").unlink()
    machine.open_gate()
    machine.build(KUBEBUILDER_ASSETS=str(assets)).communicate(timeout=DEADLINE)

    assert whole.strip() == str(assets)
    assert [path.name for path in machine.cache.glob("*/bin/*")] == ["kube-controller-manager"]


def test_assets_without_an_api_server_are_refused_by_name(machine: Machine):
    """The message says which program is missing, and what to do."""
    build = machine.build(KUBEBUILDER_ASSETS=str(machine.folder))
    _, said = build.communicate(timeout=DEADLINE)

    assert build.returncode == 1
    assert "kube-apiserver" in said
    assert "unset" in said


def test_without_a_terminal_progress_is_a_line_every_twenty_seconds():
    """A log of a build of minutes stays short and says how long it took."""
    now = [0.0]
    stream = io.StringIO()
    line = ProgressLine(stream, clock=lambda: now[0])
    for second in range(45):
        now[0] = float(second)
        line.show(f"compiling {second}")

    assert stream.getvalue().splitlines() == ["compiling 0 (0 s)", "compiling 20 (20 s)", "compiling 40 (40 s)"]
