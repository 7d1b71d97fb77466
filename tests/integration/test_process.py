"""The operator as a process: how it stops, what it says of itself, and what it never says."""

from __future__ import annotations

import base64
import json

import pytest

from support.cluster import poll
from support.emulator import chat_lines
from support.jobs import json_lines, status

MODEL = "gpt-4o-mini-batch"
OUTPUT = {"configMap": {"name": "answers"}}
QUICK = ("--poll-interval", "0.5", "--probe-interval", "1")
PROMPT, KEY = "PROMPT-MARKER-4711", "KEY-MARKER-0815"


def events(world, job: str = "run") -> list[dict]:
    """The Events about a job, oldest first."""
    found = world.cluster.request("GET", f"/apis/events.k8s.io/v1/namespaces/{world.namespace}/events")["items"]
    about = [event for event in found if event["regarding"].get("name") == job]
    return sorted(about, key=lambda event: event["eventTime"])


def test_a_process_that_is_stopped_in_the_middle_of_work_ends_cleanly(world, account, operator):
    """SIGTERM while a create and a download are under way: exit 0 within 10 s, and the next process ends the work."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    world.file()
    first = operator(world.namespace, flags=QUICK)
    world.ready("BatchFile", "questions", timeout=60)
    openai.fault("latency", "batches.create", seconds=3)
    openai.fault("latency", "files.content", seconds=30)
    world.job("one", output={"configMap": {"name": "one"}})
    world.until("BatchJob", "one", lambda job: "annotations" in job["metadata"], timeout=60)

    exit_status = first.terminate()
    operator(world.namespace, flags=(*QUICK, "--create-grace", "0", "--create-timeout", "1"))

    assert exit_status == 0
    assert "Traceback" not in first.log.read_text()
    assert first.logs()[-1]["message"] == "stopped"
    openai.clear_faults()
    assert world.finished("one", timeout=90)["status"]["phase"] == "Succeeded"
    assert len(openai.batches()) == 1


def test_a_process_that_collects_ends_cleanly_too(world, account, operator):
    """SIGTERM in the middle of a download: exit 0 within 10 s; the results are whole in the end."""
    openai = account("openai", provider="openai")
    openai.hold()
    world.openai("openai", openai)
    world.file()
    first = operator(world.namespace, flags=QUICK)
    world.job(output=OUTPUT)
    world.running(timeout=60)
    openai.fault("latency", "files.content", seconds=30)
    openai.release()
    assert poll(lambda: openai.faults() == [], 30)

    exit_status = first.terminate()
    operator(world.namespace, flags=QUICK)

    assert exit_status == 0
    assert world.finished()["status"]["phase"] == "Succeeded"
    assert len(world.output("answers")["output.jsonl"].splitlines()) == 3


def test_a_process_that_cannot_list_is_live_but_not_ready(world, operator, cluster, tmp_path):
    """Before the first list is done /readyz says 503, while /healthz says 200: a restart would not help."""
    nobody = cluster.service_account("nobody", world.namespace, tmp_path)
    process = operator(world.namespace, flags=("--cluster-id", "c"), kubeconfig=nobody.kubeconfig, ready=False)

    assert poll(lambda: process.health("/healthz") == 200, 30)
    assert process.health("/readyz") == 503
    assert process.terminate() == 0


def test_a_job_is_told_of_once_when_it_is_submitted_and_once_when_it_ends(world, account, operator):
    """One log record and one Event each, with namespace, name, deployment, batch, usage and cost."""
    world.openai("openai", account("openai", provider="openai"))
    world.file()
    process = operator(world.namespace, flags=QUICK)
    world.job(output=OUTPUT)
    job = world.finished()
    assert poll(lambda: len(events(world)) >= 2, 30)

    records = process.logs()
    assert not [record for record in records if record.get("unparsed")]
    (created,) = [record for record in records if record["message"] == "batch created"]
    (ended,) = [record for record in records if record["message"] == "batch finished"]
    for record in (created, ended):
        assert record["namespace"] == world.namespace
        assert record["name"] == "run"
        assert record["deployment"] == f"{world.namespace}/openai"
        assert record["batch_id"] == job["status"]["batchID"]
    assert ended["totalTokens"] == job["status"]["usage"]["totalTokens"]
    assert ended["cost_usd"] == job["status"]["cost"]["amount"]
    told = events(world)
    assert [event["reason"] for event in told] == ["BatchCreated", "BatchFinished"]
    assert job["status"]["cost"]["amount"] in told[1]["note"]
    assert str(job["status"]["usage"]["totalTokens"]) in told[1]["note"]


def test_no_prompt_no_completion_and_no_key_is_ever_told(world, account, operator):
    """Markers in prompts, keys and refusals are in no log record, Event, status or metric."""
    openai = account("openai", provider="openai", keys=[KEY], fail_lines=["request-1"])
    world.openai("openai", openai)
    world.openai("wrong", openai, with_secret=False)
    world.secret("key-wrong", api_key=f"wrong-{KEY}")
    world.file(lines=chat_lines(3, model=MODEL, text=PROMPT))
    bad = (
        f'{{"custom_id": "{PROMPT}", "method": "POST", "url": "/v1/chat/completions", "body": "{PROMPT}"}}\n{PROMPT}\n'
    )
    world.file("bad", lines=bad)
    process = operator(world.namespace, flags=(*QUICK, "--log-level", "debug"))
    world.job(output={"secret": {"name": "answers"}})
    world.job("failed", file="bad")
    world.finished()
    world.finished("failed")
    world.until("ModelDeployment", "wrong", lambda item: status(item).get("conditions"), timeout=60)

    told = [process.log.read_text(), json.dumps(events(world)), json.dumps(events(world, "failed"))]
    told += [json.dumps(sorted(map(str, process.metrics())))]
    for kind in ("ModelDeployment", "BatchFile", "BatchJob"):
        path = f"/apis/llmbatch.dev/v1alpha1/namespaces/{world.namespace}/{kind.lower()}s"
        told += [json.dumps([status(item) for item in world.cluster.request("GET", path)["items"]])]
    answers = json_lines(base64.b64decode(world.get("Secret", "answers")["data"]["output.jsonl"]))
    completions = [answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers]

    assert len(completions) == 2
    for text in told:
        assert PROMPT not in text
        assert KEY not in text
        assert not [completion for completion in completions if completion in text]


def test_the_metrics_say_what_happened(world, account, operator):
    """Jobs by phase and result, provider calls, uploads, tokens, cost, queue and leader; no label grows with jobs."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    world.file()
    process = operator(world.namespace, flags=QUICK)
    world.job("one")
    world.job("two", output=OUTPUT)
    one, two = world.finished("one"), world.finished("two")
    world.job("held", suspend=True)
    world.until("BatchJob", "held", lambda job: status(job).get("phase") == "Suspended", timeout=60)
    route = f"{world.namespace}/openai"

    assert poll(lambda: process.metric("llmbatch_jobs", phase="Suspended") == 1, 30)
    assert process.metric("llmbatch_jobs", phase="Succeeded") == 2
    assert process.metric("llmbatch_jobs_finished_total", model=MODEL, result="Completed") == 2
    assert process.metric("llmbatch_provider_requests_total", operation="batches.create", code="200") == 2
    assert process.metric("llmbatch_provider_request_seconds_count", operation="batches.create") == 2
    uploaded = openai.files(purpose="batch")[0]["bytes"]
    assert process.metric("llmbatch_uploaded_bytes_total") >= uploaded
    tokens = sum(job["status"]["usage"]["outputTokens"] for job in (one, two))
    assert process.metric("llmbatch_tokens_total", model=MODEL, deployment=route, type="output") == tokens
    cost = sum(float(job["status"]["cost"]["amount"]) for job in (one, two))
    assert process.metric("llmbatch_cost_usd_total", model=MODEL, deployment=route) == pytest.approx(cost)
    assert process.metric("llmbatch_queue_wait_seconds_count") > 0
    assert process.metric("llmbatch_reconcile_seconds_count", kind="BatchJob") > 0
    assert process.metric("llmbatch_leader") == 1
    assert ("llmbatch_queue_depth", frozenset()) in process.metrics()
    values = {value for _, labels in process.metrics() for _, value in labels}
    assert not values & {"one", "two", one["metadata"]["uid"], one["status"]["batchID"]}


