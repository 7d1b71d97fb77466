"""What goes wrong with a node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

TAIL = 4000


class NodeError(Exception):
    """The node, or an image for it, can't be had; the message says why, and where there is more to read."""


def require_root() -> None:
    """Raises NodeError where this process may not do what a node, or the build of its images, needs."""
    if os.geteuid():
        raise NodeError(
            "root is needed, for namespaces, mounts and cgroups; without it, name another cluster in E2E_KUBECONFIG"
        )


def run(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> str:
    """What a command printed. Raises NodeError with the end of what it said."""
    done = subprocess.run(
        [str(part) for part in command], env=environment, cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        said = (done.stdout + done.stderr)[-TAIL:]
        raise NodeError(f"{' '.join(map(str, command))} ended with {done.returncode}\n{said}")
    return done.stdout
