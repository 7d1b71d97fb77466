"""Programs built once from Go modules into the user's cache.

A build happens in a temporary folder under a file lock and is renamed into place, so an interrupted one leaves nothing
half-made and of two at the same time the second waits for the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from toolchain.go import BuildError, find_go, go_environment
from toolchain.leash import leashed
from toolchain.progress import ProgressLine
from toolchain.sets import SETS, ProgramSet


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where builds are kept: below `$XDG_CACHE_HOME`, else `~/.cache` (XDG base directory specification)."""
    root = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "llmbatch-operator"


def ensure(name: str, programs: Sequence[str] | None = None, progress: ProgressLine | None = None) -> Path:
    """The folder with the programs of a set, all of them or some, built first if they have to be. Raises BuildError."""
    wanted = SETS[name]
    return _ensure_built(wanted, tuple(programs or wanted.packages), cache_folder(os.environ), progress)


def program(name: str) -> Path:
    """A program that has a set of its own: the one on PATH, else built. Raises BuildError."""
    return Path(shutil.which(name) or ensure(name) / name)


def build_key(wanted: ProgramSet, programs: tuple[str, ...]) -> str:
    """Names one build: the same modules, sources, flags, programs and platform give the same key."""
    sources = [path.read_text() for path in sorted(wanted.folder.iterdir()) if path.suffix in (".mod", ".sum", ".go")]
    parts = [*sources, *wanted.flags, *programs, platform.system(), platform.machine()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _ensure_built(wanted: ProgramSet, programs: tuple[str, ...], root: Path, progress: ProgressLine | None) -> Path:
    cache = root / wanted.name
    home = cache / build_key(wanted, programs)
    if home.is_dir():
        return home / "bin"
    cache.mkdir(parents=True, exist_ok=True)
    progress = progress or ProgressLine()
    with locked(cache / "lock", progress, f"another process is building {', '.join(programs)}: waiting for it"):
        if home.is_dir():
            return home / "bin"
        for stale in cache.glob(".building-*"):
            shutil.rmtree(stale, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
        try:
            with locked(root / "go.lock", progress, "another process is installing Go: waiting for it"):
                go = find_go(wanted.folder / "go.mod", root / "go", progress.say)
            _build(wanted, programs, go, work, progress)
            (work / "result").rename(home)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return home / "bin"


@contextlib.contextmanager
def locked(path: Path, progress: ProgressLine, waiting: str) -> Iterator[None]:
    """Hold the file's lock; the kernel lets go of it when the process ends, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(wanted: ProgramSet, programs: tuple[str, ...], go: str, work: Path, progress: ProgressLine) -> None:
    binaries, scratch = work / "result" / "bin", work / "scratch"
    binaries.mkdir(parents=True)
    scratch.mkdir()
    environment = {**go_environment(), "GOTMPDIR": str(scratch)}
    packages = {name: wanted.packages[name] for name in programs}
    progress.say(f"building {', '.join(programs)} from Go modules: once, some minutes")
    listing = [go, "list", "-deps", *wanted.flags, *packages.values()]
    total = _go(listing, wanted.folder, environment, progress, "fetching modules")
    build = [go, "build", "-v", *wanted.flags, "-o", f"{binaries}/", *packages.values()]
    _go(build, wanted.folder, environment, progress, "compiling", total)
    for name, package in packages.items():
        (binaries / _built_as(wanted, package)).rename(binaries / name)
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
