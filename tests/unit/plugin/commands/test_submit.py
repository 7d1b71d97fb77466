"""What `submit` makes of a file: names, places, and the objects themselves."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
import yaml

from llmbatch.domain.requests.validation import InputLimits, InputReport
from llmbatch.plugin.exits import Exit, Stop
from llmbatch.plugin.submitting.manifests import INLINE_BYTES, OBJECT_BYTES, Plan, Wish, planned
from llmbatch.plugin.submitting.requests import checked
from support.plugin import invoked
from support.requests import a_body, a_file, a_line

LINES = a_file(a_line("a"), a_line("b"))


def a_plan(content: bytes = LINES, **wish: Any) -> Plan:
    """The plan for a file of these lines, wished for as given."""
    fields = {"file": "questions.jsonl", "model": "gpt", **wish}
    report = checked(io.BytesIO(content), ["gpt"], InputLimits(), kept_errors=20)
    return planned(Wish(**fields), report, io.BytesIO(content))


def a_large_plan(size: int, **wish: Any) -> Plan:
    """The plan for a file of so many bytes, whatever they are."""
    content = b" " * size
    report = InputReport(1, size, "0" * 64, 1, "/v1/chat/completions", "gpt", (), 0, size)
    return planned(Wish(**{"file": "questions.jsonl", "model": "gpt", **wish}), report, io.BytesIO(content))


def name_of(plan: Plan) -> str:
    """The file's name."""
    return plan.file["metadata"]["name"]


def test_a_small_file_is_inline_and_its_results_go_to_a_config_map():
    """Two objects, named after the file and its content."""
    plan = a_plan()

    name = name_of(plan)
    assert name.startswith("questions-")
    assert plan.file["spec"] == {"targetModelNames": ["gpt"], "source": {"inline": LINES.decode()}}
    assert plan.job["metadata"]["name"] == name
    assert plan.job["spec"] == {"inputFileRef": {"name": name}, "output": {"configMap": {"name": f"{name}-output"}}}
    assert plan.manifests == [plan.file, plan.job]


def test_a_name_stands_for_all_that_a_file_is_bound_to():
    """The same content, model and place give the same name, from wherever the file is; anything else another."""
    name = name_of(a_plan())

    assert name_of(a_plan(file="/elsewhere/Questions.jsonl")) == name
    others = [
        a_plan(LINES + a_line("c")),
        a_plan(model="other"),
        a_plan(to="configmap"),
        a_plan(to="secret"),
        a_plan(to="s3://bucket/one"),
        a_plan(to="s3://bucket/two"),
        a_plan(file="answers.jsonl"),
    ]
    assert len({name, *map(name_of, others)}) == len(others) + 1
    assert name_of(a_plan(name="monday", output_to="none", credentials_secret="s")) == name


@pytest.mark.parametrize(
    ("file", "stem"),
    [
        ("My Questions (2).v1.jsonl", "my-questions-2-"),
        ("ünïcode.jsonl", "n-code-"),
        ("???.jsonl", "requests-"),
        ("-", "requests-"),
        ("a" * 300 + ".jsonl", "a" * 40 + "-"),
    ],
)
def test_any_file_has_a_name_that_an_object_may_have(file, stem):
    """What is no part of a DNS name is left out, and a long name is cut."""
    name = name_of(a_plan(file=file))

    assert name.startswith(stem)
    assert len(name) <= 51


@pytest.mark.parametrize(
    ("size", "kind"), [(INLINE_BYTES, None), (INLINE_BYTES + 1, "ConfigMap"), (OBJECT_BYTES, "ConfigMap")]
)
def test_what_is_too_large_for_a_resource_goes_to_a_config_map(size, kind):
    """Inline as long as each update of the status can carry it, else a ConfigMap up to Kubernetes' limit."""
    data = a_large_plan(size).data

    assert (data and data["kind"]) == kind


@pytest.mark.parametrize(
    ("size", "to"), [(OBJECT_BYTES + 1, None), (OBJECT_BYTES + 1, "secret"), (131_073, "inline"), (10, "floppy")]
)
def test_what_fits_nowhere_is_told_with_the_place_that_would_do(size, to):
    """The user is told of buckets, or of the places that there are."""
    with pytest.raises(Stop) as stop:
        a_large_plan(size, to=to)

    assert stop.value.code is Exit.USAGE
    assert "s3://BUCKET/PREFIX" in stop.value.message


def test_a_config_map_and_a_secret_hold_the_lines_as_they_are():
    """Immutable, under one key, byte for byte."""
    content = "\ufeff".encode() + a_file(a_line("ä", body=a_body(words="日本")))

    config_map, secret = a_plan(content, to="configmap"), a_plan(content, to="secret")

    assert config_map.data
    assert secret.data
    assert config_map.data["immutable"] is secret.data["immutable"] is True
    assert config_map.data["data"]["requests.jsonl"].encode() == content
    assert base64.b64decode(secret.data["data"]["requests.jsonl"]) == content
    reference = {"name": name_of(secret), "key": "requests.jsonl"}
    assert secret.file["spec"]["source"] == {"secretKeyRef": reference}


