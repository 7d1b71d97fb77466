"""What a failing test shows beside its traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAILING = """
def test_fails(account, diagnostics):
    diagnostics.add("log of operator 0", lambda: "the last words")
    diagnostics.add("broken", lambda: 1 / 0)
    account("east", deployments={"d": "gpt-4o-mini"}).calls()
    assert False
"""


def test_a_failure_shows_the_logs_and_the_calls_that_led_to_it(tmp_path: Path):
    """Sections of the report come from what the test registered; one that can't be had hides no other."""
    suite = tmp_path / "test_failing.py"
    suite.write_text(FAILING)
    path = os.pathsep.join([str(ROOT / "operator"), str(ROOT / "tests")])
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    command += ["-p", "conftest", "-p", "integration.conftest", str(suite)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert "1 failed" in done.stdout, done.stdout + done.stderr
    assert "the last words" in done.stdout
    assert "not to be had: ZeroDivisionError" in done.stdout
    assert "calls of account east-" in done.stdout
