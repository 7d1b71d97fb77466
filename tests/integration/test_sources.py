"""Where a file's lines come from: inline, ConfigMap, Secret and S3, there or not there yet."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from support.cluster import Cluster, Object, condition
from support.diagnostics import Diagnostics
from support.emulator import Account, chat_lines
from support.shared_operator import SharedOperator, shared_operator
from support.world import MODEL, World

FLAGS = ("--poll-interval", "0.3", "--probe-interval", "1")
LONG = 60.0
KEY = "requests.jsonl"
REFUSAL = b"<Error><Code>SignatureDoesNotMatch</Code><Message>a-secret-of-the-store</Message></Error>"


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    with shared_operator(cluster, tmp_path_factory.mktemp("sources"), namespaces=16, flags=FLAGS) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


@pytest.fixture
def refusing_store() -> Iterator[str]:
    """The address of an S3 that refuses everybody's credentials."""

    class Refusing(BaseHTTPRequestHandler):
        def _refuse(self) -> None:
            self.send_response(403)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(REFUSAL)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(REFUSAL)

        do_GET = do_HEAD = _refuse

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def stored(world: World, kind: str, name: str, field: str, content: bytes, *, key: str = KEY) -> None:
    """Make a ConfigMap or a Secret with requests, or put them into it."""
    value = content.decode() if field == "data" and kind == "ConfigMap" else base64.b64encode(content).decode()
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: {key: value}}
    world.cluster.apply(manifest, world.namespace)


def credentials(world: World, name: str, values: dict[str, str]) -> None:
    """Make a Secret with the credentials of a store."""
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    world.cluster.apply(manifest, world.namespace)


def waits(world: World, reason: str) -> Object:
    """The file once it waits for this reason; it is not Stalled, since time may heal it."""

    def so(file: Object) -> bool:
        found = condition(file, "Reconciling")
        return found is not None and (found["status"], found["reason"]) == ("True", reason)

    file = world.until("BatchFile", "questions", so, timeout=LONG)
    assert condition(file, "Stalled") is None
    ready = condition(file, "Ready")
    assert ready is not None
    assert (ready["status"], ready["reason"]) == ("False", reason)
    return file


def copy(world: World, openai: Account) -> bytes:
    """What the provider holds of the file once it is Ready."""
    file = world.ready("BatchFile", "questions", timeout=LONG)
    return openai.content(file["status"]["deployments"][0]["files"][0]["fileID"])


@pytest.mark.parametrize(("kind", "field"), [("ConfigMap", "data"), ("ConfigMap", "binaryData"), ("Secret", "data")])
def test_lines_come_from_a_key_in_the_cluster(world, account, kind, field):
    """A ConfigMap's data and binaryData and a Secret's data hold requests as well as the file itself."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    stored(world, kind, "requests", field, chat_lines(3, model=MODEL))
    world.file(source={f"{kind[0].lower()}{kind[1:]}KeyRef": {"name": "requests", "key": KEY}})

    assert copy(world, openai) == chat_lines(3, model="gpt-4o-mini")


def test_lines_come_from_s3(world, account, bucket):
    """An object in a bucket is read with the credentials of a Secret, which may be put right later."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    bucket.put("folder/requests.jsonl", chat_lines(2000, model=MODEL))
    source = {"url": f"{bucket.url}folder/requests.jsonl", "credentialsSecretRef": {"name": "store"}}
    world.file(source=source)
    waits(world, "SecretNotFound")
    partial = {name: value for name, value in bucket.credentials.items() if name != "AWS_SECRET_ACCESS_KEY"}
    credentials(world, "store", partial)
    waits(world, "CredentialsInvalid")

    credentials(world, "store", bucket.credentials)

    assert copy(world, openai) == chat_lines(2000, model="gpt-4o-mini")


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_a_source_that_is_missing_is_waited_for(world, account, kind):
    """Files and what they refer to are applied in any order: what is missing is named, and found once it is made."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    world.file(source={f"{kind[0].lower()}{kind[1:]}KeyRef": {"name": "requests", "key": KEY}})
    world.job()
    waits(world, f"{kind}NotFound")
    stored(world, kind, "requests", "data", b"nothing", key="other")
    file = waits(world, f"{kind}KeyNotFound")
    assert KEY in str(condition(file, "Reconciling"))

    stored(world, kind, "requests", "data", chat_lines(3, model=MODEL))

    assert world.finished()["status"]["phase"] == "Succeeded"


def test_an_object_that_is_missing_is_waited_for(world, account, bucket):
    """An object that is not in the bucket yet is named, and read once it is there."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    credentials(world, "store", bucket.credentials)
    world.file(source={"url": f"{bucket.url}later.jsonl", "credentialsSecretRef": {"name": "store"}})
    waits(world, "ObjectNotFound")

    bucket.put("later.jsonl", chat_lines(3, model=MODEL))

    assert copy(world, openai) == chat_lines(3, model="gpt-4o-mini")


def test_credentials_that_the_store_refuses_are_told_of(world, shared, refusing_store):
    """Wrong credentials are SourceDenied; neither they nor what the store answered is told."""
    values = {
        "AWS_ACCESS_KEY_ID": "an-id-of-somebody",
        "AWS_SECRET_ACCESS_KEY": "a-key-of-somebody",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": refusing_store,
    }
    credentials(world, "store", values)
    world.file(source={"url": "s3://bucket/requests.jsonl", "credentialsSecretRef": {"name": "store"}})

    file = waits(world, "SourceDenied")

    for secret in ("an-id-of-somebody", "a-key-of-somebody", "a-secret-of-the-store"):
        assert secret not in str(file)
        assert secret not in shared.process.log.read_text()


def test_a_store_in_a_private_network_is_not_allowed(cluster, namespace, operator, bucket):
    """A tenant's AWS_ENDPOINT_URL leads into no private network unless the administrator allows it."""
    world = World(cluster, namespace)
    bucket.put("requests.jsonl", chat_lines(3, model=MODEL))
    operator(namespace, flags=FLAGS, networks=())
    credentials(world, "store", bucket.credentials)

    world.file(source={"url": f"{bucket.url}requests.jsonl", "credentialsSecretRef": {"name": "store"}})

    file = waits(world, "EndpointNotAllowed")
    assert "requests" not in file["status"]


def test_copies_outlive_their_source(cluster, namespace, account, operator):
    """With the ConfigMap gone and the operator begun anew, jobs run on the copies, even one processed since."""
    world = World(cluster, namespace)
    azure = account("azure", deployments={"general": "gpt-4o-mini"}, file_processing_seconds=6)
    world.azure("azure", azure, deployment="general")
    first = operator(namespace, flags=FLAGS)
    stored(world, "ConfigMap", "requests", "data", chat_lines(3, model=MODEL))
    world.file(source={"configMapKeyRef": {"name": "requests", "key": KEY}})
    world.until("BatchFile", "questions", lambda file: "Processing" in str(file.get("status")), timeout=LONG)
    first.kill()
    world.delete("ConfigMap", "requests")
    operator(namespace, flags=FLAGS)
    world.openai("late", account("late", provider="openai"))
    world.until("BatchFile", "questions", lambda file: "ConfigMapNotFound" in str(file["status"]), timeout=LONG)

    world.job()

    assert world.finished()["status"]["deployment"]["name"] == "azure"
    file = world.get("BatchFile", "questions")
    uploaded = condition(file, "Uploaded")
    assert uploaded is not None
    assert (uploaded["status"], uploaded["reason"]) == ("False", "ConfigMapNotFound")
    assert condition(file, "Reconciling") is None
