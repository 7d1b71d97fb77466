"""What can be seen of a node on the machine that it runs on."""

from __future__ import annotations

import os
from pathlib import Path

from e2e.node.buildah import programs
from e2e.node.errors import run
from e2e.node.layout import CGROUPS, MOUNT_POINTS, SYSCTLS, Layout
from e2e.node.overlay import over_usr

PROC = Path("/proc")
FORWARDING = ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding")


def footprint(layout: Layout) -> dict[str, list[str]]:
    """Everything that a node changes, by kind: equal before and after means that nothing was left behind."""
    nft = [*over_usr(programs(layout.cache)), "nft", "list", "ruleset"]
    paths = (*MOUNT_POINTS, layout.state, layout.before)
    return {
        "processes": processes(),
        "mounts": sorted(line.split(" ", 1)[1] for line in _lines(PROC / "self" / "mountinfo")),
        "cgroups": sorted(folder for folder, _, _ in os.walk(CGROUPS)),
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": sorted(_lines(PROC / "net" / "route")),
        "rules": run(nft).splitlines(),
        "settings": [f"{name} {(PROC / 'sys' / name).read_text()}" for name in (*SYSCTLS, *FORWARDING)],
        "paths": [str(path) for path in paths if path.exists()],
    }


def processes() -> list[str]:
    """The processes in other process namespaces than ours."""
    own = os.readlink(PROC / "self" / "ns" / "pid")
    return sorted(entry.name for entry in PROC.iterdir() if entry.name.isdecimal() and _elsewhere(entry, own))


def _elsewhere(process: Path, own: str) -> bool:
    try:
        return os.readlink(process / "ns" / "pid") != own
    except OSError:  # it ended, or is about to
        return False


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
