"""What a job waits for, what holds it, and what ends it before its batch does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.cluster import Cluster, condition
from support.diagnostics import Diagnostics
from support.emulator import chat_lines
from support.jobs import conditions, json_lines, message, status, waits_for
from support.shared_operator import SharedOperator, shared_operator
from support.world import World

MODEL = "gpt-4o-mini-batch"
OUTPUT = {"configMap": {"name": "answers"}}


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1")
    with shared_operator(cluster, tmp_path_factory.mktemp("lifecycle"), namespaces=20, flags=flags) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


def change(world: World, **spec: object) -> None:
    """Change the job's spec."""
    world.cluster.patch("BatchJob", "run", world.namespace, {"spec": spec})


def test_what_is_made_in_the_wrong_order_waits_for_what_is_missing(world, account):
    """Job first, file next, deployment last, its Secret at the end: each wait says for what."""
    openai = account("openai", provider="openai")
    world.job(output=OUTPUT)
    waiting = world.until("BatchJob", "run", waits_for("InputFileNotFound"), timeout=60)
    assert "BatchFile questions" in message(waiting, "Reconciling")
    assert "Stalled" not in conditions(waiting)
    assert waiting["status"]["phase"] == "Pending"

    world.file()
    waiting = world.until("BatchJob", "run", waits_for("DeploymentNotFound"), timeout=60)
    assert MODEL in message(waiting, "Reconciling")

    world.openai("openai", openai, with_secret=False)
    waiting = world.until("BatchJob", "run", waits_for("NoReadyDeployment"), timeout=60)
    assert "openai" in message(waiting, "Reconciling")
    world.until("ModelDeployment", "openai", waits_for("SecretNotFound"), timeout=60)

    world.secret("key-openai", api_key=openai.key)
    assert conditions(world.finished())["Complete"] == "Completed"


@pytest.mark.parametrize(
    ("job", "reason", "advice"),
    [
        ({}, "TargetModelAmbiguous", "targetModelName"),
        ({"targetModelName": "other"}, "TargetModelUnknown", "targetModelNames"),
        ({"targetModelName": MODEL, "endpoint": "/v1/embeddings"}, "EndpointMismatch", "/v1/chat/completions"),
    ],
)
def test_a_job_that_does_not_fit_its_file_fails_and_says_what_to_do(world, account, job, reason, advice):
    """What can never fit is terminal at once: Failed and Stalled, with advice, and no batch."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    world.file(models=[MODEL, "second"])
    world.job(**job)

    ended = world.finished()

    assert conditions(ended)["Failed"] == conditions(ended)["Stalled"] == reason
    assert advice in message(ended, "Failed")
    assert openai.batches() == []


def test_a_job_of_an_invalid_file_fails(world):
    """A file that was refused takes its jobs with it: InputFileInvalid, naming the file."""
    world.file(lines='{"custom_id": "a"}\n')
    world.job()

    ended = world.finished()

    assert conditions(ended)["Failed"] == conditions(ended)["Stalled"] == "InputFileInvalid"
    assert "questions" in message(ended, "Failed")


def test_a_suspended_job_is_held_until_it_is_resumed(world, account):
    """suspend before submission: Suspended, no batch; resumed it runs, and the condition says so."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    world.file()
    world.job(suspend=True)
    world.ready("BatchFile", "questions", timeout=60)
    held = world.until("BatchJob", "run", lambda job: status(job).get("phase") == "Suspended", timeout=60)
    assert conditions(held)["Suspended"] == "Suspended"
    assert openai.batches() == []

    change(world, suspend=False)
    job = world.finished()

    assert conditions(job)["Complete"] == "Completed"
    assert "Suspended" not in conditions(job)
    assert len(openai.batches()) == 1


def test_a_batch_that_runs_goes_on_when_its_job_is_suspended(world, account):
    """suspend after submission: nothing is cancelled, the condition says that it runs on, and the job ends well."""
    openai = account("openai", provider="openai")
    openai.hold()
    world.openai("openai", openai)
    world.file()
    world.job()
    world.running(timeout=60)

    change(world, suspend=True)
    told = world.until("BatchJob", "run", lambda job: condition(job, "Suspended"), timeout=60)
    openai.release()

    found = condition(told, "Suspended")
    assert found is not None
    assert (found["status"], found["reason"]) == ("False", "RunsOn")
    assert conditions(world.finished())["Complete"] == "Completed"
    assert openai.calls().count("batches.cancel") == 0


def test_a_deadline_ends_a_job_that_never_ran(world):
    """activeDeadlineSeconds before submission: DeadlineExceeded, though nothing wakes the job."""
    world.job(activeDeadlineSeconds=2)

    job = world.finished()

    assert conditions(job)["Failed"] == conditions(job)["Stalled"] == "DeadlineExceeded"
    assert job["status"]["phase"] == "Failed"


def test_a_deadline_cancels_a_running_batch_and_brings_home_what_was_answered(world, account):
    """activeDeadlineSeconds while it runs: cancelled at the provider, the partial output collected and priced."""
    openai = account("openai", provider="openai", pace={"in_progress_seconds": 20.0})
    world.openai("openai", openai)
    world.file(lines=chat_lines(200, model=MODEL))
    world.job(output=OUTPUT, activeDeadlineSeconds=3)

    job = world.finished()

    assert conditions(job)["Failed"] == "DeadlineExceeded"
    assert job["status"]["phase"] == "Failed"
    counts = job["status"]["requestCounts"]
    assert counts["completed"] + counts["failed"] == 200
    output = world.output("answers")
    assert len(json_lines(output.get("output.jsonl", ""))) == counts["completed"]
    assert len(json_lines(output["errors.jsonl"])) == counts["failed"]
    assert openai.calls().count("batches.cancel") == 1


def test_suspended_time_does_not_count_against_the_deadline(world, account):
    """A job that is held for longer than its deadline still runs when it is resumed."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    world.file()
    world.job(suspend=True, activeDeadlineSeconds=4)
    created = world.until("BatchJob", "run", lambda job: status(job).get("suspendedTime"), timeout=60)
    clock = world.job("clock", activeDeadlineSeconds=6, file="none")
    world.finished(clock)

    change(world, suspend=False)
    job = world.finished()

    assert created["status"]["phase"] == "Suspended"
    assert conditions(job)["Complete"] == "Completed"
    assert job["status"]["suspendedSeconds"] >= 4


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_finished_job_deletes_itself_in_time(world, account, seconds):
    """ttlSecondsAfterFinished: the job goes by itself, at once or later; its output stays."""
    world.openai("openai", account("openai", provider="openai"))
    world.file()
    world.job(output=OUTPUT, ttlSecondsAfterFinished=seconds)

    world.gone("BatchJob", "run", timeout=60)

    assert "output.jsonl" in world.output("answers")


def test_a_change_after_the_end_is_seen(world, account):
    """observedGeneration follows the spec, or kstatus would wait for a finished job for ever; nothing else changes."""
    world.openai("openai", account("openai", provider="openai"))
    world.file()
    world.job()
    before = world.finished()

    change(world, ttlSecondsAfterFinished=3600)
    after = world.until("BatchJob", "run", lambda job: job["status"]["observedGeneration"] == 2, timeout=60)

    assert {**after["status"], "observedGeneration": 1} == before["status"]


def test_a_time_to_live_that_comes_later_counts_too(world, account):
    """ttlSecondsAfterFinished may be set on a job that has ended long ago."""
    world.openai("openai", account("openai", provider="openai"))
    world.file()
    world.job()
    world.finished()

    change(world, ttlSecondsAfterFinished=0)

    world.gone("BatchJob", "run", timeout=60)
