"""Where results go, and that none is ever lost, cut or overwritten on the way."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from controlplane.ports import free_port
from support.cluster import Cluster
from support.diagnostics import Diagnostics
from support.emulator import chat_lines
from support.jobs import conditions, custom_ids, message, waits_for
from support.shared_operator import SharedOperator, shared_operator
from support.world import World

MODEL = "gpt-4o-mini-batch"
THREE = ["request-0", "request-1", "request-2"]


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1")
    with shared_operator(cluster, tmp_path_factory.mktemp("outputs"), namespaces=20, flags=flags) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


@pytest.fixture
def openai(world, account):
    """An OpenAI account with a deployment and a file in the test's namespace."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    world.file()
    return openai


def results_gone(account) -> bool:
    """Whether the provider holds no result files any more."""
    return not account.files(purpose="batch_output")


def s3_secret(world: World, name: str, values: dict[str, str]) -> None:
    """A Secret for credentialsSecretRef."""
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    world.cluster.apply(manifest, world.namespace)


def test_a_config_map_outlives_its_job(world, openai):
    """By default the output carries the job's UID as a label and no owner, and stays when the job is deleted."""
    world.job(output={"configMap": {"name": "answers"}})

    job = world.finished()
    written = world.get("ConfigMap", "answers")
    world.delete("BatchJob", "run")
    world.gone("BatchJob", "run", timeout=60)

    assert written["metadata"]["labels"]["llmbatch.dev/job-uid"] == job["metadata"]["uid"]
    assert "ownerReferences" not in written["metadata"]
    assert sorted(written["data"]) == ["output.jsonl", "summary.json"]
    assert custom_ids(written["data"]["output.jsonl"]) == THREE
    output = job["status"]["output"]
    assert output["location"] == "configmap/answers"
    assert output["lines"] == 3
    assert output["bytes"] == sum(len(text.encode()) for text in written["data"].values())
    summary = json.loads(written["data"]["summary.json"])
    assert summary["usage"] == job["status"]["usage"]
    assert summary["cost"] == job["status"]["cost"]
    assert summary["requestCounts"] == job["status"]["requestCounts"]
    assert world.output("answers") == written["data"]


def test_an_output_that_is_not_retained_belongs_to_its_job(world, openai):
    """retain: false makes the job the owner, so the garbage collector takes both."""
    world.job(output={"configMap": {"name": "answers", "retain": False}})

    job = world.finished()

    (owner,) = world.get("ConfigMap", "answers")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("BatchJob", "run", job["metadata"]["uid"])


def test_results_go_into_a_secret(world, openai):
    """The same keys as in a ConfigMap, in a Secret."""
    world.job(output={"secret": {"name": "answers"}})

    job = world.finished()

    data = world.get("Secret", "answers")["data"]
    assert custom_ids(base64.b64decode(data["output.jsonl"])) == THREE
    assert job["status"]["output"]["location"] == "secret/answers"


def test_results_go_below_a_prefix_in_a_bucket(world, openai, bucket):
    """s3:// gets an object for each file, with the credentials of a Secret in the job's namespace."""
    s3_secret(world, "s3", bucket.credentials)
    world.job(output={"url": f"{bucket.url}results/run", "credentialsSecretRef": {"name": "s3"}})

    job = world.finished()

    assert bucket.keys() == ["results/run/output.jsonl", "results/run/summary.json"]
    assert custom_ids(bucket.get("results/run/output.jsonl")) == THREE
    assert job["status"]["output"]["location"] == f"{bucket.url}results/run"
    assert results_gone(openai)


def test_results_without_an_output_stay_at_the_provider(world, openai):
    """No output: nothing is deleted, the file's id is in status, and usage and cost are counted all the same."""
    world.job()

    job = world.finished()

    (results,) = openai.files(purpose="batch_output")
    assert job["status"]["outputFileID"] == results["id"]
    assert "output" not in job["status"]
    assert job["status"]["usage"]["totalTokens"] > 0
    assert float(job["status"]["cost"]["amount"]) > 0


def test_the_providers_result_files_go_once_they_were_collected(world, openai):
    """After a verified collection the result files are deleted; the input stays for other jobs."""
    world.job(output={"configMap": {"name": "answers"}})

    world.finished()

    world.until("BatchJob", "run", lambda job: results_gone(openai), timeout=60)
    assert len(openai.files(purpose="batch")) == 1


def test_the_providers_result_files_stay_where_the_job_retains_them(world, openai):
    """deletionPolicy Retain leaves them there, after the collection and after the deletion."""
    world.job(output={"configMap": {"name": "answers"}}, deletionPolicy="Retain")

    world.finished()
    world.delete("BatchJob", "run")
    world.gone("BatchJob", "run", timeout=60)

    assert len(openai.files(purpose="batch_output")) == 1
    assert openai.calls().count("files.delete") == 0


def test_an_output_of_somebody_else_is_found_before_anything_is_spent(world, openai):
    """An existing ConfigMap without the job's UID is OutputConflict: no batch is made, and nothing overwritten."""
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "answers"}, "data": {"mine": "yes"}}
    world.cluster.create(other, world.namespace)
    world.job(output={"configMap": {"name": "answers"}})

    job = world.finished()

    assert conditions(job)["Failed"] == conditions(job)["Stalled"] == "OutputConflict"
    assert world.output("answers") == {"mine": "yes"}
    assert openai.batches() == []


