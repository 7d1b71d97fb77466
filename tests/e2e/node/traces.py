"""What a node leaves on the machine that does not go with its processes, and its removal.

These are the kernel settings that the kubelet changes, cgroups, two mount points and the state folder. What to put back
is written down before the node starts, so that the next one, or `down`, can do it after a SIGKILL too. With cgroup v2
the root must hand its controllers down to the node's group; tried is v1.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

from e2e.node.errors import NodeError
from e2e.node.layout import CGROUPS, LINK, MOUNT_POINTS, SYSCTLS, Layout, cgroups

INSIDE = "e2e.node.inside"
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
PROC_SYS = Path("/proc/sys")
INTERFACES = Path("/sys/class/net")
WEIGHTS = {"cpu.shares": "262144", "cpu.weight": "10000"}
"""The most that cgroup v1 and v2 have: what pods take is theirs and not that of what else the machine does."""
HANDED_DOWN = CGROUPS / "cgroup.subtree_control"


def remember(layout: Layout) -> None:
    """Write down what `remove` is to put back, and make what the node needs outside of its namespaces."""
    settings = {str(path): path.read_text() for name in SYSCTLS if (path := PROC_SYS / name).exists()}
    made = [str(path) for path in MOUNT_POINTS if not path.exists()]
    layout.before.write_text(json.dumps({"settings": settings, "made": made, "handed down": _handed_down()}))
    try:
        for controller in _controllers():
            HANDED_DOWN.write_text(f"+{controller}")
        for path in (*MOUNT_POINTS, *cgroups()):
            path.mkdir(parents=True, exist_ok=True)
            for name, most in WEIGHTS.items():
                if (path / name).exists():
                    (path / name).write_text(most)
    except OSError as error:
        raise NodeError(f"this machine lets nobody make cgroups and folders: {error}") from error


def remove(layout: Layout) -> None:
    """End the node's processes and put the machine back as it was; nothing to do is well. Raises NodeError."""
    deadline = time.monotonic() + STOP_SECONDS
    while (found := init_process(layout)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found, signal.SIGKILL)
        _pause(deadline, f"process {found} of the node does not end")
    while (INTERFACES / LINK).exists():  # the kernel takes its time with a network that nobody is in any more
        _pause(deadline, f"the interface {LINK} does not go away")
    if layout.before.exists():
        before = json.loads(layout.before.read_text())
        for path, value in before["settings"].items():
            Path(path).write_text(value)
        for group in cgroups():
            while not _removed(group):
                _pause(deadline, f"{group} can't be removed")
        for controller in {*_handed_down()} - {*before["handed down"]}:
            HANDED_DOWN.write_text(f"-{controller}")
        for path in before["made"]:
            with contextlib.suppress(FileNotFoundError):
                Path(path).rmdir()
    while layout.state.exists():  # a program that is being killed may still write there
        shutil.rmtree(layout.state, ignore_errors=True)
        _pause(deadline, f"{layout.state} can't be removed")
    layout.before.unlink(missing_ok=True)


def init_process(layout: Layout) -> int | None:
    """The first process in the node's namespaces, as this machine numbers it."""
    wanted = ["-m", INSIDE, str(layout.cache)]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_text(errors="replace").split("\0")[1:4] == wanted:
                    return int(entry.name)
    return None


def _controllers() -> list[str]:
    """What the machine's root cgroup can hand down; with cgroup v1 each hierarchy has its own controllers, always."""
    offered = CGROUPS / "cgroup.controllers"
    return offered.read_text().split() if offered.exists() else []


def _handed_down() -> list[str]:
    return HANDED_DOWN.read_text().split() if HANDED_DOWN.exists() else []


def _removed(group: Path) -> bool:
    """Remove a cgroup with those below it; False while the kernel still sees a process in one."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            Path(folder).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _pause(deadline: float, complaint: str) -> None:
    if time.monotonic() > deadline:
        raise NodeError(complaint)
    time.sleep(POLL_SECONDS)
