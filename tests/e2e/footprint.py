"""What can be seen of a node on the machine that it runs on."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from e2e.node.buildah import programs
from e2e.node.errors import run
from e2e.node.layout import CGROUPS, MOUNT_POINTS, SYSCTLS, Layout
from e2e.node.overlay import over_usr

PROC = Path("/proc")
FORWARDING = ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding")


def footprint(layout: Layout) -> dict[str, list[str]]:
    """What a node changes, by kind: equal before and after means that nothing but processes can be left behind."""
    nft = [*over_usr(programs(layout.cache)), "nft", "list", "ruleset"]
    paths = (*MOUNT_POINTS, layout.state, layout.before)
    return {
        "mounts": sorted(line.split(" ", 1)[1] for line in _lines(PROC / "self" / "mountinfo")),
        "cgroups": sorted(str(path) for path in CGROUPS.glob("*/*/")),  # deeper ones are others'
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": sorted(_lines(PROC / "net" / "route")),
        "rules": run(nft).splitlines(),
        "settings": [f"{name} {(PROC / 'sys' / name).read_text()}" for name in (*SYSCTLS, *FORWARDING)],
        "paths": [str(path) for path in paths if path.exists()],
    }


def process_namespace(process: int) -> str:
    """What the kernel calls the process namespace that a process is in."""
    return os.readlink(PROC / str(process) / "ns" / "pid")


def members(namespace: str) -> list[int]:
    """The processes in that namespace."""
    found: list[int] = []
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it ended, or is about to
                if process_namespace(int(entry.name)) == namespace:
                    found.append(int(entry.name))
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
