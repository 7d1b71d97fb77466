"""ModelDeployments: what Ready says, keys that change, who may use which, and how little is asked and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from controlplane.ports import free_port
from support.cluster import Cluster, Object, condition, poll
from support.diagnostics import Diagnostics
from support.emulator import Account, chat_lines
from support.shared_operator import SharedOperator, shared_operator
from support.world import MODEL, World

FLAGS = ("--poll-interval", "0.3", "--probe-interval", "1", "--retry-scale", "0.1")
LONG = 60.0


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    with shared_operator(cluster, tmp_path_factory.mktemp("deployments"), namespaces=14, flags=FLAGS) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


def said(item: Object, type_: str) -> tuple[str, str]:
    """Status and reason of a condition; of one that is not there, nothing."""
    found = condition(item, type_)
    return (found["status"], found["reason"]) if found else ("", "")


def ready_is(world: World, status: str, reason: str, name: str = "openai") -> Object:
    """The deployment once Ready says so."""
    return world.until(
        "ModelDeployment", name, lambda item: said(item, "Ready") == (status, reason), timeout=LONG
    )  # fmt: skip


# --- Ready ------------------------------------------------------------------------------------------------------------


def test_a_deployment_that_answers_is_ready(world, account):
    """It is Ready once the provider has answered a free call, and says when that was."""
    azure = account("azure", deployments={"general": "gpt-4o-mini"})
    world.azure("azure", azure, deployment="general", api_version="2025-04-01-preview")

    found = ready_is(world, "True", "Ready", "azure")

    status = found["status"]
    assert (status["provider"], status["activeBatches"], status["enqueuedTokens"]) == ("AzureOpenAI", 0, 0)
    assert status["lastProbeTime"]
    assert status["observedGeneration"] == found["metadata"]["generation"]
    assert {call.operation for call in azure.calls().log} == {"batches.list"}


def test_a_key_that_is_refused_is_unauthorized_until_it_is_mended(world, account):
    """A wrong key makes the deployment Unauthorized, a good one in the same Secret makes it Ready by itself."""
    openai = account("openai", provider="openai")
    world.secret("key-openai", api_key="not-the-key")
    world.openai("openai", openai, with_secret=False)
    found = ready_is(world, "False", "Unauthorized")
    assert said(found, "Reconciling") == ("True", "Unauthorized")
    assert "not-the-key" not in str(found)

    world.secret("key-openai", api_key=openai.key)

    assert said(ready_is(world, "True", "Ready"), "Reconciling") == ("", "")


def test_a_secret_that_is_missing_and_then_made_is_found(world, account):
    """Without the Secret, and without the key in it, Ready says which is missing; jobs wait and then run."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai, with_secret=False)
    world.file()
    world.job()
    missing = ready_is(world, "False", "SecretNotFound")
    assert said(missing, "Stalled") == ("", "")
    assert "key-openai" in str(condition(missing, "Ready"))

    world.secret("key-openai", other="nothing")
    assert "api-key" in str(condition(ready_is(world, "False", "SecretKeyNotFound"), "Ready"))
    world.secret("key-openai", api_key=openai.key)

    ready_is(world, "True", "Ready")
    assert world.finished()["status"]["phase"] == "Succeeded"


def test_a_provider_that_cannot_be_reached_is_unreachable(world, account):
    """Where nobody listens the deployment is Unreachable, and its jobs wait, saying for what."""
    openai = account("openai", provider="openai")
    world.secret("key-openai", api_key=openai.key)
    block = {
        "baseURL": f"http://127.0.0.1:{free_port()}/v1",
        "model": "gpt-4o-mini",
        "auth": {"secretKeyRef": {"name": "key-openai", "key": "api-key"}},
    }
    world.make("ModelDeployment", "openai", {"modelName": MODEL, "openAI": block})
    world.file()
    world.job()

    ready_is(world, "False", "Unreachable")

    world.until("BatchFile", "questions", lambda file: said(file, "Ready") == ("False", "Unreachable"), timeout=LONG)
    job = world.until("BatchJob", "run", lambda job: said(job, "Reconciling")[0] == "True", timeout=LONG)
    assert job["status"]["phase"] == "Pending"


def test_loopback_is_not_allowed_unless_the_administrator_says_so(cluster, namespace, account, operator):
    """An endpoint in a private network gets no connection, and Ready says that it is not allowed."""
    world, openai = World(cluster, namespace), account("openai", provider="openai")
    operator(namespace, flags=FLAGS, networks=())

    world.openai("openai", openai)

    ready_is(world, "False", "EndpointNotAllowed")
    assert openai.calls().total == 0