def test_an_output_that_was_taken_meanwhile_leaves_the_results_at_the_provider(world, openai):
    """A conflict at the end is Failed, with usage, cost and the results where they were."""
    openai.hold()
    world.job(output={"configMap": {"name": "answers"}})
    world.running(timeout=60)
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "answers"}, "data": {"mine": "yes"}}
    world.cluster.create(other, world.namespace)
    openai.release()

    job = world.finished()

    assert conditions(job)["Failed"] == "OutputConflict"
    assert "results stay at the provider" in message(job, "Failed")
    assert world.output("answers") == {"mine": "yes"}
    assert job["status"]["usage"]["totalTokens"] > 0
    assert float(job["status"]["cost"]["amount"]) > 0
    assert [file["id"] for file in openai.files(purpose="batch_output")] == [job["status"]["outputFileID"]]


def test_results_too_large_for_a_config_map_stay_at_the_provider(world, account):
    """Over 1 MiB: OutputTooLarge names output.url; counted and priced, nothing written, nothing deleted."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    lines = chat_lines(2500, model=MODEL)
    source = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "input"}, "data": {"in": lines.decode()}}
    world.cluster.create(source, world.namespace)
    world.file(source={"configMapKeyRef": {"name": "input", "key": "in"}})
    world.job(output={"configMap": {"name": "answers"}})

    job = world.finished()

    assert conditions(job)["Failed"] == "OutputTooLarge"
    assert "url" in message(job, "Failed")
    assert world.cluster.find("ConfigMap", "answers", world.namespace) is None
    assert job["status"]["requestCounts"] == {"total": 2500, "completed": 2500, "failed": 0}
    assert float(job["status"]["cost"]["amount"]) > 0
    assert len(openai.files(purpose="batch_output")) == 1


def test_a_download_that_was_cut_is_never_taken_for_the_whole(world, openai):
    """Bodies that end in the middle of a line or between lines are read again until all of it is there."""
    openai.hold()
    world.job(output={"configMap": {"name": "answers"}})
    world.running(timeout=60)
    for body_bytes in (0, 100, 900):
        openai.fault("cut_body", "files.content", body_bytes=body_bytes)
    openai.release()

    job = world.finished()

    assert custom_ids(world.output("answers")["output.jsonl"]) == THREE
    assert conditions(job)["Complete"] == "Completed"
    assert openai.faults() == []
    assert job["status"]["requestCounts"] == {"total": 3, "completed": 3, "failed": 0}


def test_a_sink_that_is_away_for_a_while_is_tried_again(world, openai, bucket):
    """A store that does not answer: the job says Collecting and why, and ends well when it does."""
    away = {**bucket.credentials, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    s3_secret(world, "s3", away)
    world.job(output={"url": f"{bucket.url}results", "credentialsSecretRef": {"name": "s3"}})

    waiting = world.until("BatchJob", "run", lambda job: "not collected yet" in message(job, "Reconciling"), timeout=60)
    assert waiting["status"]["phase"] == "Collecting"
    s3_secret(world, "s3", bucket.credentials)

    job = world.finished(timeout=90)
    assert conditions(job)["Complete"] == "Completed"
    assert custom_ids(bucket.get("results/output.jsonl")) == THREE


def test_a_sink_without_its_secret_is_waited_for_before_anything_is_spent(world, openai, bucket):
    """A job whose output has no credentials yet is not run: it waits, saying for what, and goes on by itself."""
    world.job(output={"url": f"{bucket.url}results", "credentialsSecretRef": {"name": "s3"}})

    waiting = world.until("BatchJob", "run", waits_for("SecretNotFound"), timeout=60)
    assert "s3" in message(waiting, "Reconciling")
    assert openai.batches() == []
    s3_secret(world, "s3", bucket.credentials)

    assert conditions(world.finished(timeout=90))["Complete"] == "Completed"


def test_the_price_of_an_unknown_model_is_unknown_and_not_nothing(world, account):
    """No price: source unknown with a reason and no amount, while the tokens are counted."""
    openai = account("openai", provider="openai", models=["house-model"])
    world.openai("openai", openai, model="house-model")
    world.file()
    world.job(output={"configMap": {"name": "answers"}})

    job = world.finished()

    assert job["status"]["cost"]["source"] == "unknown"
    assert job["status"]["cost"]["reason"]
    assert "amount" not in job["status"]["cost"]
    assert job["status"]["usage"]["totalTokens"] > 0


def test_prices_in_the_spec_come_first(world, account):
    """spec.pricing is what was agreed: source spec, and the amount follows from it."""
    openai = account("openai", provider="openai")
    pricing = {"inputPerMillionTokens": "1000", "outputPerMillionTokens": "2000"}
    world.openai("openai", openai, pricing=pricing)
    world.file()
    world.job()

    job = world.finished()

    usage, cost = job["status"]["usage"], job["status"]["cost"]
    assert cost["source"] == "spec"
    assert float(cost["amount"]) == pytest.approx(usage["inputTokens"] / 1000 + usage["outputTokens"] / 500)
