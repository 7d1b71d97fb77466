"""The emulator as a Deployment in the cluster, and namespaces that have their models there."""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import yaml

from e2e.node.images import NAME, PROJECT, version_of
from support.cluster import Cluster, Object, condition
from support.emulator import FAST, Account
from support.world import MODEL, World
from toolchain.leash import leashed

EXAMPLES = PROJECT / "examples" / "emulator"
NAMESPACE, SERVICE, PORT = "llmbatch-demo", "emulator", 8787
START_SECONDS = 60.0


@dataclass(frozen=True)
class Provider:
    """A running emulator: pods know it by the Service's name, tests by a forwarded port."""

    service_address: str
    _client: httpx2.Client

    def account(self, name: str) -> Account:
        """A fresh OpenAI account."""
        settings = {"provider": "openai", "keys": [f"key-of-{name}"], "pace": dict(FAST)}
        answer = self._client.put(f"/_emulator/accounts/{name}", json=settings)
        assert answer.status_code == 200, answer.text
        return Account(self._client, str(self._client.base_url).rstrip("/"), answer.json())


@contextlib.contextmanager
def running_provider(cluster: Cluster, image: str) -> Iterator[Provider]:
    """Apply the example with this image, and forward a port to it."""
    manifests: list[Object] = [item for item in yaml.safe_load_all((EXAMPLES / "emulator.yaml").read_text()) if item]
    deployment = next(item for item in manifests if item["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{NAME}:{version_of(PROJECT)}", "the example names another version of the image"
    container["image"] = image
    cluster.apply(manifests, NAMESPACE)
    cluster.wait_for("Deployment", SERVICE, NAMESPACE, _available, timeout=START_SECONDS)
    address = cluster.get("Service", SERVICE, NAMESPACE)["spec"]["clusterIP"]
    with _forwarded(cluster) as url, httpx2.Client(base_url=url, timeout=30.0, trust_env=False) as client:
        yield Provider(address, client)


def furnish(cluster: Cluster, namespace: str, account: Account) -> World:
    """A new namespace under the restricted Pod Security Standard, with a model on this account and a file for it."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": namespace, "labels": restricted}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, namespace)
    world = World(cluster, namespace)
    world.secret("provider", api_key=account.key)
    block: dict[str, Any] = {
        "baseURL": f"http://{SERVICE}.{NAMESPACE}.svc:{PORT}/v1",
        "model": "gpt-4o-mini",
        "auth": {"secretKeyRef": {"name": "provider", "key": "api-key"}},
    }
    world.make("ModelDeployment", "openai", {"modelName": MODEL, "openAI": block})
    world.file()
    return world


def _available(deployment: Object) -> bool:
    fresh = deployment.get("status", {}).get("observedGeneration") == deployment["metadata"]["generation"]
    return fresh and (condition(deployment, "Available") or {}).get("status") == "True"


@contextlib.contextmanager
def _forwarded(cluster: Cluster) -> Iterator[str]:
    command = [str(cluster.kubectl_path), f"--kubeconfig={cluster.kubeconfig}", "port-forward", "-n", NAMESPACE]
    process = subprocess.Popen(
        leashed([*command, f"service/{SERVICE}", f":{PORT}"], signal.SIGTERM),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        assert select.select([process.stdout], [], [], deadline - time.monotonic())[0], "no port was forwarded"
        line = process.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> 8787
        yield f"http://{line.removeprefix('Forwarding from ').split(' ', 1)[0]}"
    finally:
        process.terminate()
        process.wait()
