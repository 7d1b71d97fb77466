"""One control plane a run: begun by the controller of the test run, shared by all of its workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from controlplane.binaries import ensure_binaries
from controlplane.server import AUDIT_LOG
from controlplane.session import Session
from support.diagnostics import Diagnostics
from support.helm import Refused, render
from support.rights import RECORD, account_of, asked_in, keep
from toolchain.go import BuildError

TESTS = Path(__file__).resolve().parent
SUITES_WITH_A_CLUSTER = (TESTS / "integration", TESTS / "performance")
FOLDER_KEY = "llmbatch_controlplane_folder"

session_key = pytest.StashKey[Session]()
whole_key = pytest.StashKey[bool]()
diagnostics_key = pytest.StashKey[Diagnostics]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin the control plane while the tests are being collected; it takes seconds, and nobody waits for it here."""
    config = session.config
    if hasattr(config, "workerinput") or config.option.collectonly or not _asks_for_a_cluster(config):
        return
    try:
        ensure_binaries()
    except BuildError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    config.stash[session_key] = Session.begin(manifests=[TESTS.parent / "crds", *_operators_account()])


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember whether the whole of the integration suite ran, and well."""
    session.config.stash[whole_key] = exitstatus == pytest.ExitCode.OK and _is_whole(session.config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """When every worker is gone, keep what the operators of a whole suite asked for, and end the control plane."""
    if begun := config.stash.get(session_key, None):
        if config.stash.get(whole_key, False):
            keep(asked_in(begun.folder / AUDIT_LOG))
        begun.stop()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell an xdist worker where the control plane says how to reach it."""
    config = node.config  # type: ignore[attr-defined]
    if begun := config.stash.get(session_key, None):
        node.workerinput[FOLDER_KEY] = str(begun.folder)  # type: ignore[attr-defined]


def _operators_account() -> list[Path]:
    """A manifest of the account and the roles that the chart makes for the operator."""
    try:
        account = account_of(render())
    except (BuildError, Refused) as error:
        pytest.exit(f"the chart cannot be rendered: {error}", returncode=pytest.ExitCode.USAGE_ERROR)
    manifest = RECORD.with_name("operators-account.yaml")
    manifest.parent.mkdir(exist_ok=True)
    half = manifest.with_suffix(f".{os.getpid()}")
    half.write_text(yaml.safe_dump_all(account))
    return [half.replace(manifest)]  # whole, whoever else runs tests here


def _asks_for_a_cluster(config: pytest.Config) -> bool:
    """Whether an argument of the command line is, holds, or lies in a suite that needs a cluster."""
    return any(
        path.is_relative_to(suite) or suite.is_relative_to(path)
        for path in _chosen(config)
        for suite in SUITES_WITH_A_CLUSTER
    )


def _is_whole(config: pytest.Config) -> bool:
    """Whether the command line asks for all of the integration suite."""
    narrowing = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf")
    narrowed = any(config.getoption(name, default=None) for name in narrowing)
    return not narrowed and any(SUITES_WITH_A_CLUSTER[0].is_relative_to(path) for path in _chosen(config))


def _chosen(config: pytest.Config) -> list[Path]:
    folder = config.invocation_params.dir
    return [(folder / str(argument).split("::")[0]).resolve() for argument in config.args]


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
