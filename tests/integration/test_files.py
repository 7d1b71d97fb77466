"""Files and their copies: where they go, what becomes of them, and what their conditions say meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import urllib3

from llmbatch.api.names import FINALIZER
from llmbatch.reconcile.files.uploads import provider_name
from support.cluster import Cluster, Object, condition, poll
from support.diagnostics import Diagnostics
from support.emulator import Account, chat_lines
from support.shared_operator import SharedOperator, shared_operator
from support.world import MODEL, World

FLAGS = ("--poll-interval", "0.3", "--probe-interval", "1", "--retry-scale", "0.1")
LONG = 60.0
HOUR = 3600.0
DEPLOYMENTS = {"gpt-4o-mini-general": "gpt-4o-mini"}


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    with shared_operator(cluster, tmp_path_factory.mktemp("files"), namespaces=20, flags=FLAGS) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


@pytest.fixture
def alone(cluster: Cluster, namespace: str) -> World:
    """A namespace for a test that starts and kills operators itself."""
    return World(cluster, namespace)


def entries(file: Object) -> dict[str, Any]:
    """The copies by the name of their deployment."""
    return {entry["name"]: entry for entry in file.get("status", {}).get("deployments", [])}


def states(file: Object) -> dict[str, str]:
    """What became of each copy."""
    return {name: entry["state"] for name, entry in entries(file).items()}


def file_id(file: Object, name: str) -> str:
    """The provider's id of the copy on a deployment."""
    return entries(file)[name]["files"][0]["fileID"]


def has(type_: str, status: str, reason: str | None = None) -> Any:
    """A predicate: the object has this condition."""

    def holds(item: Object) -> bool:
        found = condition(item, type_)
        return found is not None and found["status"] == status and reason in (None, found["reason"])

    return holds


def uploaded(world: World, name: str = "questions") -> Object:
    """The file once it is on every deployment."""
    return world.until("BatchFile", name, has("Uploaded", "True"), timeout=LONG)


def told(item: Object, type_: str) -> dict[str, Any]:
    """A condition that must be there."""
    found = condition(item, type_)
    assert found is not None, f"there is no condition {type_}"
    return found


def inputs(account: Account) -> list[str]:
    """The ids of the input files that the account holds."""
    return [file["id"] for file in account.files(purpose="batch")]


# --- where they go ----------------------------------------------------------------------------------------------------


def test_one_file_goes_to_three_deployments_each_in_its_own_words(world, account):
    """Every copy has the deployment's model name and URL form, and every other byte as the user wrote it."""

    def written(model: str, url: str) -> bytes:
        return (
            f'{{"custom_id":"a", "method" : "POST","url":"{url}","body":{{"model":"{model}","messages":[{{"role":'
            f'"user","content":"Say \\"model\\":\\"{MODEL}\\" \\u00e9 é  🙂"}}],"temperature":0.10,'
            '"extra":{"model":"keep"}}}\r\n'
            f'{{"body":{{"messages":[],"model":"{model}"}},"url":"{url}","unknown":[1,2.50],"method":"POST",'
            '"custom_id":"/v1/chat/completions"}\n'
        ).encode()

    openai = account("openai", provider="openai")
    east, west = account("east", deployments=DEPLOYMENTS), account("west", deployments={"other": "gpt-4o-mini"})
    world.openai("first", openai)
    world.azure("second", east, deployment="gpt-4o-mini-general", api_version="2025-04-01-preview")
    world.azure("third", west, deployment="other")
    content = written(MODEL, "/v1/chat/completions").replace(b"\n", b"\n \t\n", 1).removesuffix(b"\n")
    world.file(lines=content)

    file = uploaded(world)

    status = file["status"]
    assert (status["requests"], status["bytes"], status["endpoint"]) == (2, len(content), "/v1/chat/completions")
    assert states(file) == dict.fromkeys(("first", "second", "third"), "Processed")
    for name, where, model, url in (
        ("first", openai, "gpt-4o-mini", "/v1/chat/completions"),
        ("second", east, "gpt-4o-mini-general", "/chat/completions"),
        ("third", west, "other", "/v1/chat/completions"),
    ):
        assert where.content(file_id(file, name)) == written(model, url)
        entry = entries(file)[name]
        assert (entry["namespace"], entry["modelName"]) == (world.namespace, MODEL)
        (copy,) = entry["files"]
        assert (copy["shard"], copy["requests"], copy["bytes"]) == (0, 2, len(written(model, url)))
        assert copy["uploadTime"] < copy["expiryTime"]
        assert inputs(where) == [copy["fileID"]]
    assert all(condition(file, gone) is None for gone in ("Reconciling", "Stalled"))


