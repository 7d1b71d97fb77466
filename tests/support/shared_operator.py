"""One operator for many tests: it works in namespaces that are made beforehand, and each test takes one of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.cluster import Cluster
from support.diagnostics import Diagnostics
from support.helm import NAMESPACE
from support.operator_process import OperatorProcess
from support.rights import ACCOUNT
from support.world import World


@dataclass(frozen=True)
class SharedOperator:
    """A running operator, and the namespaces that no test has taken yet."""

    cluster: Cluster
    process: OperatorProcess
    _free: list[str] = field(repr=False)

    def world(self, diagnostics: Diagnostics) -> World:
        """A namespace that nobody else uses. Raises IndexError when a module has more tests than namespaces."""
        diagnostics.add("log of the operator", self.process.tail)
        return World(self.cluster, self._free.pop())


@contextmanager
def shared_operator(
    cluster: Cluster, folder: Path, *, namespaces: int, flags: Sequence[str] = ()
) -> Iterator[SharedOperator]:
    """An operator for `namespaces` tests; all of it is taken down at the end, the namespaces without waiting."""
    names = [f"test-{uuid.uuid4().hex[:10]}" for _ in range(namespaces)]
    for name in names:
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "")
    account = cluster.as_account(ACCOUNT, NAMESPACE, folder)
    process = OperatorProcess.start(account.kubeconfig, names, folder / "operator.log", flags)
    try:
        process.wait_ready()
        yield SharedOperator(cluster, process, list(names))
    finally:
        process.kill()
        for name in names:
            cluster.delete("Namespace", name)
