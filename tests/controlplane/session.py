"""A control plane in a process of its own, for as long as whoever asked for it lives."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controlplane.server import StartError

WAIT_SECONDS = 180.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Address:
    """How to reach a control plane that is up."""

    kubeconfig: Path
    kubectl: Path
    audit_log: Path


@dataclass(frozen=True)
class Session:
    """A control plane that ends when `stop` is called or this process does, even by SIGKILL.

    The other end sees its standard input close; nothing but this object holds it.
    """

    folder: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def begin(cls, *, manifests: Sequence[Path] = (), users: Sequence[str] = (), controllers: bool = True) -> Session:
        """Start one in the background, getting its programs first. `users` are of the form NAME or NAME=GROUP,…"""
        folder = Path(tempfile.mkdtemp(prefix="llmbatch-controlplane-"))
        command = [sys.executable, "-m", "controlplane", "start", "--until-stdin-closes", f"--folder={folder}"]
        command += [f"--manifests={path}" for path in manifests] + [f"--user={user}" for user in users]
        command += [] if controllers else ["--without-controllers"]
        process = subprocess.Popen(
            command, cwd=Path(__file__).resolve().parents[1], stdin=subprocess.PIPE, start_new_session=True
        )
        return cls(folder, process)

    def stop(self) -> None:
        """End it and wait until all of it is gone."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(STOP_SECONDS)


def await_address(folder: Path) -> Address:
    """Wait, from any process, until the control plane of that folder is up. Raises StartError."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if (folder / "ready").exists():
            ready = json.loads((folder / "ready").read_text())
            return Address(**{name: Path(path) for name, path in ready.items()})
        if not folder.is_dir():
            raise StartError("the control plane ended before it was up; its message is above")
        time.sleep(POLL_SECONDS)
    raise StartError(f"the control plane in {folder} was not up within {WAIT_SECONDS:.0f} s")
