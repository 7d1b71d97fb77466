"""The folder below the user's cache where programs are kept, and how they get into it whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from toolchain.progress import ProgressLine

UNFINISHED = ".making-"


def cache_folder() -> Path:
    """Below `$XDG_CACHE_HOME`, else `~/.cache` (XDG base directory specification)."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "llmbatch-operator"


@contextlib.contextmanager
def locked(path: Path, progress: ProgressLine, waiting: str) -> Iterator[None]:
    """Hold the file's lock; the kernel lets go of it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def making(home: Path) -> Iterator[Path]:
    """A folder whose files become programs of `home` if all goes well, and are gone if not.

    The caller holds a lock on the folder around `home`: what others left unfinished there is removed.
    """
    around = home.parent
    for stale in around.glob(f"{UNFINISHED}*"):
        shutil.rmtree(stale, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=around))
    try:
        programs = work / "programs"
        programs.mkdir()
        yield programs
        (home / "bin").mkdir(parents=True, exist_ok=True)
        for made in programs.iterdir():
            made.replace(home / "bin" / made.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def kept(home: Path, name: str) -> Path | None:
    """A program of `home`, if it is there."""
    path = home / "bin" / name
    return path if path.exists() else None
