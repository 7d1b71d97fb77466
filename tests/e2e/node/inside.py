"""Process 1 of the node's namespaces: mounts, network, then every program; when it ends, all of it ends.

Started as `python -m e2e.node.inside CACHE PACKAGES`, with the programs on PATH. It goes on when a line comes on
standard input: the wire to the machine is there. It ends itself when a program does.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from e2e.node import config
from e2e.node.errors import NodeError, run
from e2e.node.layout import (
    API_PORT,
    HOST_ADDRESS,
    MOUNT_POINTS,
    NAME,
    NODE_ADDRESS,
    SERVICE_NETWORK,
    SOCKET,
    Layout,
)

ETCD = "http://127.0.0.1:2379"
PEER = "http://127.0.0.1:2380"
START_SECONDS = 60.0
POLL_SECONDS = 0.05
LEADERLESS = ("--leader-elect=false", "--bind-address=127.0.0.1", "--kube-api-qps=300", "--kube-api-burst=600")
"""Of a component that is alone; with the default of 20 a second, ServiceAccounts come 4 s late."""


class Node:
    """The programs, by name and process id."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._programs: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}

    def start(self, program: str, *arguments: str) -> None:
        """Start a program that stays; what it says goes to its log."""
        with (self._layout.logs / f"{program}.log").open("wb") as log:
            process = subprocess.Popen([program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._programs[process.pid] = (program, process)  # a Popen that is let go would be reaped behind our back

    def until(self, what: str, reached: Callable[[], bool]) -> None:
        """Wait for something. Raises NodeError when time is up or a program ended."""
        deadline = time.monotonic() + START_SECONDS
        while not reached():
            self._reap(os.WNOHANG)
            if time.monotonic() > deadline:
                raise NodeError(f"{what}: not within {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def stay(self) -> None:
        """Reap what ends, for as long as all programs run. Raises NodeError when one ends."""
        while True:
            self._reap(0)

    def _reap(self, options: int) -> None:
        while self._programs:
            ended, status = os.waitpid(-1, options)
            if not ended:
                return
            if ended in self._programs:
                name, _ = self._programs[ended]
                raise NodeError(f"{name} ended with {os.waitstatus_to_exitcode(status)}; see its log")


def main() -> None:
    """Entry point."""
    layout, packages = Layout(Path(sys.argv[1])), Path(sys.argv[2])
    node = Node(layout)
    try:
        _mount(layout, packages)
        sys.stdin.readline()
        _connect()
        _control_plane(layout, node)
        _workers(layout, node)
        node.stay()
    except NodeError as error:
        sys.exit(str(error))


def _mount(layout: Layout, packages: Path) -> None:
    run(["mount", "--make-rshared", "/"])
    run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={packages}/usr:/usr", "/usr"])
    for point in MOUNT_POINTS:
        own = layout.state / point.name
        own.mkdir()
        run(["mount", "--bind", own, point])
        run(["mount", "--make-rshared", point])
    names = layout.state / "resolv.conf"
    _write(names, f"nameserver {NODE_ADDRESS}\n")  # which refuses what is no name of the cluster, at once
    run(["mount", "--bind", names, "/etc/resolv.conf"])
    for point in ("/run", "/var/log"):
        run(["mount", "-t", "tmpfs", "tmpfs", point])
    Path("/run/netns").mkdir()


def _connect() -> None:
    run(["ip", "link", "set", "lo", "up"])
    run(["ip", "address", "add", f"{NODE_ADDRESS}/30", "dev", "eth0"])
    run(["ip", "link", "set", "eth0", "up"])
    run(["ip", "route", "add", "default", "via", HOST_ADDRESS])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _control_plane(layout: Layout, node: Node) -> None:
    state = layout.state
    _write(state / "containerd.toml", config.containerd(layout, _folder_of("bridge")))
    node.start("containerd", f"--config={state / 'containerd.toml'}", "--log-level=warn")
    node.start(
        "etcd", f"--name={NAME}", f"--data-dir={state / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn",
        f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}", f"--listen-peer-urls={PEER}",
        f"--initial-advertise-peer-urls={PEER}", f"--initial-cluster={NAME}={PEER}",
    )  # fmt: skip
    tokens = {user: secrets.token_hex(16) for user in config.USERS}
    lines = (f'{tokens[user]},{user},{user},"{group}"\n' for user, group in config.USERS.items())
    _write(state / "tokens.csv", "".join(lines))
    _kubelet_client(state)
    _api_server(state, node)
    certificate = state / "certs" / "apiserver.crt"
    node.until("the API server's certificate", lambda: certificate.exists() and certificate.stat().st_size > 0)
    for user, token in tokens.items():
        authority = base64.b64encode(certificate.read_bytes()).decode()
        _write(layout.kubeconfig_of(user), config.kubeconfig(token, authority))
    kubectl = ["kubectl", f"--kubeconfig={layout.kubeconfig}"]
    node.until("API server ready", lambda: _succeeds([*kubectl, "get", "--raw=/readyz"]))
    _write(state / "coredns.json", json.dumps({"kind": "List", "apiVersion": "v1", "items": config.coredns_rights()}))
    run([*kubectl, "create", f"--filename={state / 'coredns.json'}"])


def _kubelet_client(state: Path) -> None:
    """What the API server shows to the kubelet; the kubelet trusts this one certificate."""
    run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-subj", "/O=system:masters/CN=kube-apiserver", "-addext", "extendedKeyUsage=clientAuth",
         "-keyout", state / "kubelet-client.key", "-out", state / "kubelet-client.crt"]
    )  # fmt: skip