def test_a_restart_writes_nothing_to_what_is_finished(world, account, operator):
    """Everything that matters is in the resources: the next process leaves finished jobs and files as they are."""
    world.openai("openai", account("openai", provider="openai"))
    world.file()
    first = operator(world.namespace, flags=QUICK)
    jobs = [world.job(f"run-{number}") for number in range(4)]
    before = {name: world.finished(name)["metadata"]["resourceVersion"] for name in jobs}
    first.terminate()
    written = len(world.cluster.writes(world.namespace, "batchjobs", "batchfiles"))

    operator(world.namespace, flags=QUICK)
    world.job("last")
    world.finished("last")

    after = {name: world.get("BatchJob", name)["metadata"]["resourceVersion"] for name in jobs}
    new = world.cluster.writes(world.namespace, "batchjobs", "batchfiles")[written:]
    assert after == before
    assert {write.name for write in new} == {"last"}


def test_a_job_takes_at_most_five_writes(world, account, operator):
    """Batches of 5 s, polled every 2 s: recording, submission, progress and end; Events and output not counted."""
    openai = account("openai", provider="openai", pace={"in_progress_seconds": 5.0})
    operator(world.namespace, flags=("--poll-interval", "2"))
    world.openai("openai", openai)
    world.ready("ModelDeployment", "openai", timeout=60)
    jobs = [f"run-{number}" for number in range(5)]
    for name in jobs:
        world.file(name, lines=chat_lines(20, model=MODEL))
        world.job(name, file=name, output={"configMap": {"name": name}})
    for name in jobs:
        assert world.finished(name)["status"]["phase"] == "Succeeded"

    written = world.cluster.writes(world.namespace, "batchjobs")
    of_files = world.cluster.writes(world.namespace, "batchfiles")
    counts = {name: len([write for write in written if write.name == name]) for name in jobs}

    assert max(counts.values()) <= 5, counts
    assert len(of_files) <= 3 * len(jobs), of_files