def test_a_deployment_that_appears_later_gets_the_file(world, account):
    """A file that waits for its deployments says so, and one that lives serves deployments made later."""
    first, second = account("first", provider="openai"), account("second", provider="openai")
    world.file()
    waiting = world.until("BatchFile", "questions", has("Reconciling", "True", "DeploymentNotFound"), timeout=LONG)
    assert MODEL in told(waiting, "Ready")["message"]

    world.openai("first", first)
    uploaded(world)
    world.openai("second", second)

    file = world.until("BatchFile", "questions", lambda file: len(states(file)) == 2, timeout=LONG)
    assert states(uploaded(world)) == {"first": "Processed", "second": "Processed"}
    assert told(file, "Ready")["status"] == "True"
    assert len(inputs(first)) == len(inputs(second)) == 1


def test_a_deployment_that_vanishes_is_cleaned_up(world, account):
    """A deployment that is deleted takes its copies with it, and the file forgets it."""
    stays, goes = account("stays", provider="openai"), account("goes", provider="openai")
    world.openai("stays", stays)
    world.openai("goes", goes)
    world.file()
    uploaded(world)

    world.delete("ModelDeployment", "goes")

    world.gone("ModelDeployment", "goes", timeout=LONG)
    assert inputs(goes) == []
    assert states(uploaded(world)) == {"stays": "Processed"}
    assert len(inputs(stays)) == 1


def test_a_deployment_goes_once_the_job_on_it_has_ended(world, account):
    """A deletion waits for the batch that runs there and for the file's copy, says so, and then goes by itself."""
    openai = account("openai", provider="openai", hold=True)
    world.openai("openai", openai)
    world.file()
    world.job()
    world.running(timeout=LONG)
    world.delete("ModelDeployment", "openai")
    waits = world.until("ModelDeployment", "openai", has("Ready", "False", "DeletionWaits"), timeout=LONG)
    assert "1 running job" in told(waits, "Ready")["message"]

    openai.release()

    assert world.finished()["status"]["phase"] == "Succeeded"
    world.gone("ModelDeployment", "openai", timeout=LONG)
    assert inputs(openai) == []


# --- deployments that fail --------------------------------------------------------------------------------------------


def test_deployments_that_fail_or_hang_do_not_hold_up_the_file(world, account):
    """With one good copy the file is Ready and jobs run; the others are said in Uploaded and tried again."""
    good, broken, hanging = (account(name, provider="openai") for name in ("good", "broken", "hanging"))
    broken.fault("status", "files.create", status=500, times="always")
    hanging.fault("latency", "files.create", seconds=600, times="always")
    for name, where in (("good", good), ("broken", broken), ("hanging", hanging)):
        world.openai(name, where)
    world.file()

    wanted = {"good": "Processed", "broken": "Failed", "hanging": "Uploading"}
    file = world.until("BatchFile", "questions", lambda file: states(file) == wanted, timeout=LONG)

    assert told(file, "Ready")["status"] == "True"
    assert (told(file, "Uploaded")["status"], told(file, "Uploaded")["reason"]) == ("False", "ProviderError")
    assert "broken" in told(file, "Uploaded")["message"]
    assert condition(file, "Reconciling") is None
    for number in range(3):
        world.job(f"run-{number}")
    for number in range(3):
        assert world.finished(f"run-{number}")["status"]["deployment"]["name"] == "good"

    broken.clear_faults()

    world.until("BatchFile", "questions", lambda file: states(file)["broken"] == "Processed", timeout=LONG)
    assert len(inputs(broken)) == 1


def test_a_copy_that_the_provider_cannot_process_is_replaced(world, account):
    """A copy in error is told of, uploaded again, and not left behind."""
    azure = account("azure", deployments=DEPLOYMENTS, file_processing_seconds=0.5)
    azure.fault("file_error", "files.create", times=1)
    world.azure("azure", azure, deployment="gpt-4o-mini-general")
    world.file()
    failed = world.until("BatchFile", "questions", lambda file: states(file) == {"azure": "Failed"}, timeout=LONG)
    assert told(failed, "Ready")["reason"] == "UploadFailed"
    assert told(failed, "Reconciling")["status"] == "True"

    file = uploaded(world)

    assert inputs(azure) == [file_id(file, "azure")]


def test_a_job_starts_only_when_azure_has_processed_the_file(world, account):
    """Azure takes a while with each file; until then the copy is Processing and no batch is asked for."""
    azure = account("azure", deployments=DEPLOYMENTS, file_processing_seconds=1.5)
    world.azure("azure", azure, deployment="gpt-4o-mini-general")
    world.job()
    world.file()
    seen = world.until("BatchFile", "questions", lambda file: states(file) == {"azure": "Processing"}, timeout=LONG)
    assert told(seen, "Ready")["status"] == "False"

    assert world.finished()["status"]["phase"] == "Succeeded"

    calls = azure.calls()
    assert (calls.count("batches.create"), calls.count("files.create")) == (1, 1)
    (upload,) = [call for call in calls.log if call.operation == "files.create"]
    (create,) = [call for call in calls.log if call.operation == "batches.create"]
    assert create.time - upload.time >= 1.5


