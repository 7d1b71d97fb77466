"""Clusters with real pods: one that is given, kind, or the node that is made of packages.

`E2E_KUBECONFIG` gives one that is there for tests alone, with `E2E_IMAGE` and `E2E_PREVIOUS_IMAGE`, the images of this
version and of the previous one as its nodes can pull them. `E2E_KIND` asks for kind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.footprint import footprint
from e2e.node.errors import NodeError, run
from e2e.node.images import NAME, PROJECT, operator_image, version_of
from e2e.node.layout import Layout
from e2e.node.node import running_node
from support.cluster import Cluster, Object
from toolchain.find import program

HERE = Path(__file__).resolve().parent
KIND = "llmbatch-e2e"
TESTER = "llmbatch-e2e"
"""The ServiceAccount that tests act as: a token works with every kubeconfig, whatever its own way to log in."""
TOKEN_TIME = "4h"

# Kills what runs in a pod, whose uid is in the names of its cgroups, but not the sandbox that holds its namespaces.
KILL = """
for group in /proc/[0-9]*/cgroup; do
  process=${group%/cgroup}
  if grep -qs -e "$1" -e "$(echo "$1" | tr - _)" "$group" && [ "$(cat "$process/comm")" != pause ]; then
    kill -9 "${process#/proc/}"
  fi
done
"""


@dataclass(frozen=True)
class PodCluster:
    """A cluster with real pods, as its administrator."""

    cluster: Cluster
    provide: Callable[[Path], str]
    """Makes the image of a source tree ready for use there, and answers its name."""
    kill: Callable[[Object], None]
    """SIGKILLs the processes of a pod, as a node that runs out of memory would."""


@contextlib.contextmanager
def pod_cluster(environment: Mapping[str, str]) -> Iterator[PodCluster]:
    """The one that the environment asks for. Raises NodeError, BuildError."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmbatch-e2e-")))
        if given := environment.get("E2E_KUBECONFIG"):
            yield _given(Path(given), environment, folder)
        elif environment.get("E2E_KIND"):
            yield stack.enter_context(_kind(folder))
        else:
            yield stack.enter_context(_node(folder))


def _given(kubeconfig: Path, environment: Mapping[str, str], folder: Path) -> PodCluster:
    cluster = _as_tester(kubeconfig, folder)

    def provide(project: Path) -> str:
        variable = "E2E_IMAGE" if project == PROJECT else "E2E_PREVIOUS_IMAGE"
        if not (image := environment.get(variable)):
            raise NodeError(f"{variable} must name the image of {version_of(project)} that the cluster can pull")
        return image

    def kill(pod: Object) -> None:  # what comes closest from outside of the node
        found = pod["metadata"]
        cluster.kubectl("delete", "pod", found["name"], "-n", found["namespace"], "--grace-period=0", "--force")

    return PodCluster(cluster, provide, kill)


@contextlib.contextmanager
def _kind(folder: Path) -> Iterator[PodCluster]:
    kubeconfig = folder / "kind.kubeconfig"
    kind = [_found("kind"), "--name", KIND]
    run([*kind, "delete", "cluster"])
    run([*kind, "create", "cluster", f"--config={HERE / 'kind.yaml'}", f"--kubeconfig={kubeconfig}", "--wait=3m"])
    try:

        def provide(project: Path) -> str:
            image = f"{NAME}:{version_of(project)}"
            run([_found("docker"), "build", f"--tag={image}", project])
            run([*kind, "load", "docker-image", image])
            return image

        def kill(pod: Object) -> None:
            _kill(pod, [_found("docker"), "exec", pod["spec"]["nodeName"]])

        yield PodCluster(_as_tester(kubeconfig, folder), provide, kill)
    finally:
        run([*kind, "delete", "cluster"])


@contextlib.contextmanager
def _node(folder: Path) -> Iterator[PodCluster]:
    before = footprint(layout := Layout.of_user())
    with running_node(layout) as node:

        def provide(project: Path) -> str:
            node.load([operator_image(layout.cache, project)])
            return f"{NAME}:{version_of(project)}"

        yield PodCluster(_as_tester(node.kubeconfig, folder), provide, lambda pod: _kill(pod, []))
    after = footprint(layout)
    if left := {kind: sorted({*after[kind]} ^ {*before[kind]}) for kind in before if after[kind] != before[kind]}:
        raise NodeError(f"the node has changed the machine: {left}")


def _as_tester(kubeconfig: Path, folder: Path) -> Cluster:
    """The cluster by the token of an account that may do everything; the kubeconfig must hold the cluster's CA."""
    kubectl = Path(shutil.which("kubectl") or program("kubectl"))
    ask = [str(kubectl), f"--kubeconfig={kubeconfig}"]
    rights = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "name": TESTER, "namespace": "default"}
    manifests = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": TESTER, "namespace": "default"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": TESTER},
            "roleRef": rights,
            "subjects": [subject],
        },
    ]
    listing = folder / "tester.json"
    listing.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
    run([*ask, "apply", f"--filename={listing}"])
    token = run([*ask, "create", "token", TESTER, "--namespace=default", f"--duration={TOKEN_TIME}"]).strip()
    config = json.loads(run([*ask, "config", "view", "--minify", "--raw", "--flatten", "--output=json"]))
    config["users"][0]["user"] = {"token": token}
    own = folder / "kubeconfig"
    own.touch(mode=0o600)
    own.write_text(json.dumps(config))
    return Cluster(own, kubectl, audit_log=Path(os.devnull))


def _kill(pod: Object, at_node: Sequence[str]) -> None:
    subprocess.run([*at_node, "sh", "-c", KILL, "kill", pod["metadata"]["uid"]], check=True)


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise NodeError(f"{name} is not on PATH")
    return path
