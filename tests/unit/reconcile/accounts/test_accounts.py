"""Accounts: what is learnt by listing them, and what they are not asked twice."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmbatch.api import BatchJob, ModelDeployment
from llmbatch.api.batchjob import Phase
from llmbatch.domain.errors import CredentialsError, NotFound, Unauthorized, Unavailable
from llmbatch.domain.remote import BatchState, FileState, RemoteBatch, RemoteFile, Tag
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.providers.protocol import AccountID
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.accounts.accounts import Accounts, AccountSettings, NotListed, Sighting
from llmbatch.reconcile.index.index import Index
from support.virtual_time import VirtualClock

START = datetime(2026, 1, 1, tzinfo=UTC)
INTERVAL = 30.0
RUN = Key("BatchJob", "default", "run")
OURS = Tag("cluster", "default", "run", "uid-run", 0, 1)


def a_batch(batch_id: str = "batch_1", tag: Tag | None = OURS, *, minute: int = 0, **fields: Any) -> RemoteBatch:
    """A batch in progress that was made at that minute."""
    created = START + timedelta(minutes=minute)
    made = RemoteBatch(batch_id, BatchState.IN_PROGRESS, created, metadata=tag.metadata() if tag else {})
    return replace(made, **fields)


class Provider:
    """An account that answers from memory and counts what it was asked."""

    def __init__(self, key: str = "key") -> None:
        self.identity = AccountID("OpenAI", "https://api", "", "", key)
        self.held: dict[str, RemoteBatch] = {}
        self.files: set[str] = set()
        self.error: Exception | None = None
        self.listed = 0
        self.page_size = 100

    def holds(self, *batches: RemoteBatch) -> None:
        self.held |= {batch.id: batch for batch in batches}

    async def list_batches(self) -> AsyncIterator[list[RemoteBatch]]:
        self.listed += 1
        if self.error:
            raise self.error
        batches = list(self.held.values())
        for at in range(0, max(len(batches), 1), self.page_size):
            yield batches[at : at + self.page_size]

    async def get_batch(self, batch_id: str) -> RemoteBatch:
        if batch_id not in self.held:
            raise NotFound("no such batch")
        return self.held[batch_id]

    async def get_identity(self) -> AccountID:
        return self.identity

    async def get_file(self, file_id: str) -> RemoteFile:
        if file_id not in self.files:
            raise NotFound("no such file")
        return RemoteFile(file_id, "", FileState.PROCESSED)


class Bench:
    """Accounts over such providers, one for each key; a deployment's key is the name of its Secret."""

    def __init__(self) -> None:
        self.clock = VirtualClock(START)
        self.queue = WorkQueue(self.clock, jitter=random.Random(1))
        self.index = Index()
        self.providers: dict[str, Provider] = {}
        self.forms: dict[str, Provider] = {}
        """The clients of deployments that have a form of the API of their own."""
        self.secrets: dict[str, str | None] = {}
        """What a Secret holds now, where it is not its own name; None where it is gone."""
        settings = AccountSettings(INTERVAL, INTERVAL)
        self.accounts = Accounts(
            self, self, self.index, self.queue, self.clock, cluster="cluster", settings=settings, rng=random.Random(1)
        )

    def bind(self, spec: Any, key: str) -> Any:
        return self.forms.get(target_of(spec).model) or self.providers.setdefault(key, Provider(key))

    async def key(self, namespace: str, name: str, key: str) -> str:
        value = self.secrets.get(name, name)
        if value is None:
            raise CredentialsError(f"Secret {namespace}/{name} does not exist; make it")
        return value

    def forget(self, namespace: str, name: str) -> None: ...

    async def open(self, name: str = "east", *, secret: str = "key") -> ModelDeployment:
        """A deployment whose account is known; those with the same Secret share it."""
        block = {"baseURL": "https://api", "model": name, "auth": {"secretKeyRef": {"name": secret, "key": "k"}}}
        made = ModelDeployment.model_validate({"metadata": metadata(name), "spec": {"modelName": "m", "openAI": block}})
        self.index.put(made)
        await self.accounts.open(made)
        return made

    def running(self, batch_id: str, *, name: str = "run", route: str = "default/east") -> None:
        """A job that runs there."""
        self.index.put(a_job(name, route=route, batch_id=batch_id))

    def finished(self, batch_id: str) -> None:
        """A job that ran there."""
        job = a_job("run", route="default/east", batch_id=batch_id)
        self.index.put(job.model_copy(update={"status": job.status.model_copy(update={"phase": Phase.SUCCEEDED})}))

    async def sweep(self, deployment: ModelDeployment) -> None:
        """What the queue would call."""
        account, _ = await self.accounts.open(deployment)
        await self.accounts.sweep(account.key)

    async def seek(self, deployment: ModelDeployment, *, not_before: float = 0.0) -> Sighting | None:
        """What a job is told of its tag, after the queue has listed the account where it may."""
        seen = await self.accounts.seek(deployment, OURS, job=RUN, not_before=not_before)
        if seen is None:
            await self.sweep(deployment)
            seen = await self.accounts.seek(deployment, OURS, job=RUN, not_before=not_before)
        return seen

    async def stray(self, deployment: ModelDeployment, name: str = "run") -> RemoteBatch | None:
        """What is left to a job's name, after the queue has listed the account where it must."""
        job = Key("BatchJob", "default", name)
        try:
            return await self.accounts.stray(deployment, job)
        except NotListed:
            await self.sweep(deployment)
            return await self.accounts.stray(deployment, job)

    async def woken(self) -> set[Key]:
        """What the queue was given to reconcile."""
        return {await self.queue.get() for _ in range(self.queue.depth)}