# --- crashes ----------------------------------------------------------------------------------------------------------


def test_a_copy_whose_id_was_lost_in_a_crash_is_adopted(alone, account, operator):
    """Killed after the provider took the file and before its id was written, the operator finds that very copy."""
    openai = account("openai", provider="openai")
    openai.fault("hang_after_success", "files.create")
    alone.openai("openai", openai)
    first = operator(alone.namespace, flags=FLAGS)
    alone.file()
    assert poll(lambda: len(inputs(openai)) == 1, LONG)
    first.kill()

    operator(alone.namespace, flags=FLAGS)

    file = uploaded(alone)
    assert [file_id(file, "openai")] == inputs(openai)
    assert openai.calls().count("files.create") == 1


def test_a_copy_that_came_after_a_crash_is_not_left_behind(alone, account, operator):
    """What a provider stored of an upload that nobody waited for any more goes with the file."""
    openai = account("openai", provider="openai")
    openai.fault("latency", "files.create", seconds=4)
    alone.openai("openai", openai)
    first = operator(alone.namespace, flags=FLAGS)
    alone.file()
    assert poll(lambda: bool(alone.get("BatchFile", "questions").get("status", {}).get("deployments")), LONG)
    first.kill()
    operator(alone.namespace, flags=FLAGS)
    uploaded(alone)
    assert poll(lambda: any(call.fault == "latency" for call in openai.calls().log), LONG)

    alone.delete("BatchFile", "questions")

    alone.gone("BatchFile", "questions", timeout=LONG)
    assert inputs(openai) == []


