"""A node that lives as long as a `with` block, in namespaces of its own, and leaves the machine as it was.

Its network is joined to the machine's by a wire, so pods and Services can be reached from here by address. When the
process that runs it ends, however it ends, the kernel ends all of the node's processes, and with them go their mounts,
interfaces, routes and rules. `traces` tells what else there is, and sees to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.node import traces
from e2e.node.buildah import programs
from e2e.node.errors import TAIL, NodeError, require_root, run
from e2e.node.images import pause_image
from e2e.node.layout import HOST_ADDRESS, LINK, NAME, NODE_ADDRESS, POD_NETWORK, SERVICE_NETWORK, SOCKET, Layout
from e2e.node.overlay import over_usr
from toolchain.find import folders
from toolchain.leash import leashed

SETS = ("controlplane", "node", "runtime", "coredns")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
TESTS = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Node:
    """A node that is coming up, or is up; `environment` is what kubectl and its other programs run with."""

    layout: Layout
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.layout.kubeconfig

    @property
    def init(self) -> int:
        """The process that all others of the node descend from, as this machine numbers it."""
        found = traces.init_process(self.layout)
        if found is None:
            raise self.failure("the node is not running")
        return found

    def load(self, archives: Sequence[Path]) -> None:
        """Give it images. Raises NodeError."""
        load(self.init, archives, self.environment)

    def until(self, what: str, reached: Callable[[], bool]) -> None:
        """Wait for a step of its start. Raises NodeError."""
        deadline = time.monotonic() + START_SECONDS
        while not reached():
            if self.process.poll() is not None:
                raise self.failure(f"{what}: the node ended")
            if time.monotonic() > deadline:
                raise self.failure(f"{what}: not within {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def kubectl_succeeds(self, *arguments: str) -> bool:
        """Whether kubectl says so."""
        command = ["kubectl", *arguments]
        return not subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode

    def failure(self, what: str) -> NodeError:
        """What went wrong, with what the node said last, and where there is more."""
        said = (self.layout.logs / "node.log").read_text(errors="replace")[-TAIL:]
        return NodeError(f"{what}\n{said}\nThe logs of its programs are in {self.layout.logs}")


@contextlib.contextmanager
def running_node(layout: Layout, images: Sequence[Path] = ()) -> Iterator[Node]:
    """A fresh node with these image archives, Ready. Raises NodeError, BuildError."""
    require_root()
    path = os.pathsep.join([*folders(*SETS), os.environ["PATH"], SYSTEM_PATH])
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(layout.kubeconfig), "PYTHONPATH": str(TESTS)}
    packages, archives = programs(layout.cache), [pause_image(layout.cache), *images]
    with _held(layout):
        traces.remove(layout)
        shutil.rmtree(layout.logs, ignore_errors=True)
        layout.logs.mkdir(parents=True)
        layout.state.mkdir()
        traces.remember(layout)
        node = Node(layout, environment, _start(layout, environment, packages))
        try:
            _bring_up(node, packages, archives)
            yield node
        finally:
            _end(node)
            traces.remove(layout)


def load(init: int, archives: Sequence[Path], environment: Mapping[str, str]) -> None:
    """Give image archives to the node with that process. Raises NodeError."""
    inside = ["nsenter", f"--target={init}", "--mount", "--net", "--pid"]
    for archive in archives:
        ctr = ["ctr", f"--address={SOCKET}", "--namespace=k8s.io", "images", "import", str(archive.resolve())]
        run([*inside, *ctr], environment=environment)


@contextlib.contextmanager
def _held(layout: Layout) -> Iterator[None]:
    """Be the one who runs a node; the file says who it is."""
    layout.cache.mkdir(parents=True, exist_ok=True)
    with layout.held.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise NodeError(f"process {file.read()} runs a node already, and a machine has one at a time") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _start(layout: Layout, environment: Mapping[str, str], packages: Path) -> subprocess.Popen[bytes]:
    inside = [sys.executable, "-m", traces.INSIDE, str(layout.cache), str(packages)]
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", *inside]
    with (layout.logs / "node.log").open("wb") as log:
        return subprocess.Popen(
            leashed(command), cwd=TESTS, env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=log, stderr=log,
        )  # fmt: skip


def _end(node: Node) -> None:
    """Kill the process whose end is the end of all, and return when the kernel has seen to it."""
    init = traces.init_process(node.layout)
    with contextlib.suppress(ProcessLookupError):
        os.kill(init or node.process.pid, signal.SIGKILL)
    node.process.wait()


def _bring_up(node: Node, packages: Path, archives: Sequence[Path]) -> None:
    node.until("namespaces", lambda: traces.init_process(node.layout) is not None)
    wire = f"""\
link add {LINK} type veth peer name eth0 netns {node.init}
address add {HOST_ADDRESS}/30 dev {LINK}
link set {LINK} up
route add {POD_NETWORK} via {NODE_ADDRESS}
route add {SERVICE_NETWORK} via {NODE_ADDRESS}
"""
    (node.layout.state / "wire").write_text(wire)
    run([*over_usr(packages), "ip", "-batch", node.layout.state / "wire"])
    assert node.process.stdin is not None
    node.process.stdin.write(b"\n")
    node.process.stdin.close()
    socket = Path(f"/proc/{node.init}/root{SOCKET}")
    node.until("containerd", socket.exists)
    node.load(archives)
    ready = ("wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=1s")
    node.until("node Ready", lambda: node.layout.kubeconfig.exists() and node.kubectl_succeeds(*ready))
    node.until("default ServiceAccount", lambda: node.kubectl_succeeds("get", "serviceaccount/default"))
