"""One cluster a run, one release of the chart in it, and a table of what was measured."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from e2e.clusters import PodCluster, pod_cluster
from e2e.figures import Figures
from e2e.node.errors import NodeError
from e2e.node.images import PROJECT
from e2e.provider import Provider, furnish, running_provider
from e2e.release import CHART, NAMESPACE, Release
from support.emulator import Account
from support.world import World
from toolchain.find import program
from toolchain.go import BuildError

collect_ignore = ["test_node.py"] if os.environ.keys() & {"E2E_KUBECONFIG", "E2E_KIND"} else []
figures_key = pytest.StashKey[Figures]()


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    """What was measured; shown at the end of the run."""
    return request.config.stash.setdefault(figures_key, Figures())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what was measured."""
    if found := config.stash.get(figures_key, None):
        terminalreporter.section("measured")
        for line in found.table():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def pods() -> Iterator[PodCluster]:
    """The cluster of this run."""
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(pod_cluster(os.environ))
        except (NodeError, BuildError) as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.INTERNAL_ERROR)
        yield found


@pytest.fixture(scope="session")
def image(pods: PodCluster) -> str:
    """The image of this source tree, ready for use in the cluster."""
    return pods.provide(PROJECT)


@pytest.fixture(scope="session")
def provider(pods: PodCluster, image: str) -> Iterator[Provider]:
    """The emulator in the cluster."""
    with running_provider(pods.cluster, image) as running:
        yield running


@pytest.fixture(scope="session")
def chart(pods: PodCluster, provider: Provider) -> Release:
    """The release, whether it is installed or not, in a namespace under the restricted Pod Security Standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    pods.cluster.apply(manifest, NAMESPACE)
    return Release(pods.cluster, program("helm"), [f"{provider.service_address}/32"])


@pytest.fixture
def release(chart: Release, image: str, diagnostics) -> Release:
    """The release of this source tree, installed, with two pods that are Ready."""
    diagnostics.add("the operator's pods", chart.logs)
    chart.install(CHART, image)
    chart.until_ready()
    return chart


@pytest.fixture
def account(provider: Provider, request: pytest.FixtureRequest) -> Account:
    """An account of the test's own."""
    return provider.account(_name(request))


@pytest.fixture
def world(pods: PodCluster, account: Account, request: pytest.FixtureRequest) -> Callable[[], World]:
    """Makes the test's namespace, with a model on its account; to be called once the CRDs are there."""
    return lambda: furnish(pods.cluster, _name(request), account)


def _name(request: pytest.FixtureRequest) -> str:
    return request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