def test_of_several_copies_the_processed_one_is_kept(alone, account, operator):
    """Copies of one file under the same name: the processed one is used, the others are deleted, none is added."""
    azure = account("azure", deployments=DEPLOYMENTS, file_processing_seconds=3600)
    alone.azure("azure", azure, deployment="gpt-4o-mini-general")
    spec = {"targetModelNames": [MODEL], "source": {"inline": chat_lines(2, model=MODEL).decode()}}
    made = alone.make("BatchFile", "questions", spec, metadata={"finalizers": [FINALIZER]})
    name = provider_name(made["metadata"]["uid"], f"{alone.namespace}/azure", 0)
    content = chat_lines(2, model="gpt-4o-mini-general")
    slow = upload_by_hand(azure, name, content)
    azure.behaviour(file_processing_seconds=0)
    good = upload_by_hand(azure, name, content)
    short = upload_by_hand(azure, name, content[: len(content) // 2])
    foreign = upload_by_hand(azure, "somebody-elses.jsonl", content)
    assert inputs(azure) == [slow, good, short, foreign]

    operator(alone.namespace, flags=FLAGS)

    file = uploaded(alone)
    assert file_id(file, "azure") == good
    assert inputs(azure) == [good, foreign]


def upload_by_hand(azure: Account, name: str, content: bytes) -> str:
    """Upload a file past the operator; answers its id."""
    answer = urllib3.request(
        "POST",
        f"{azure.url}/openai/v1/files",
        fields={"purpose": "batch", "file": (name, content, "application/jsonl")},
        headers={"api-key": azure.key},
        timeout=30,
    )
    return answer.json()["id"]


# --- copies that do not last ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["deleted", "expired", "nearly expired"])
def test_a_copy_that_does_not_last_is_uploaded_again_before_the_batch(world, account, loss):
    """A copy that is gone at the provider, or soon will be, is replaced when a job needs it, before the create."""
    # By its clock all copies are 600 of their 720 hours old.
    openai = account("openai", provider="openai", clock_skew_seconds=-600 * HOUR)
    world.openai("openai", openai)
    world.file()
    lost = file_id(uploaded(world), "openai")
    if loss == "deleted":
        openai.delete_file(lost)
    else:
        openai.expire_file(lost, left=640 * HOUR if loss == "nearly expired" else 0)

    world.job()

    assert world.finished()["status"]["phase"] == "Succeeded"
    (batch,) = openai.batches()
    assert batch["input_file_id"] != lost
    assert openai.calls().count("files.create") == 2
    assert inputs(openai) == [batch["input_file_id"]]


def test_a_copy_is_made_again_when_its_deployment_takes_another_model(world, account):
    """A copy that names a model which the deployment no longer stands for is never run."""
    azure = account("azure", deployments={"old": "gpt-4o-mini", "new": "gpt-4o-mini"})
    world.azure("azure", azure, deployment="old")
    world.file(lines=chat_lines(1, model=MODEL))
    before = file_id(uploaded(world), "azure")

    world.cluster.patch("ModelDeployment", "azure", world.namespace, {"spec": {"azureOpenAI": {"deployment": "new"}}})
    world.job()

    world.finished()
    (batch,) = azure.batches()
    assert batch["input_file_id"] != before
    assert azure.content(batch["input_file_id"]) == chat_lines(1, model="new")
    assert inputs(azure) == [batch["input_file_id"]]


# --- sources that change ----------------------------------------------------------------------------------------------


def test_content_that_changed_is_not_uploaded_and_copies_that_exist_stay_good(world, account):
    """Other content under the same name is SourceChanged and Stalled; jobs run on the copies of what was validated."""
    early, late = account("early", provider="openai"), account("late", provider="openai")
    world.openai("early", early)
    config_map(world, "requests", chat_lines(2, model=MODEL))
    world.file(source={"configMapKeyRef": {"name": "requests", "key": "requests.jsonl"}})
    uploaded(world)

    config_map(world, "requests", chat_lines(2, model=MODEL, text="What is 6 times 8?"))
    world.openai("late", late)

    file = world.until("BatchFile", "questions", has("Stalled", "True", "SourceChanged"), timeout=LONG)
    assert states(file) == {"early": "Processed", "late": "Failed"}
    assert has("Ready", "True")(file)
    assert has("Uploaded", "False", "SourceChanged")(file)
    assert inputs(late) == []
    world.job()
    assert world.finished()["status"]["deployment"]["name"] == "early"

    config_map(world, "requests", chat_lines(2, model=MODEL))

    assert states(uploaded(world)) == {"early": "Processed", "late": "Processed"}


def config_map(world: World, name: str, content: bytes) -> None:
    """Make a ConfigMap with requests, or put others into it."""
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    world.cluster.apply({**manifest, "data": {"requests.jsonl": content.decode()}}, world.namespace)


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_deletion_waits_for_the_jobs_that_need_the_file(world, account):
    """A file that is deleted under its jobs says which it waits for, serves them to their end, and leaves nothing."""
    openai = account("openai", provider="openai", hold=True)
    world.openai("openai", openai)
    world.file()
    world.job("running")
    world.running("running", timeout=LONG)

    world.delete("BatchFile", "questions")

    file = world.until("BatchFile", "questions", has("Reconciling", "True", "DeletionWaits"), timeout=LONG)
    assert "running" in told(file, "Reconciling")["message"]
    assert len(inputs(openai)) == 1
    openai.release()
    assert world.finished("running")["status"]["phase"] == "Succeeded"
    world.gone("BatchFile", "questions", timeout=LONG)
    assert inputs(openai) == []


def test_a_job_that_comes_after_the_deletion_waits_for_a_new_file(world, account):
    """It means another file of that name: it neither runs on the old one nor holds it."""
    openai = account("openai", provider="openai", hold=True)
    world.openai("openai", openai)
    world.file(lines=chat_lines(1, model=MODEL))
    world.job("before")
    world.running("before", timeout=LONG)
    world.delete("BatchFile", "questions")
    deleted = datetime.fromisoformat(world.get("BatchFile", "questions")["metadata"]["deletionTimestamp"])
    assert poll(lambda: datetime.now(UTC) >= deleted + timedelta(seconds=1), LONG)

    world.job("after")

    world.until("BatchJob", "after", has("Reconciling", "True", "InputFileNotFound"), timeout=LONG)
    openai.release()
    world.finished("before")
    world.gone("BatchFile", "questions", timeout=LONG)
    world.file(lines=chat_lines(2, model=MODEL))
    assert world.finished("after")["status"]["requestCounts"]["total"] == 2


def test_deletion_waits_for_a_provider_that_fails(world, account):
    """While the provider does not delete its copies, the file stays and says where they are."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    world.file()
    uploaded(world)
    openai.fault("status", "files.delete", status=500, times="always")

    world.delete("BatchFile", "questions")

    file = world.until("BatchFile", "questions", has("Reconciling", "True", "DeletionWaits"), timeout=LONG)
    assert f"{world.namespace}/openai" in told(file, "Reconciling")["message"]
    openai.clear_faults()
    world.gone("BatchFile", "questions", timeout=LONG)
    assert inputs(openai) == []


def test_retained_copies_stay_at_the_provider(world, account):
    """With deletionPolicy Retain a file goes and its copies stay."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    world.file(deletionPolicy="Retain")
    kept = file_id(uploaded(world), "openai")

    world.delete("BatchFile", "questions")

    world.gone("BatchFile", "questions", timeout=LONG)
    assert inputs(openai) == [kept]
