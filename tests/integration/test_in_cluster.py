"""The way of a pod to its API server, by the files that the kubelet gives it."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from llmbatch.api.batchjob import BatchJob
from llmbatch.handlers.login import connection
from llmbatch.kube.client import Kube
from llmbatch.kube.connect import access, connect
from llmbatch.kube.errors import NoConfiguration
from support.cluster import Cluster


def environment(cluster: Cluster) -> dict[str, str]:
    """What every container has in its environment."""
    server = urlsplit(cluster.url)
    return {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}


async def test_a_pod_reaches_the_api_server_as_its_service_account(as_operator: Cluster, tmp_path: Path):
    """Token and authority come from the mounted folder, for our own client and for kopf's."""
    config = yaml.safe_load(as_operator.kubeconfig.read_text())
    token = config["users"][0]["user"]["token"]
    (tmp_path / "token").write_text(token)
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
    (tmp_path / "ca.crt").write_bytes(authority)

    api = await connect(environment(as_operator), service_account=tmp_path)
    found = [job async for job in Kube(api, lambda: None).list(BatchJob, "default")]
    told = connection(await access(api))
    await api.close()

    assert found == []
    assert (told.server, told.token, told.insecure) == (as_operator.url, token, False)
    assert told.ca_path == str(tmp_path / "ca.crt")


async def test_a_pod_without_a_token_is_told_what_to_set(as_operator: Cluster, tmp_path: Path):
    """The pod's automountServiceAccountToken may be off; that is no mistake of the operator's own."""
    with pytest.raises(NoConfiguration, match="automountServiceAccountToken"):
        await connect(environment(as_operator), service_account=tmp_path)
