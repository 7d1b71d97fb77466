"""`python -m controlplane start`."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from controlplane.binaries import ensure_binaries
from controlplane.server import ControlPlane, StartError, User, start
from toolchain.go import BuildError

PREFIX = "llmbatch-controlplane-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit status."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a background job of a shell starts with it ignored
        signal.signal(number, _interrupt)
    try:
        _start(options)
    except (BuildError, StartError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="controlplane", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("start", help="start a control plane, print its kubeconfig and wait")
    run.add_argument("--manifests", type=Path, action="append", default=[], help="applied first; a file or a folder")
    run.add_argument("--user", action="append", default=[], metavar="NAME[=GROUP,…]", help="one more user")
    run.add_argument("--folder", type=Path, help="where its state goes; removed at the end")
    run.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    run.add_argument("--without-controllers", action="store_true", help="etcd and the API server alone")
    return parser


def _start(options: argparse.Namespace) -> None:
    users = [_user(text) for text in options.user]
    with _state_folder(options.folder) as folder:
        binaries = ensure_binaries(controllers=not options.without_controllers)
        begun = time.monotonic()
        plane = start(binaries, folder, users=users, manifests=options.manifests)
        try:
            _announce_ready(plane)
            if not options.until_stdin_closes:
                _print(f"ready after {time.monotonic() - begun:.1f} s; Ctrl-C ends it")
                _print(f"export KUBECONFIG={plane.kubeconfig} PATH={binaries.kubectl.parent}:$PATH")
            _wait(plane, stdin=options.until_stdin_closes)
        finally:
            plane.stop()


def _user(text: str) -> User:
    name, _, groups = text.partition("=")
    return User(name, tuple(filter(None, groups.split(","))))


def _wait(plane: ControlPlane, *, stdin: bool) -> None:
    """Until a signal comes, standard input ends, or a program does (StartError)."""
    while True:
        if stdin:
            readable, _, _ = select.select([sys.stdin], [], [], 1.0)
            if readable and not os.read(sys.stdin.fileno(), 4096):
                return
        else:
            time.sleep(1.0)
        if name := plane.stopped_program():
            raise StartError(f"{name} ended\n{plane.log(name).read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def _state_folder(wanted: Path | None) -> Iterator[Path]:
    """The folder of one run, removed afterwards; those of runs that were killed are removed first."""
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if old != wanted and _abandoned(old):
            shutil.rmtree(old, ignore_errors=True)
    folder = wanted or Path(tempfile.mkdtemp(prefix=PREFIX))
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """Whether the process that held this folder's lock is gone."""
    try:
        with (folder / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


def _announce_ready(plane: ControlPlane) -> None:
    """Say in a file how to reach it; whoever sees the file sees it whole."""
    ready = {
        "kubeconfig": str(plane.kubeconfig),
        "kubectl": str(plane.binaries.kubectl),
        "audit_log": str(plane.audit_log),
    }
    half = plane.folder / "ready.half"
    half.write_text(json.dumps(ready))
    half.rename(plane.folder / "ready")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
