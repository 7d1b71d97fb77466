"""Builds programs from Go modules."""

from __future__ import annotations

import hashlib
import platform
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from toolchain.cache import cache_folder, locked
from toolchain.go import BuildError, find_go, go_environment
from toolchain.leash import leashed
from toolchain.progress import ProgressLine
from toolchain.sets import ProgramSet


def build_key(wanted: ProgramSet) -> str:
    """Names what a set is built from: the same modules, sources, flags and platform give the same key."""
    sources = [path.read_text() for path in sorted(wanted.folder.iterdir()) if path.suffix in (".mod", ".sum", ".go")]
    parts = [*sources, *wanted.flags, *wanted.packages, platform.system(), platform.machine()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def build(wanted: ProgramSet, programs: Sequence[str], folder: Path, progress: ProgressLine) -> None:
    """Build these programs of a set into an empty folder. Raises BuildError."""
    root = cache_folder()
    with locked(root / "go.lock", progress, "another process is installing Go: waiting for it"):
        go = find_go(wanted.folder / "go.mod", root / "go", progress.say)
    scratch = folder.with_name("scratch")
    scratch.mkdir()
    environment = {**go_environment(), "GOTMPDIR": str(scratch)}
    packages = {name: wanted.packages[name] for name in programs}
    progress.say(f"building {', '.join(programs)} from Go modules: once, some minutes")
    listing = [go, "list", "-deps", *wanted.flags, *packages.values()]
    total = _go(listing, wanted.folder, environment, progress, "fetching modules")
    command = [go, "build", "-v", *wanted.flags, "-o", f"{folder}/", *packages.values()]
    _go(command, wanted.folder, environment, progress, "compiling", total)
    for name, package in packages.items():
        (folder / _built_as(wanted, package)).rename(folder / name)
    progress.say(f"built {', '.join(programs)}")


def _built_as(wanted: ProgramSet, package: str) -> str:
    """What go names a program: the last part of its package's path that is no major version."""
    if package == ".":
        package = (wanted.folder / "go.mod").read_text().split("\n", 1)[0].removeprefix("module ")
    *path, last = package.split("/")
    return path[-1] if last[:1] == "v" and last[1:].isdecimal() else last


def _go(
    command: list[str], folder: Path, environment: dict[str, str], progress: ProgressLine, doing: str, total: int = 0
) -> int:
    """Run go and count its lines that name a package; SIGINT lets it clean up when we are the one who ends."""
    count = fetched = 0
    tail: list[str] = []
    process = subprocess.Popen(
        leashed(command, signal.SIGINT), cwd=folder, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        progress.show(f"{doing}…")
        for line in process.stdout:
            tail = [*tail[-30:], line]
            fetched += line.startswith("go: downloading")
            count += not line.startswith(("go: ", "#", "\t"))
            if total:
                progress.show(f"{doing}: {count} packages of at most {total}, the rest cached")
            else:
                progress.show(f"{doing}: {fetched} fetched")
        if process.wait():
            raise BuildError(f"{' '.join(command[:2])} failed:\n{''.join(tail)}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
    return count