def metadata(name: str, **more: Any) -> dict[str, Any]:
    """The metadata of a stored object."""
    fixed = {"uid": f"uid-{name}", "resourceVersion": "1", "creationTimestamp": START.isoformat(), "generation": 1}
    return {"name": name, "namespace": "default", **fixed, **more}


def a_job(name: str, *, route: str, batch_id: str) -> BatchJob:
    """A job with a batch."""
    record = {"llmbatch.dev/deployment": route, "llmbatch.dev/batch-id": batch_id}
    return BatchJob.model_validate(
        {"metadata": metadata(name, annotations=record), "spec": {"inputFileRef": {"name": "questions"}}}
    )


@pytest.fixture
def bench() -> Bench:
    """Accounts in virtual time."""
    return Bench()


async def test_two_deployments_of_one_account_are_swept_once(bench):
    """One listing tells of the batches of both; a second one before its time is not made."""
    east, west = await bench.open("east"), await bench.open("west")
    bench.running("batch_1", name="one")
    bench.running("batch_2", name="two", route="default/west")
    bench.providers["key"].holds(a_batch("batch_1"), a_batch("batch_2"))

    await bench.sweep(east)
    await bench.sweep(west)

    assert bench.providers["key"].listed == 1
    assert bench.accounts.batch("default/east", "batch_1") == a_batch("batch_1")
    assert bench.accounts.batch("default/west", "batch_2") == a_batch("batch_2")


async def test_a_rotated_key_is_another_account(bench):
    """Deployments with other keys don't see each other's batches."""
    east, west = await bench.open("east"), await bench.open("west", secret="other")
    bench.providers["key"].holds(a_batch())

    assert await bench.stray(west) is None
    assert await bench.stray(east) == a_batch()


async def test_a_batch_of_an_attempt_is_found_among_all_others(bench):
    """Only batches with exactly that tag are found, on whatever page they are."""
    east = await bench.open()
    others = [a_batch(f"batch_{at}", replace(OURS, attempt=2)) for at in range(250)]
    bench.providers["key"].holds(*others, a_batch("wanted"), a_batch("foreign", None))

    seen = await bench.seek(east)

    assert seen is not None
    assert [batch.id for batch in seen.found] == ["wanted"]


