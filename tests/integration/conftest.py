"""Fixtures on a real API server: a cluster, a namespace a test, operators as processes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from controlplane.session import await_address
from support.cluster import Cluster
from support.diagnostics import Diagnostics
from support.emulator import Account, Emulator
from support.helm import NAMESPACE
from support.moto import Bucket, Moto
from support.operator_process import OperatorProcess
from support.rights import ACCOUNT
from support.world import World

LAST_CALLS = 60


@pytest.fixture(scope="session")
def cluster(controlplane_folder: Path) -> Cluster:
    """The administrator's way to the control plane that all tests of this run share."""
    return Cluster.at(await_address(controlplane_folder))


@pytest.fixture(scope="session")
def as_operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The control plane as the operator's ServiceAccount may use it: with the rights that the chart gives."""
    return cluster.as_account(ACCOUNT, NAMESPACE, tmp_path_factory.mktemp("account"))


@pytest.fixture
def namespaces(cluster: Cluster) -> Iterator[Callable[[], str]]:
    """Makes namespaces that nobody else uses; at the end they are deleted without waiting for it."""
    made: list[str] = []

    def make() -> str:
        name = f"test-{uuid.uuid4().hex[:10]}"
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "")
        made.append(name)
        return name

    yield make
    for name in made:
        cluster.delete("Namespace", name)


@pytest.fixture
def namespace(namespaces: Callable[[], str]) -> str:
    """A namespace of this test's own."""
    return namespaces()


@pytest.fixture
def operator(
    as_operator: Cluster, diagnostics: Diagnostics, tmp_path: Path
) -> Iterator[Callable[..., OperatorProcess]]:
    """Starts operators: `operator(namespace, …, flags=(…), kubeconfig=…)`; those running at the end are killed.

    A killed one leaves finalizers behind. The namespace then stays, which harms no other test.
    """
    started: list[OperatorProcess] = []

    def start(
        *namespaces: str,
        flags: Sequence[str] = (),
        kubeconfig: Path | None = None,
        environment: Mapping[str, str] | None = None,
        networks: Sequence[str] = ("127.0.0.0/8",),
        ready: bool = True,
    ) -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        kubeconfig = kubeconfig or as_operator.kubeconfig
        process = OperatorProcess.start(kubeconfig, namespaces, log, flags, environment, networks)
        started.append(process)
        diagnostics.add(f"log of operator {len(started) - 1}", process.tail)
        if ready:
            process.wait_ready()
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """A provider for all tests of a worker; a test makes accounts of its own on it."""
    with Emulator() as running:
        yield running


@pytest.fixture
def account(emulator: Emulator, diagnostics: Diagnostics) -> Iterator[Callable[..., Account]]:
    """Makes accounts: `account("east", deployments={…})`, as `Emulator.account`; a name gets a suffix of its own."""
    made: list[Account] = []

    def make(name: str = "main", **fields: Any) -> Account:
        found = emulator.account(f"{name}-{uuid.uuid4().hex[:8]}", **fields)
        made.append(found)
        diagnostics.add(f"calls of account {found.name}", lambda: _calls_of(found))
        return found

    yield make
    for found in made:
        found.remove()


def _calls_of(account: Account) -> str:
    entries = account.calls().log[-LAST_CALLS:]
    return "\n".join(f"{c.time:.3f} {c.operation} {c.status} {c.id or ''} {c.fault or ''}".rstrip() for c in entries)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """An S3 server, started by the first test that asks for it; each worker has its own."""
    server = Moto.start(tmp_path_factory.mktemp("moto") / "moto.log")
    yield server
    server.stop()


@pytest.fixture
def bucket(moto: Moto) -> Bucket:
    """An empty bucket of this test's own."""
    return moto.bucket()


@pytest.fixture
def world(cluster: Cluster, namespace: str) -> World:
    """A namespace of this test's own, to fill with deployments, files and jobs."""
    return World(cluster, namespace)