def test_a_suspended_deployment_is_drained(world, account):
    """It gets no new work; what runs there is followed to its end; afterwards it takes work again."""
    openai = account("openai", provider="openai", hold=True)
    world.openai("openai", openai)
    world.file()
    world.job("before")
    world.running("before", timeout=LONG)

    suspend(world, "openai", value=True)
    ready_is(world, "False", "Suspended")
    world.job("after")
    openai.release()

    assert world.finished("before")["status"]["phase"] == "Succeeded"
    waiting = world.until("BatchJob", "after", lambda job: said(job, "Reconciling")[0] == "True", timeout=LONG)
    assert said(waiting, "Reconciling") == ("True", "NoReadyDeployment")
    assert len(openai.batches()) == 1
    suspend(world, "openai", value=False)
    assert world.finished("after")["status"]["phase"] == "Succeeded"


def suspend(world: World, name: str, *, value: bool) -> None:
    """Set spec.suspend of a deployment."""
    world.cluster.patch("ModelDeployment", name, world.namespace, {"spec": {"suspend": value}})


def test_active_batches_and_their_tokens_are_told(world, account):
    """Status counts the unfinished batches and their estimated tokens, and forgets them when they end."""
    openai = account("openai", provider="openai", hold=True)
    world.openai("openai", openai)
    world.file(lines=chat_lines(8, model=MODEL))
    world.job("one")
    world.job("two")

    def counts(active: int, tokens: int) -> Callable[[Object], bool]:
        wanted = {"activeBatches": active, "enqueuedTokens": tokens}
        return lambda item: wanted.items() <= item["status"].items()

    world.running("one", timeout=LONG)
    tokens = world.get("BatchFile", "questions")["status"]["estimatedInputTokens"]
    assert tokens > 0
    world.until("ModelDeployment", "openai", counts(2, 2 * tokens), timeout=LONG)

    openai.release()

    world.until("ModelDeployment", "openai", counts(0, 0), timeout=LONG)


# --- keys that change -------------------------------------------------------------------------------------------------


def test_a_rotated_key_and_a_renamed_secret_lose_no_job(world, account):
    """A job that runs outlives a key that is refused before its Secret is changed, and a Secret of another name."""
    openai = account("openai", provider="openai", hold=True)
    world.openai("openai", openai)
    world.file()
    world.job()
    batch = world.running(timeout=LONG)["status"]["batchID"]

    openai.rotate("second-key")
    ready_is(world, "False", "Unauthorized")
    world.secret("key-openai", api_key="second-key")
    ready_is(world, "True", "Ready")
    openai.rotate("third-key")
    world.secret("renamed", api_key="third-key")
    world.delete("Secret", "key-openai")
    reference = {"openAI": {"auth": {"secretKeyRef": {"name": "renamed"}}}}
    world.cluster.patch("ModelDeployment", "openai", world.namespace, {"spec": reference})
    ready_is(world, "True", "Ready")
    openai.release()

    status = world.finished()["status"]
    assert (status["phase"], status["batchID"]) == ("Succeeded", batch)
    assert len(openai.batches()) == 1


# --- who may use which ------------------------------------------------------------------------------------------------


def test_a_deployment_of_another_namespace_gets_nothing(cluster, namespaces, account, operator):
    """Whoever offers the same model to all namespaces gets nobody's prompts, and is told that it has no effect."""
    mine, theirs = World(cluster, namespaces()), World(cluster, namespaces())
    own, foreign = account("own", provider="openai"), account("foreign", provider="openai")
    operator(mine.namespace, theirs.namespace, flags=FLAGS)
    theirs.openai("openai", foreign, allowedNamespaces={"from": "All"})
    ready_is(theirs, "True", "NotShared")
    mine.file()
    mine.job()
    mine.until(
        "BatchFile", "questions", lambda file: said(file, "Ready") == ("False", "DeploymentNotFound"), timeout=LONG
    )

    mine.openai("openai", own)

    assert mine.finished()["status"]["deployment"] == {"namespace": mine.namespace, "name": "openai"}
    assert [entry["namespace"] for entry in mine.get("BatchFile", "questions")["status"]["deployments"]] == [
        mine.namespace
    ]
    assert foreign.files() == []
    assert {call.operation for call in foreign.calls().log} == {"batches.list"}


