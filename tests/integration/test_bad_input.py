"""Input that must not be sent: refused as a whole, with line numbers, before a byte leaves, and without telling it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.cluster import Cluster, condition
from support.diagnostics import Diagnostics
from support.emulator import chat_lines
from support.shared_operator import SharedOperator, shared_operator
from support.world import MODEL, World

PROMPT = "a-prompt-that-nobody-else-may-read"
OTHER = "another-model"
LONG = 60.0


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1")
    with shared_operator(cluster, tmp_path_factory.mktemp("bad-input"), namespaces=24, flags=flags) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


def a_line(**changes: Any) -> bytes:
    """A good line that has the prompt in it, with some keys changed; None takes one away."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}]}
    keys = {"custom_id": f"id-{PROMPT}", "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}
    return json.dumps({key: value for key, value in keys.items() if value is not None}).encode() + b"\n"


def with_model(model: str, custom_id: str) -> bytes:
    """A good line for a model."""
    return a_line(custom_id=custom_id, body={"model": model, "messages": [{"role": "user", "content": PROMPT}]})


@dataclass(frozen=True)
class Case:
    """Input that is refused: with this code, on this line."""

    content: bytes
    code: str
    line: int | None = None
    limits: dict[str, Any] = field(default_factory=dict)


FIRST = a_line(custom_id="first")
CASES = {
    "not JSON": Case(FIRST + b'{"custom_id": "' + PROMPT.encode() + b'"\n', "invalid_json", 2),
    "an array": Case(FIRST + b'["' + PROMPT.encode() + b'"]\n', "not_an_object", 2),
    "NaN": Case(a_line().replace(b'"messages"', b'"temperature": NaN, "messages"'), "invalid_json", 1),
    "no custom_id": Case(FIRST + a_line(custom_id=None), "missing_custom_id", 2),
    "a duplicate": Case(FIRST + a_line(custom_id="b") + b"\n" + FIRST, "duplicate_custom_id", 4),
    "GET": Case(a_line(method="GET"), "invalid_method", 1),
    "two URLs": Case(FIRST + a_line(url="/v1/embeddings"), "mixed_urls", 2),
    "a foreign model": Case(with_model(f"model-{PROMPT}", "a"), "foreign_model", 1),
    "mixed models": Case(with_model(MODEL, "a") + with_model(OTHER, "b"), "mixed_models", 2),
    "no body": Case(FIRST + a_line(body=None), "missing_body", 2),
    "a body that is a list": Case(FIRST + a_line(body=[PROMPT]), "invalid_body", 2),
    "invalid UTF-8": Case(FIRST + a_line().replace(b"prompt", b"pr\xff\xfempt"), "invalid_utf8", 2),
    "empty": Case(b"", "empty_file"),
    "only blank lines": Case(b"\n  \n\t\r\n\n", "empty_file"),
    "over the line limit": Case(
        chat_lines(3, model=MODEL, text=PROMPT), "too_many_requests", limits={"maxRequestsPerFile": 2}
    ),
    "over the byte limit": Case(FIRST + a_line(), "file_too_large", limits={"maxFileBytes": str(len(FIRST))}),
}


def binary(world: World, content: bytes) -> dict[str, Any]:
    """A source with any bytes: binaryData of a ConfigMap."""
    data = {"requests.jsonl": base64.b64encode(content).decode()}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "requests"}, "binaryData": data}
    world.cluster.create(manifest, world.namespace)
    return {"configMapKeyRef": {"name": "requests", "key": "requests.jsonl"}}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input_is_refused_before_a_byte_is_uploaded(world, shared, account, case):
    """It is refused with line and code, its jobs fail, the provider sees nothing, and no content is told."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai, limits=case.limits)
    world.ready("ModelDeployment", "openai", timeout=LONG)
    world.file(source=binary(world, case.content), models=[MODEL, OTHER])
    world.job(targetModelName=MODEL)

    job = world.finished()

    file = world.get("BatchFile", "questions")
    told = {found["type"]: (found["status"], found["reason"]) for found in file["status"]["conditions"]}
    assert told == {kind: (status, "InvalidInput") for kind, status in REFUSED.items()}
    (error,) = file["status"]["errors"]
    assert (error["code"], error.get("line")) == (case.code, case.line)
    assert job["status"]["phase"] == "Failed"
    failed, stalled = condition(job, "Failed"), condition(job, "Stalled")
    assert failed is not None
    assert stalled is not None
    assert (failed["reason"], stalled["status"]) == ("InputFileInvalid", "True")
    assert openai.calls().count("files.create") == 0
    assert openai.files() == []
    events = world.cluster.list("Event", world.namespace)
    for place in (json.dumps(file["status"]), json.dumps(job), json.dumps(events), shared.process.log.read_text()):
        assert PROMPT not in place


REFUSED = {"Validated": "False", "Ready": "False", "Stalled": "True"}


def test_the_first_twenty_errors_are_told_with_their_lines(world, account):
    """A file with many errors tells the first 20 of them and how many there are."""
    world.openai("openai", account("openai", provider="openai"))
    lines = [a_line(custom_id=f"id-{at}", method="POST" if at % 2 else "PUT") for at in range(60)]
    world.file(lines=b"".join(lines))

    file = world.until("BatchFile", "questions", lambda file: condition(file, "Stalled"), timeout=LONG)

    assert [error["line"] for error in file["status"]["errors"]] == list(range(1, 41, 2))
    assert "and 29 more" in file["status"]["conditions"][0]["message"]


def test_a_file_over_the_limits_of_one_deployment_goes_to_the_others(world, account):
    """Limits are each deployment's own: one that is too small says so in its entry and is sent nothing."""
    large, small = account("large", provider="openai"), account("small", provider="openai")
    world.openai("large", large)
    world.openai("small", small, limits={"maxRequestsPerFile": 2})
    for name in ("large", "small"):
        world.ready("ModelDeployment", name, timeout=LONG)
    world.file(lines=chat_lines(3, model=MODEL))

    file = world.until("BatchFile", "questions", lambda file: condition(file, "Uploaded"), timeout=LONG)
    file = world.ready("BatchFile", "questions", timeout=LONG)

    found = {entry["name"]: (entry["state"], entry.get("reason")) for entry in file["status"]["deployments"]}
    assert found == {"large": ("Processed", None), "small": ("Failed", "LimitExceeded")}
    assert small.calls().count("files.create") == 0

    world.cluster.patch("ModelDeployment", "small", world.namespace, {"spec": {"limits": {"maxRequestsPerFile": 3}}})

    world.cluster.wait_condition("BatchFile", "questions", world.namespace, "Uploaded", timeout=LONG)
    assert len(small.files()) == 1
