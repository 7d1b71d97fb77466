"""A machine that has only what a test gives it: an empty home and cache, a PATH of its own, a Go that is a script."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
# Notes each build in `calls`, and builds only when `gate` exists; both lie beside the folder `bin` of the script.
GO = """#!/bin/sh
here=${0%/*}/..
case "$1" in
  env) echo go99.0 ;;
  list) echo one; echo two ;;
  build)
    echo build >> "$here/calls"
    while [ "$1" != -o ]; do shift; done
    folder=$2; shift 2
    echo half > "$folder/half"
    trap 'exit 1' INT TERM
    until [ -e "$here/gate" ]; do sleep 0.02; done
    rm "$folder/half"
    for package in "$@"; do
      name=${package##*/}; [ "$name" != v3 ] || name=server
      echo "$package"; echo '#!/bin/sh' > "$folder/$name"; chmod +x "$folder/$name"
    done ;;
esac
"""


def a_program(version: str) -> str:
    """A script that says it is of that version."""
    return f"#!/bin/sh\necho 'Some Version: v{version}-rest'\n"


class Machine:
    """Programs run on it with `run`, or in this process with its `environment`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        self.put(folder / "bin" / "go", GO)
        for name in ("chmod", "rm", "sleep"):
            (folder / "bin" / name).symlink_to(str(shutil.which(name)))
        self.environment = {
            "PATH": str(folder / "bin"),
            "PYTHONPATH": str(TESTS),
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "LLMBATCH_DOWNLOADS": "http://127.0.0.1:9",  # the port "discard", where nobody listens
        }

    @property
    def cache(self) -> Path:
        """Where its control plane's programs are kept."""
        return self.folder / "cache" / "llmbatch-operator" / "controlplane"

    @property
    def go_builds(self) -> int:
        """How often Go was told to build."""
        calls = self.folder / "calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    def open_gate(self) -> None:
        """Let Go finish what it builds."""
        (self.folder / "gate").touch()

    def put(self, path: Path, content: str) -> None:
        """Place a program."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)

    def run(self, **environment: str) -> subprocess.Popen[str]:
        """Begin to get the programs of the control plane."""
        process = subprocess.Popen(
            [sys.executable, "-m", "toolchain", "controlplane"],
            env={**self.environment, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what still runs on it."""
        for process in self.started:
            process.kill()
            process.communicate()

    def left_in_cache(self) -> list[str]:
        """What is there but locks."""
        return sorted(path.name for path in self.cache.iterdir() if path.name != "lock")