def _api_server(state: Path, node: Node) -> None:
    # It signs its own certificate, and the key of that signs ServiceAccount tokens too. It must not listen on loopback:
    # its address becomes the endpoint of the Service `kubernetes`.
    key = state / "certs" / "apiserver.key"
    node.start(
        "kube-apiserver", f"--etcd-servers={ETCD}", f"--bind-address={NODE_ADDRESS}",
        f"--advertise-address={NODE_ADDRESS}", f"--secure-port={API_PORT}", f"--cert-dir={state / 'certs'}",
        f"--token-auth-file={state / 'tokens.csv'}", "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction", f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}", "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={state / 'kubelet-client.crt'}",
        f"--kubelet-client-key={state / 'kubelet-client.key'}",
    )  # fmt: skip


def _workers(layout: Layout, node: Node) -> None:
    state, certs = layout.state, layout.state / "certs"
    node.start(
        "kube-controller-manager", *LEADERLESS, "--use-service-account-credentials", "--cert-dir=/run/kcm",
        f"--kubeconfig={layout.kubeconfig_of('system:kube-controller-manager')}",
        f"--root-ca-file={certs / 'apiserver.crt'}", f"--service-account-private-key-file={certs / 'apiserver.key'}",
    )  # fmt: skip
    scheduler = f"--kubeconfig={layout.kubeconfig_of('system:kube-scheduler')}"
    node.start("kube-scheduler", *LEADERLESS, "--cert-dir=/run/scheduler", scheduler)
    _write(state / "cni" / "10-pods.conflist", json.dumps(config.pod_network()))
    _write(state / "kubelet.json", json.dumps(config.kubelet(layout)))
    node.until("containerd", Path(SOCKET).exists)
    node.start(
        "kubelet", f"--config={state / 'kubelet.json'}", f"--kubeconfig={layout.kubeconfig_of(f'system:node:{NAME}')}",
        f"--hostname-override={NAME}", f"--node-ip={NODE_ADDRESS}", "--cert-dir=/run/kubelet",
    )  # fmt: skip
    _write(state / "kube-proxy.json", json.dumps(config.kube_proxy(layout)))
    node.start("kube-proxy", f"--config={state / 'kube-proxy.json'}")
    _write(state / "Corefile", config.coredns(layout))
    node.start("coredns", f"-conf={state / 'Corefile'}")


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)


def _folder_of(program: str) -> Path:
    found = shutil.which(program)
    if found is None:
        raise NodeError(f"{program} is not on PATH")
    return Path(found).parent


def _succeeds(command: list[str]) -> bool:
    return not subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode


if __name__ == "__main__":
    main()
