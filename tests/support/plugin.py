"""The kubectl plugin as a real process, the way a person or a script runs it, and the same within this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from llmbatch.plugin.cli import app

SOURCE = Path(__file__).resolve().parents[2] / "operator"
COMMAND = (sys.executable, "-m", "llmbatch.plugin")
TIMEOUT_SECONDS = 120.0
# What a developer's own machine may have, and what would then decide where the plugin goes.
_LEFT_OUT = ("AWS_", "KUBE", "LLMBATCH_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "COLUMNS", "LINES")


@dataclass(frozen=True)
class Done:
    """A command that has ended. ``out`` and ``err`` as text; ``raw`` is what was on stdout."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """Standard output as text."""
        return self.raw.decode()

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.raw)


@dataclass(frozen=True)
class Plugin:
    """Runs commands with one kubeconfig, in one namespace."""

    kubeconfig: Path | None = None
    namespace: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the process: this one's without what points to clusters and clouds."""
        own = {"PYTHONPATH": str(SOURCE)} | ({"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {})
        return (
            {key: value for key, value in os.environ.items() if not key.startswith(_LEFT_OUT)}
            | own
            | {**self.environment}
        )

    def command(self, *arguments: str) -> list[str]:
        """The command line."""
        namespace = ("--namespace", self.namespace) if self.namespace else ()
        return [*COMMAND, *arguments, *namespace]

    def run(self, *arguments: str | Path, stdin: bytes = b"", code: int | None = 0) -> Done:
        """Run a command to its end; AssertionError unless it ends with ``code`` (None: any)."""
        command = self.command(*map(str, arguments))
        done = subprocess.run(
            command, input=stdin, env=self.environ, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
        found = Done(done.returncode, done.stdout, done.stderr.decode())
        if code is not None and found.code != code:
            shown = f"{done.stdout.decode(errors='replace')[-2000:]}\n{found.err[-4000:]}"
            raise AssertionError(f"{' '.join(command[2:])} ended with {found.code} and not {code}\n{shown}")
        return found


def invoked(*arguments: str | Path, stdin: bytes = b"", code: int | None = 0) -> Done:
    """Run a command that needs no cluster within this process, which is quicker; otherwise as ``Plugin.run``."""
    result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin, prog_name="kubectl llmbatch")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    if code is not None and result.exit_code != code:
        raise AssertionError(f"{arguments} ended with {result.exit_code} and not {code}\n{result.output}")
    return Done(result.exit_code, result.stdout_bytes, result.stderr)
