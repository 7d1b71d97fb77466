"""One control plane a run: begun by the controller of the test run, shared by all of its workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.binaries import ensure_binaries
from controlplane.session import Session
from support.diagnostics import Diagnostics
from toolchain.go import BuildError

TESTS = Path(__file__).resolve().parent
SUITES_WITH_A_CLUSTER = (TESTS / "integration", TESTS / "performance")
FOLDER_KEY = "llmbatch_controlplane_folder"

session_key = pytest.StashKey[Session]()
diagnostics_key = pytest.StashKey[Diagnostics]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin the control plane while the tests are being collected; it takes seconds, and nobody waits for it here."""
    config = session.config
    if hasattr(config, "workerinput") or config.option.collectonly or not _asks_for_a_cluster(config):
        return
    try:
        ensure_binaries(os.environ)
    except BuildError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    config.stash[session_key] = Session.begin(manifests=[TESTS.parent / "crds"])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End it when every worker is gone."""
    if begun := config.stash.get(session_key, None):
        begun.stop()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell an xdist worker where the control plane says how to reach it."""
    config = node.config  # type: ignore[attr-defined]
    if begun := config.stash.get(session_key, None):
        node.workerinput[FOLDER_KEY] = str(begun.folder)  # type: ignore[attr-defined]


def _asks_for_a_cluster(config: pytest.Config) -> bool:
    """Whether an argument of the command line is, holds, or lies in a suite that needs a cluster."""
    chosen = [config.invocation_params.dir / str(argument).split("::")[0] for argument in config.args]
    return any(
        path.resolve().is_relative_to(suite) or suite.is_relative_to(path.resolve())
        for path in chosen
        for suite in SUITES_WITH_A_CLUSTER
    )


@pytest.fixture(scope="session")
def controlplane_folder(request: pytest.FixtureRequest) -> Path:
    """The state folder of this run's control plane."""
    if workerinput := getattr(request.config, "workerinput", None):
        return Path(workerinput[FOLDER_KEY])
    return request.config.stash[session_key].folder


@pytest.fixture
def diagnostics(request: pytest.FixtureRequest) -> Diagnostics:
    """What to show when this test fails: `diagnostics.add(title, text_of)`."""
    return request.node.stash.setdefault(diagnostics_key, Diagnostics())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Iterator[None]:
    """Add what the test registered to the report of a failure."""
    report: pytest.TestReport = yield  # type: ignore[misc]
    if report.failed and (found := item.stash.get(diagnostics_key, None)):
        report.sections += found.sections(report.when or "")
    return report  # type: ignore[return-value]
