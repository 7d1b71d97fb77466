"""The operator as Helm installs it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.node.images import PROJECT
from support.cluster import Cluster, Object, condition, poll

CHART = PROJECT / "charts" / "llmbatch-operator"
NAMESPACE = "llmbatch-system"
NAME = "llmbatch-operator"
LABEL = "app.kubernetes.io/name=llmbatch-operator"
INSTALL_SECONDS = 120
FLAGS = ("--create-timeout=5", "--create-grace=2", "--probe-interval=1")
"""What a crash costs is waited for in tests too: the time in which a lost create may still have happened."""


@dataclass(frozen=True)
class Release:
    """A release of the chart in a namespace that enforces the restricted Pod Security Standard."""

    cluster: Cluster
    helm: Path
    networks: Sequence[str]
    """The private networks that the operator may reach."""

    def install(self, chart: Path, image: str, **values: Any) -> float:
        """Install this chart, or upgrade to it, and wait until it is there; how long it took, in seconds."""
        repository, _, tag = image.rpartition(":")
        given = {
            "image": {"repository": repository, "tag": tag},
            "allowNetworks": list(self.networks),
            "pollInterval": 1,
            "extraArgs": list(FLAGS),
            **values,
        }
        begun = time.monotonic()
        self._helm(
            "upgrade", "--install", NAME, str(chart), "--wait", f"--timeout={INSTALL_SECONDS}s", "--values=-",
            stdin=json.dumps(given),
        )  # fmt: skip
        return time.monotonic() - begun

    def uninstall(self) -> None:
        """Uninstall it, and wait until its pods are gone."""
        self._helm("uninstall", NAME, "--wait", "--ignore-not-found", f"--timeout={INSTALL_SECONDS}s")
        assert poll(lambda: not self.pods(), INSTALL_SECONDS), "the operator's pods are still there"

    def pods(self) -> list[Object]:
        """Its pods, those that are ending excepted."""
        found = self.cluster.list("Pod", NAMESPACE, selector=LABEL)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self) -> list[Object]:
        """Those of them that are Ready."""
        return [pod for pod in self.pods() if (condition(pod, "Ready") or {}).get("status") == "True"]

    def until_ready(self, count: int = 2, timeout: float = INSTALL_SECONDS) -> None:
        """Wait until there are so many pods, all of them Ready."""
        reached = poll(lambda: len(self.ready_pods()) == len(self.pods()) == count, timeout)
        assert reached, f"{len(self.ready_pods())} of {len(self.pods())} pods are ready, not {count} of {count}"

    def holder(self) -> str:
        """The process that the Lease names: a pod's name, `_`, and a part that is new with each start."""
        lease = self.cluster.find("Lease", NAME, NAMESPACE) or {}
        return lease.get("spec", {}).get("holderIdentity") or ""

    def leader(self) -> Object:
        """The pod that works."""
        pods: list[Object] = []

        def found() -> bool:
            name = self.holder().rpartition("_")[0]
            pods[:] = [pod for pod in self.pods() if pod["metadata"]["name"] == name]
            return bool(pods)

        assert poll(found, INSTALL_SECONDS), f"the Lease names {self.holder()!r}, which is no pod"
        return pods[0]

    def logs(self) -> str:
        """What its pods say."""
        return self.cluster.kubectl("logs", "-n", NAMESPACE, "-l", LABEL, "--prefix", "--tail=60", check=False).stdout

    def _helm(self, *arguments: str, stdin: str = "") -> None:
        command = [str(self.helm), f"--kubeconfig={self.cluster.kubeconfig}", "--namespace", NAMESPACE, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            pods = self.cluster.kubectl("get", "pods,events", "-n", NAMESPACE, check=False).stdout
            raise AssertionError(f"helm {' '.join(arguments)}\n{done.stderr}\n{pods}\n{self.logs()}")