async def test_an_account_is_not_listed_again_before_its_interval_is_over(bench):
    """A search that wants a newer listing waits for it; then it is made, and says when it began."""
    east = await bench.open()
    first = await bench.seek(east)
    assert first is not None
    assert (first.found, first.began) == ((), 0.0)
    bench.clock.step(INTERVAL / 2)

    assert await bench.seek(east, not_before=bench.clock.monotonic()) is None
    bench.clock.step(INTERVAL / 2)

    second = await bench.seek(east, not_before=INTERVAL / 2)
    assert second is not None
    assert second.began == INTERVAL
    assert bench.providers["key"].listed == 2


async def test_the_newest_batch_of_a_name_is_left_to_the_next_job(bench):
    """Of several batches that were made for a name, the youngest counts, as the provider tells of it now."""
    east = await bench.open()
    provider = bench.providers["key"]
    provider.holds(a_batch("new", minute=9), a_batch("old", minute=1))
    await bench.stray(east)
    provider.holds(a_batch("new", minute=9, state=BatchState.FINALIZING))

    found = await bench.stray(east)

    assert found is not None
    assert (found.id, found.state) == ("new", BatchState.FINALIZING)
    assert provider.listed == 1


async def test_a_batch_whose_results_were_deleted_is_left_to_nobody(bench):
    """A completed batch serves the next job of its name only while its results are there."""
    east = await bench.open()
    provider = bench.providers["key"]
    provider.holds(a_batch(state=BatchState.COMPLETED, output_file_id="file-out"))
    provider.files.add("file-out")
    assert await bench.stray(east) is not None

    provider.files.clear()

    assert await bench.stray(east) is None


async def test_a_batch_that_a_job_left_is_known_without_another_listing(bench):
    """What a retained job leaves is found by the next one of its name, and by no other."""
    east = await bench.open()
    assert await bench.stray(east) is None
    bench.providers["key"].holds(a_batch())

    bench.accounts.leave("default/east", "default", "run", "batch_1")

    assert await bench.stray(east) == a_batch()
    assert await bench.stray(east, "other") is None
    assert bench.providers["key"].listed == 1


async def test_without_an_answer_nobody_says_that_there_is_no_batch(bench):
    """An account that could not be listed raises, so that no job is given a second batch there."""
    east = await bench.open()
    bench.providers["key"].error = Unavailable("down")

    with pytest.raises(Unavailable):
        await bench.stray(east)


async def test_a_batch_of_another_cluster_is_nobody_s(bench):
    """Batches with the tag of another cluster are passed over."""
    east = await bench.open()
    bench.providers["key"].holds(a_batch(tag=replace(OURS, cluster="another")))

    assert await bench.stray(east) is None


async def test_a_batch_that_no_listing_shows_is_asked_for(bench):
    """A running batch that is missing from the pages is asked for by id, and said to be unknown if it is."""
    east = await bench.open()
    bench.running("batch_1")

    await bench.sweep(east)
    bench.clock.step(7.0)

    assert bench.accounts.unknown_for("default/east", "batch_1") == 7.0


@pytest.mark.parametrize("proof", ["a call", "a sweep"])
async def test_the_last_key_that_the_provider_took_serves_to_clean_up(bench, proof):
    """A key that was refused after a rotation does not take its place, and other work is not done with it."""
    east = await bench.open()
    bench.running("batch_1")
    if proof == "a call":
        await bench.accounts.call(east, Provider.get_identity)
    else:
        await bench.sweep(east)
    bench.secrets["key"] = "refused"
    with pytest.raises(Unauthorized):
        await bench.accounts.call(east, refuse)
    bench.secrets["key"] = None

    answer = await bench.accounts.call(east, Provider.get_identity, cleaning_up=True)

    assert answer.key_digest == "key"
    with pytest.raises(CredentialsError):
        await bench.accounts.call(east, Provider.get_identity)


