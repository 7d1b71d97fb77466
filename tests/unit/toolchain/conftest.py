"""A machine for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine of this test's own; what runs on it ends with the test."""
    made = Machine(tmp_path)
    yield made
    made.end()


@pytest.fixture
def here(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The same, with this process on it, and a Go that builds at once."""
    machine.open_gate()
    for name in ("KUBEBUILDER_ASSETS", "LLMBATCH_BUILD", "XDG_DATA_HOME", "http_proxy", "HTTP_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    return machine
