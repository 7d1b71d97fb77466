"""Routing: who gets a job, who may not, and what a job waits for."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from support.cluster import Object, condition
from support.emulator import Account
from support.world import World

FLAGS = ("--poll-interval", "0.5", "--probe-interval", "1")
PATIENCE = 60.0
JOBS = 300
WEIGHTS = {"one": 1, "two": 2, "three": 3}


def uploaded(world: World, name: str = "questions") -> Object:
    """The file once it is on every deployment."""
    return world.cluster.wait_condition("BatchFile", name, world.namespace, "Uploaded", timeout=PATIENCE)


def waiting(world: World, reason: str, name: str = "run") -> str:
    """What the job says once it waits for that reason."""

    def waits(job: Object) -> bool:
        return (condition(job, "Routed") or {}).get("reason") == reason

    found = world.until("BatchJob", name, waits, timeout=PATIENCE)
    return (condition(found, "Routed") or {})["message"]


def deployment_of(world: World, name: str) -> str:
    """Where a job runs."""
    return world.running(name, timeout=PATIENCE)["status"]["deployment"]["name"]


def test_jobs_are_spread_by_weight_and_stay_where_they_are(world, account, operator):
    """300 jobs on deployments of weight 1, 2 and 3 are spread within 10 %, and no call for one goes to another."""
    accounts: dict[str, Account] = {name: account(name, provider="openai") for name in WEIGHTS}
    operator(world.namespace, flags=FLAGS)
    for name, weight in WEIGHTS.items():
        world.openai(name, accounts[name], weight=weight)
    world.file()
    uploaded(world)
    names = [f"run-{at}" for at in range(JOBS)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(world.job, names))

    jobs = [world.finished(name, timeout=240) for name in names]

    assert {job["status"]["phase"] for job in jobs} == {"Succeeded"}
    spread = Counter(job["status"]["deployment"]["name"] for job in jobs)
    for name, weight in WEIGHTS.items():
        share = JOBS * weight / sum(WEIGHTS.values())
        assert abs(spread[name] - share) <= share / 10
    for name, held in accounts.items():
        ids = {job["status"]["batchID"] for job in jobs if job["status"]["deployment"]["name"] == name}
        calls = [call for call in held.calls().log if call.operation.startswith("batches.") and call.id]
        assert {batch["id"] for batch in held.batches()} == ids
        assert {call.id for call in calls} <= ids
        assert held.calls().count("batches.create") == len(ids)
        assert held.calls().count("batches.get", 404) == 0


class TestTenants:
    """Deployments of another namespace."""

    @pytest.fixture
    def other(self, world, namespaces) -> World:
        """A namespace that offers the same model."""
        return World(world.cluster, namespaces())

    def test_a_deployment_of_another_namespace_gets_nothing(self, world, other, account, operator):
        """Whoever offers a tenant's model in a namespace that nobody shares gets neither its file nor its jobs."""
        ours, theirs = account("ours", provider="openai"), account("theirs", provider="openai")
        operator(world.namespace, other.namespace, flags=FLAGS)
        other.openai("greedy", theirs, weight=100, allowedNamespaces={"from": "All"})
        told = condition(other.ready("ModelDeployment", "greedy", timeout=PATIENCE), "Ready") or {}
        world.openai("own", ours)
        world.file()
        names = [world.job(f"run-{at}") for at in range(3)]

        placed = {deployment_of(world, name) for name in names}

        assert told["reason"] == "NotShared"
        assert placed == {"own"}
        assert len(uploaded(world)["status"]["deployments"]) == 1
        assert theirs.calls().count("files.create") == 0
        assert theirs.calls().count("batches.create") == 0

    def test_a_shared_namespace_admits_whom_it_wants(self, world, other, namespaces, account, operator):
        """A deployment of a shared namespace takes all, those with a label, or only its own, as it says."""
        everyone, some, none = (account(name, provider="openai") for name in ("everyone", "some", "none"))
        labelled = World(world.cluster, namespaces())
        world.cluster.patch("Namespace", labelled.namespace, None, {"metadata": {"labels": {"team": "search"}}})
        places = (world.namespace, labelled.namespace, other.namespace)
        operator(*places, flags=(*FLAGS, "--shared-deployment-namespace", other.namespace))
        selector = {"matchLabels": {"team": "search"}}
        other.openai("everyone", everyone, allowedNamespaces={"from": "All"})
        other.openai("some", some, allowedNamespaces={"from": "Selector", "selector": selector})
        other.openai("none", none)
        for name in ("everyone", "some", "none"):
            other.ready("ModelDeployment", name, timeout=PATIENCE)
        for place in (world, labelled):
            place.file()
            place.job()

        assert deployment_of(world, "run") == "everyone"
        assert deployment_of(labelled, "run") in ("everyone", "some")

        admitted = [
            {entry["name"] for entry in uploaded(place)["status"]["deployments"]} for place in (world, labelled)
        ]
        assert admitted == [{"everyone"}, {"everyone", "some"}]
        assert none.calls().count("files.create") == 0