async def test_a_key_is_forgotten_with_its_deployment(bench):
    """It must not be sent to the endpoint of another deployment of that name, and does not outlive its revocation."""
    east = await bench.open()
    await bench.accounts.call(east, Provider.get_identity)
    bench.secrets["key"] = None
    successor = east.model_copy(update={"metadata": east.metadata.model_copy(update={"uid": "another"})})
    with pytest.raises(CredentialsError):
        await bench.accounts.open(successor, cleaning_up=True)
    await bench.accounts.open(east, cleaning_up=True)

    bench.accounts.forget("default/east")

    with pytest.raises(CredentialsError):
        await bench.accounts.open(east, cleaning_up=True)


async def refuse(provider: Any) -> None:
    """A call that the provider answers with 401."""
    raise Unauthorized("no")


async def test_a_deployment_that_was_mended_is_listed_in_its_new_form(bench):
    """A corrected apiVersion is used by the next sweep; the account itself is the same."""
    east = await bench.open()
    bench.providers["key"].error = NotFound("no such version")
    await bench.sweep(east)
    mended = Provider()
    bench.providers["key"] = mended
    bench.clock.step(INTERVAL)

    await bench.sweep(east)

    account, _ = await bench.accounts.open(east)
    assert (mended.listed, account.healthy) == (1, True)


async def test_an_account_is_not_swept_with_the_key_of_a_secret_that_is_gone(bench):
    """A key that was taken away is not used any more, and the account says so."""
    east = await bench.open()
    bench.running("batch_1")
    account, _ = await bench.accounts.open(east)
    bench.secrets["key"] = None

    await bench.accounts.sweep(account.key)

    assert bench.providers["key"].listed == 0
    assert isinstance(account.error, CredentialsError)


async def test_an_account_is_listed_by_another_of_its_deployments_where_one_is_wrong(bench):
    """A deployment whose form of the API is refused does not hide the others' batches."""
    east = await bench.open("east")
    await bench.open("west")
    wrong, right = Provider(), Provider()
    wrong.error = NotFound("no such version")
    bench.forms = {"east": wrong, "west": right}

    await bench.sweep(east)

    account, _ = await bench.accounts.open(east)
    assert (wrong.listed, right.listed, account.healthy) == (1, 1, True)


async def test_all_jobs_that_name_a_batch_are_woken_by_it(bench):
    """A copied job does not take the news from the one that the batch belongs to."""
    east = await bench.open()
    bench.running("batch_1", name="owner")
    bench.running("batch_1", name="copy")
    bench.providers["key"].holds(a_batch("batch_1"))

    await bench.sweep(east)

    assert await bench.woken() >= {Key("BatchJob", "default", name) for name in ("owner", "copy")}


async def test_a_batch_that_its_living_job_has_is_left_to_nobody(bench):
    """What the first listing shows of jobs that live is not kept for the next ones of their names."""
    east = await bench.open()
    bench.finished("batch_1")
    bench.providers["key"].holds(a_batch("batch_1"))

    assert await bench.stray(east) is None


async def test_what_a_provider_denied_is_forgotten_with_its_job(bench):
    """Ids that somebody forged don't add up."""
    east = await bench.open()
    bench.running("batch_of_nothing")
    await bench.sweep(east)
    bench.index.remove(RUN)
    bench.clock.step(2 * INTERVAL)
    bench.running("batch_2", name="other")

    await bench.sweep(east)

    account, _ = await bench.accounts.open(east)
    assert set(account.missing) == {"batch_2"}


async def test_an_account_counts_as_its_first_deployment_s_namespace(bench):
    """A tenant with many accounts does not take all workers."""
    account, _ = await bench.accounts.open(await bench.open())

    assert account.key.namespace == "default"