@pytest.mark.parametrize(
    ("wish", "output"),
    [
        ({}, {"configMap": {"name": "run-output"}}),
        ({"to": "secret"}, {"secret": {"name": "run-output"}}),
        ({"to": "s3://bucket", "credentials_secret": "keys"}, ("s3://bucket/run", "keys")),
        ({"to": "s3://bucket/in/", "credentials_secret": "keys"}, ("s3://bucket/in/run", "keys")),
        ({"to": "s3://bucket/in"}, {"url": "s3://bucket/in/run"}),
        ({"output_to": "none"}, None),
        ({"to": "s3://bucket/in", "output_to": "none"}, None),
        ({"output_to": "secret"}, {"secret": {"name": "run-output"}}),
        ({"output_to": "configmap/answers"}, {"configMap": {"name": "answers"}}),
        ({"output_to": "s3://other/out/", "output_credentials_secret": "k"}, ("s3://other/out", "k")),
        ({"output_to": "s3://other/out", "credentials_secret": "keys"}, ("s3://other/out", "keys")),
    ],
)
def test_results_go_beside_the_requests_unless_said_otherwise(wish, output):
    """As confidential as the input; a bucket's get a folder of their own, with the same credentials."""
    wanted = {"url": output[0], "credentialsSecretRef": {"name": output[1]}} if isinstance(output, tuple) else output

    assert a_plan(name="run", **wish).job["spec"].get("output") == wanted


def test_an_object_in_a_bucket_carries_the_name_of_the_file():
    """The URL of the source, and its credentials where a Secret is named."""
    plan = a_plan(to="s3://bucket/in/", credentials_secret="keys")

    assert plan.url == f"s3://bucket/in/{name_of(plan)}.jsonl"
    assert plan.file["spec"]["source"] == {"url": plan.url, "credentialsSecretRef": {"name": "keys"}}
    assert plan.data is None


@pytest.mark.parametrize(
    "wish",
    [
        {"output_to": "floppy"},
        {"to": "s3://b"},
        {"to": "s3://bucket/../x"},
        {"output_to": "s3://bucket/a//b"},
        {"name": "Not_A_Name"},
        {"name": "a" * 254},
        {"deployment": "east"},
    ],
)
def test_what_cannot_be_is_refused_with_the_code_of_usage(wish):
    """A place or a name of the wrong form, and a pin whose namespace nobody knows."""
    with pytest.raises(Stop) as stop:
        a_plan(**wish)

    assert stop.value.code is Exit.USAGE


@pytest.mark.parametrize(("deployment", "namespace"), [("east", "team"), ("shared/east", "shared")])
def test_a_pin_is_in_the_jobs_namespace_unless_it_names_another(deployment, namespace):
    """`--deployment` takes a name, or a namespace and a name."""
    plan = a_plan(deployment=deployment, namespace="team")

    assert plan.job["spec"]["deploymentRef"] == {"namespace": namespace, "name": "east"}
    assert plan.job["metadata"]["namespace"] == "team"


def test_every_option_reaches_the_job(tmp_path):
    """What is said on the command line stands in the manifest, and nothing else does."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(LINES)
    options = ["--ttl", "7d", "--deadline", "90m", "--backoff-limit", "0", "--suspend", "--metadata", "team=a=b"]
    pin = ["--completion-window", "24h", "--deployment", "shared/east", "--output-to", "none", "--name", "run"]

    done = invoked("submit", file, *options, *pin, "--dry-run", "client", "-o", "json", "-n", "team")

    job = done.json["items"][1]
    assert job["metadata"] == {
        "name": "run", "namespace": "team", "labels": {"app.kubernetes.io/managed-by": "kubectl-llmbatch"},
    }  # fmt: skip
    file_name = done.json["items"][0]["metadata"]["name"]
    assert job["spec"] == {
        "inputFileRef": {"name": file_name},
        "completionWindow": "24h",
        "metadata": {"team": "a=b"},
        "ttlSecondsAfterFinished": 604_800,
        "activeDeadlineSeconds": 5400,
        "backoffLimit": 0,
        "suspend": True,
        "deploymentRef": {"namespace": "shared", "name": "east"},
    }


def test_manifests_show_the_lines_as_they_are(tmp_path):
    """In YAML the requests are lines of their own, so that a diff in a repository shows which of them changed."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(LINES)

    text = invoked("submit", file, "--dry-run", "client", "-o", "yaml").out

    assert set(LINES.decode().splitlines()) <= {line.strip() for line in text.splitlines()}
    assert next(yaml.safe_load_all(text))["spec"]["source"]["inline"].encode() == LINES


def test_the_lines_own_model_serves_where_none_is_said(tmp_path):
    """Without `--model` the file is for the model that its lines name; where they name none, one must be said."""
    named, nameless = tmp_path / "named.jsonl", tmp_path / "nameless.jsonl"
    named.write_bytes(LINES)
    nameless.write_bytes(a_file(a_line("a", body={"messages": []})))
    dry = ("--dry-run", "client", "-o", "json")

    found = invoked("submit", named, *dry).json
    refused = invoked("submit", nameless, *dry, code=2)

    assert found["items"][0]["spec"]["targetModelNames"] == ["gpt"]
    assert "--model" in refused.err


def test_results_that_will_hardly_fit_are_told_beforehand(tmp_path):
    """Many requests with results into a ConfigMap are worth a note, since the job would fail at its end."""
    file = tmp_path / "many.jsonl"
    file.write_bytes(a_file(*(a_line(str(number)) for number in range(600))))

    def told(*more: str) -> str:
        return invoked("submit", file, "--dry-run", "client", *more).err

    assert "may not fit" in told()
    file.write_bytes(a_file(*(a_line(str(number), url="/v1/embeddings") for number in range(60))))
    assert "may not fit" in told()
    file.write_bytes(a_file(*(a_line(str(number)) for number in range(60))))
    assert "may not fit" not in told()
    file.write_bytes(a_file(a_line(url="/v1/embeddings", body=a_body(input=["text"] * 60))))
    assert "may not fit" in told()
    assert told("--output-to", "none") == told("--output-to", "s3://bucket/prefix") == ""
