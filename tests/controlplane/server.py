"""Starts and stops the programs of a control plane in one folder, and writes a kubeconfig for each of its users."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.binaries import Binaries
from controlplane.ports import free_port
from toolchain.leash import leashed

START_SECONDS = 120.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05
# Only what has no need of nodes; names as in `kube-controller-manager --help`.
CONTROLLERS = (
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "clusterrole-aggregation-controller",
    "resourcequota-controller",
)
AUDIT_LOG = "audit.log"
# Who wrote what and when, without content, so that a test can count the writes of one client in one namespace; of
# ServiceAccounts whatever they asked for, so that another can hold it against their rights. Not of the controllers.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {
            "level": "Metadata",
            "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            "resources": [
                {"group": "llmbatch.dev"},
                {"group": "", "resources": ["configmaps", "secrets", "events"]},
                {"group": "events.k8s.io"},
                {"group": "coordination.k8s.io"},
            ],
        },
        {"level": "None"},
    ],
}


class StartError(Exception):
    """The control plane did not come up; the message ends with the log of what failed."""


@dataclass(frozen=True)
class User:
    """Someone the API server knows by a token."""

    name: str
    groups: tuple[str, ...] = ()


ADMIN = User("admin", ("system:masters",))
CONTROLLER_MANAGER = User("system:kube-controller-manager")


@dataclass
class ControlPlane:
    """A running etcd, kube-apiserver and, if wanted, kube-controller-manager whose state is all in `folder`."""

    binaries: Binaries
    folder: Path
    url: str
    _tokens: dict[str, str]
    _processes: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.kubeconfig_of(ADMIN.name)

    @property
    def ca_file(self) -> Path:
        """The certificate that the API server signed for itself, with its authority."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def audit_log(self) -> Path:
        """JSON lines for what AUDIT_POLICY names, there before its answer is."""
        return self.folder / AUDIT_LOG

    def kubeconfig_of(self, user: str) -> Path:
        """The kubeconfig of one of the users the control plane was started with."""
        return self.folder / f"{user.replace(':', '-')}.kubeconfig"

    def log(self, program: str) -> Path:
        """The log file of one program."""
        return self.folder / "log" / f"{program}.log"

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl as the administrator and answer what it printed. Raises StartError."""
        command = [str(self.binaries.kubectl), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StartError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def stopped_program(self) -> str | None:
        """The name of a program that ended by itself, if one has."""
        return next((name for name, process in self._processes if process.poll() is not None), None)

    def stop(self) -> None:
        """End every program, the last started first. The state stays in the folder."""
        for _, process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _run(self, name: str, program: Path, *flags: str) -> None:
        log = self.log(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            # A group of its own: Ctrl-C on the terminal reaches us, and we end them in order.
            process = subprocess.Popen(
                leashed([str(program), *flags], signal.SIGKILL),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._processes.append((name, process))

    def _await(self, what: str, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not reached():
            stopped = self.stopped_program()
            if stopped or time.monotonic() > deadline:
                name = stopped or self._processes[-1][0]
                log = self.log(name).read_text(errors="replace")[-3000:]
                raise StartError(f"{what}: not reached; {'ended' if stopped else 'the last'}: {name}\n{log}")
            time.sleep(POLL_SECONDS)

    def _answers(self, path: str, user: User = ADMIN) -> bool:
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"Bearer {self._tokens[user.name]}"}
        )
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            with opener.open(request, timeout=5) as response:
                return response.status == 200
        except OSError:  # refused, not yet signed, half-written, or an HTTP error: all of them "not yet"
            return False

    def _write_kubeconfig(self, user: User) -> None:
        authority = base64.b64encode(self.ca_file.read_bytes()).decode()
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": user.name, "user": {"token": self._tokens[user.name]}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": user.name}}],
            "current-context": "local",
        }
        _write_private(self.kubeconfig_of(user.name), json.dumps(content, indent=1))


def start(
    binaries: Binaries, folder: Path, *, users: Sequence[User] = (), manifests: Sequence[Path] = ()
) -> ControlPlane:
    """Start everything in the empty `folder`, apply `manifests`, and return when it can be used. Raises StartError.

    The controller-manager comes last: its garbage collector learns of kinds that exist when it starts at once, and of
    later ones only every 30 s.
    """
    everyone = (ADMIN, CONTROLLER_MANAGER, *users)
    port = free_port()
    plane = ControlPlane(
        binaries, folder, f"https://127.0.0.1:{port}", {user.name: secrets.token_hex(16) for user in everyone}
    )
    try:
        _write_private(folder / "tokens.csv", "".join(_token_line(user, plane._tokens[user.name]) for user in everyone))
        _write_private(folder / "audit-policy.json", json.dumps(AUDIT_POLICY))
        _run_etcd_and_api_server(plane, port)
        plane._await("API server ready", lambda: plane._answers("/readyz"))
        for user in everyone:
            plane._write_kubeconfig(user)
        apply_manifests(plane, manifests)
        if binaries.kube_controller_manager:
            _run_controller_manager(plane, binaries.kube_controller_manager)
    except BaseException:
        plane.stop()
        raise
    return plane


def apply_manifests(plane: ControlPlane, manifests: Sequence[Path]) -> None:
    """Apply files or folders of manifests and wait until every CustomResourceDefinition is Established."""
    files = [file for path in manifests for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    if files:
        plane.kubectl("apply", "--server-side", *(f"--filename={file}" for file in files))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def _run_etcd_and_api_server(plane: ControlPlane, port: int) -> None:
    etcd, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    plane._run(
        "etcd", plane.binaries.etcd, "--name=local", f"--data-dir={plane.folder / 'etcd'}", "--unsafe-no-fsync",
        f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=local={peer}", "--log-level=warn",
    )  # fmt: skip
    certs = plane.folder / "certs"
    plane._run(
        "kube-apiserver", plane.binaries.kube_apiserver, f"--etcd-servers={etcd}", "--bind-address=127.0.0.1",
        f"--secure-port={port}", f"--cert-dir={certs}", "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",  # a loopback address can't be an endpoint of the kubernetes Service
        "--service-account-issuer=https://kubernetes.default.svc",
        # The key that it makes for its own certificate signs ServiceAccount tokens too, so nobody needs openssl.
        f"--service-account-key-file={certs / 'apiserver.key'}",
        f"--service-account-signing-key-file={certs / 'apiserver.key'}",
        f"--token-auth-file={plane.folder / 'tokens.csv'}", "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged=true",
        f"--audit-policy-file={plane.folder / 'audit-policy.json'}", f"--audit-log-path={plane.audit_log}",
        "--audit-log-mode=blocking-strict",
    )  # fmt: skip


def _run_controller_manager(plane: ControlPlane, program: Path) -> None:
    plane._run(
        "kube-controller-manager", program,
        f"--kubeconfig={plane.kubeconfig_of(CONTROLLER_MANAGER.name)}", "--use-service-account-credentials",
        f"--service-account-private-key-file={plane.folder / 'certs' / 'apiserver.key'}",
        f"--root-ca-file={plane.ca_file}", "--leader-elect=false", f"--controllers={','.join(CONTROLLERS)}",
        "--kube-api-qps=300", "--kube-api-burst=600",  # with the default of 20 the ServiceAccounts come 4 s late
        "--bind-address=127.0.0.1", f"--secure-port={free_port()}", f"--cert-dir={plane.folder / 'kcm'}",
    )  # fmt: skip
    plane._await("default ServiceAccount", lambda: plane._answers("/api/v1/namespaces/default/serviceaccounts/default"))


def _token_line(user: User, token: str) -> str:
    return f'{token},{user.name},{user.name},"{",".join(user.groups)}"\n'


def _write_private(path: Path, content: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)