@pytest.fixture
def openai(account) -> Account:
    """An account whose batches stay in progress until they are released."""
    made = account("openai", provider="openai")
    made.hold()
    return made


def test_a_pin_is_honoured(world, openai, account, operator):
    """Jobs that name a deployment of little weight run there and nowhere else."""
    other = account("other", provider="openai")
    operator(world.namespace, flags=FLAGS)
    world.openai("light", openai)
    world.openai("heavy", other, weight=100)
    world.file()
    uploaded(world)
    pin = {"namespace": world.namespace, "name": "light"}
    names = [world.job(f"run-{at}", deploymentRef=pin) for at in range(4)]

    assert [deployment_of(world, name) for name in names] == ["light"] * 4

    assert other.calls().count("batches.create") == 0


def test_a_pin_that_cannot_be_honoured_waits_and_says_so(world, openai, account, operator):
    """A job pinned to a deployment that is not there waits for it by name, and runs there once it exists."""
    operator(world.namespace, flags=FLAGS)
    world.openai("east", openai)
    world.file()
    uploaded(world)
    world.job(deploymentRef={"namespace": world.namespace, "name": "west"})

    assert f"{world.namespace}/west" in waiting(world, "DeploymentNotFound")

    later = account("later", provider="openai")
    world.openai("west", later)
    assert deployment_of(world, "run") == "west"
    assert openai.calls().count("batches.create") == 0


def test_a_suspended_deployment_gets_no_new_work_and_its_work_goes_on(world, openai, account, operator):
    """Draining a deployment sends new jobs elsewhere, and what runs there is followed to its end."""
    other = account("other", provider="openai")
    operator(world.namespace, flags=FLAGS)
    world.openai("east", openai)
    world.file()
    world.job()
    assert deployment_of(world, "run") == "east"
    world.cluster.patch("ModelDeployment", "east", world.namespace, {"spec": {"suspend": True}})
    world.openai("west", other)

    names = [world.job(f"late-{at}") for at in range(2)]

    assert [deployment_of(world, name) for name in names] == ["west", "west"]
    openai.release()
    assert world.finished()["status"]["phase"] == "Succeeded"


@pytest.mark.parametrize("limit", ["maxActiveBatches", "maxEnqueuedTokens"])
def test_a_job_waits_for_headroom_and_is_woken_when_there_is_some(world, openai, operator, limit):
    """With room for one batch, the others wait and say so; each that ends lets the next one in."""
    operator(world.namespace, flags=FLAGS)
    world.openai("east", openai, limits={limit: 1})
    world.file()
    uploaded(world)
    names = [world.job(f"run-{at}") for at in range(3)]
    waiting_for_room = [
        name
        for name in names
        if (condition(world.until("BatchJob", name, has_been_seen, timeout=PATIENCE), "Routed") or {})["reason"]
        == "NoHeadroom"
    ]

    assert len(waiting_for_room) == 2
    assert len(openai.batches()) == 1

    openai.release()
    for name in names:
        assert world.finished(name)["status"]["phase"] == "Succeeded"
    batches = sorted(openai.batches(), key=lambda batch: batch["created_at"])
    assert len(batches) == 3
    assert all(one["completed_at"] <= next_["created_at"] for one, next_ in pairwise(batches))


def test_a_deployment_tells_how_much_runs_there(world, openai, operator):
    """The status of a deployment counts its unfinished batches and their estimated tokens, up and down again."""
    operator(world.namespace, flags=FLAGS)
    world.openai("east", openai)
    world.file()
    world.job()

    def counts(found: Object) -> tuple[int, int]:
        return found["status"]["activeBatches"], found["status"]["enqueuedTokens"]

    tokens = world.running(timeout=PATIENCE) and uploaded(world)["status"]["estimatedInputTokens"]
    world.until("ModelDeployment", "east", lambda found: counts(found) == (1, tokens), timeout=PATIENCE)
    openai.release()
    world.until("ModelDeployment", "east", lambda found: counts(found) == (0, 0), timeout=PATIENCE)


def has_been_seen(job: Object) -> bool:
    """Whether the job is routed, or waits for headroom."""
    routed = condition(job, "Routed") or {}
    return routed.get("status") == "True" or routed.get("reason") == "NoHeadroom"