def test_shared_deployments_serve_whom_they_admit(cluster, namespaces, account, operator):
    """In a namespace that the administrator shares, All admits everyone, Selector by label, Same nobody else."""
    team, other, home = World(cluster, namespaces()), World(cluster, namespaces()), World(cluster, namespaces())
    cluster.patch("Namespace", team.namespace, None, {"metadata": {"labels": {"tier": "gold"}}})
    accounts: dict[str, Account] = {name: account(name, provider="openai") for name in ("all", "selector", "same")}
    home.openai("all", accounts["all"], allowedNamespaces={"from": "All"})
    gold = {"from": "Selector", "selector": {"matchLabels": {"tier": "gold"}}}
    home.openai("selector", accounts["selector"], allowedNamespaces=gold)
    home.openai("same", accounts["same"])
    shared = ("--shared-deployment-namespace", home.namespace)
    operator(team.namespace, other.namespace, home.namespace, flags=(*FLAGS, *shared))
    for name in accounts:
        ready_is(home, "True", "Ready", name)
    team.file()
    other.file()

    def where(world: World) -> list[str]:
        file = world.cluster.wait_condition("BatchFile", "questions", world.namespace, "Uploaded", timeout=LONG)
        return sorted(entry["name"] for entry in file["status"]["deployments"])

    assert where(team) == ["all", "selector"]
    assert where(other) == ["all"]
    assert len(accounts["all"].files()) == 2
    assert accounts["same"].files() == []
    team.job(deploymentRef={"namespace": home.namespace, "name": "selector"})
    other.job(deploymentRef={"namespace": home.namespace, "name": "selector"})
    assert team.finished()["status"]["phase"] == "Succeeded"
    refused = other.until("BatchJob", "run", lambda job: said(job, "Reconciling")[0] == "True", timeout=LONG)
    assert said(refused, "Reconciling") == ("True", "DeploymentNotFound")


# --- how little is asked and written ----------------------------------------------------------------------------------


def test_an_account_is_listed_at_most_once_an_interval(cluster, namespace, account, operator):
    """Two deployments of one account, their probes, and jobs that come and go: one list an interval at the most."""
    world, openai = World(cluster, namespace), account("openai", provider="openai", hold=True)
    interval = 1.0
    operator(namespace, flags=("--poll-interval", str(interval), "--probe-interval", str(interval)))
    world.openai("one", openai)
    world.openai("two", openai, model="gpt-4o", secret="key-one", with_secret=False)
    world.file()
    for number in range(6):
        world.job(f"run-{number}")
        world.running(f"run-{number}", timeout=LONG)
    openai.release()
    for number in range(6):
        world.finished(f"run-{number}")
    openai.hold()
    world.job("last")
    world.running("last", timeout=LONG)

    def listings() -> list[float]:
        return [call.time for call in openai.calls(operation="batches.list").log]

    seen = len(listings())
    assert poll(lambda: len(listings()) >= max(seen + 3, 6), LONG)

    # A tenth of jitter, and what the machine adds to the way of each call.
    assert min(later - earlier for earlier, later in pairwise(listings())) >= 0.8 * interval
    (last,) = [batch for batch in openai.batches() if batch["status"] == "in_progress"]
    openai.advance(last["id"], "completed")
    world.finished("last")


def test_nothing_is_written_while_nothing_happens(cluster, namespace, account, operator):
    """With a job that runs, one that waits, a file that is uploaded, one that fails and a deployment that is refused,
    sweep after sweep leaves every resource as it is, and so does a restart."""
    world, openai = World(cluster, namespace), account("openai", provider="openai", hold=True)
    first = operator(namespace, flags=FLAGS)
    world.openai("openai", openai, limits={"maxActiveBatches": 1})
    world.secret("key-refused", api_key="not-the-key")
    world.openai("refused", openai, with_secret=False)
    world.file()
    world.file("missing", source={"configMapKeyRef": {"name": "missing", "key": "requests.jsonl"}})
    world.job("running")
    world.running("running", timeout=LONG)
    world.job("waiting")
    world.job("without-file", file="missing")
    ready_is(world, "False", "Unauthorized", "refused")
    for name, reason in (("waiting", "NoHeadroom"), ("without-file", "InputFileNotReady")):
        world.until("BatchJob", name, lambda job, reason=reason: said(job, "Reconciling")[1] == reason, timeout=LONG)
    world.until("ModelDeployment", "openai", lambda item: item["status"]["activeBatches"] == 1, timeout=LONG)

    def writes() -> list[Any]:
        return world.cluster.writes(namespace)

    def sweeps(count: int) -> None:
        wanted = openai.calls().count("batches.list", 200) + count
        assert poll(lambda: openai.calls().count("batches.list", 200) >= wanted, LONG)

    sweeps(3)
    before = writes()
    sweeps(8)
    assert writes()[len(before) :] == []

    first.kill()
    operator(namespace, flags=FLAGS)
    sweeps(4)

    assert writes()[len(before) :] == []
