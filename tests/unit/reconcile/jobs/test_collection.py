"""Collection: results are all there or they are missed, and whoever trickles holds up nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmbatch.api.batchjob import BatchJob, Phase
from llmbatch.domain.errors import OutputDenied, OutputFailed, StorageError
from llmbatch.domain.job.ending import RESULTS_WITHIN
from llmbatch.domain.remote import BatchError, Counts
from llmbatch.domain.requests.validation import InputCheck
from llmbatch.engine.queue import WorkQueue
from llmbatch.reconcile.jobs.retrieval import Later, Retrievals, Retrieved
from support.job_bench import RUN, Bench, Process, Provider
from support.virtual_time import VirtualClock

CASES = Path(__file__).resolve().parents[3] / "support" / "cases" / "results"


def answered(lines: int) -> bytes:
    """So many answers, each to another request."""
    line = b'{"custom_id":"%d","response":{"status_code":200,"body":{"usage":{"prompt_tokens":1}}},"error":null}\n'
    return b"".join(line % number for number in range(lines))


@dataclass
class Sink:
    """A place for results, in memory."""

    denied: StorageError | None = None
    fails: StorageError | None = None
    written: dict[str, bytes] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    location: str = "configmap/answers"

    async def check(self) -> None:
        if self.denied:
            raise self.denied

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        writer = SinkWriter(self)
        try:
            yield writer
        finally:
            self.ends.append("committed" if writer.committed else "left")


@dataclass
class SinkWriter:
    """Writes when it is committed."""

    sink: Sink
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False

    async def write(self, file: str, chunk: bytes) -> None:
        self.files[file] = self.files.get(file, b"") + chunk

    async def commit(self) -> int:
        if self.sink.fails:
            raise self.sink.fails
        self.sink.written, self.committed = dict(self.files), True
        return sum(map(len, self.files.values()))


@dataclass
class Scene:
    """A job whose batch of three requests runs, on one deployment."""

    bench: Bench
    process: Process
    east: Provider
    sink: Sink

    @property
    def batch_id(self) -> str:
        """The job's batch."""
        return self.bench.stored().status.batch_id or ""

    def ends(self, *, lines: int, counts: Counts, state: str = "completed") -> None:
        """The batch ends with so many answers, and the account is swept."""
        self.east.contents["file-out"] = answered(lines)
        self.east.become(self.batch_id, state, counts=counts, output_file_id="file-out")
        self.process.accounts.learn("team/east", self.east.held[self.batch_id])

    async def look(self) -> BatchJob:
        """One look at the job; answers it as stored."""
        await self.process.reconcile()
        return self.bench.stored()


@pytest.fixture
async def scene() -> Scene:
    """The batch runs."""
    bench = Bench()
    east, sink = bench.deployment("east"), Sink()
    bench.sink = sink
    bench.file("team/east")
    bench.job()
    process = bench.start()
    await process.running()
    return Scene(bench, process, east, sink)


def reason(job: BatchJob, kind: str) -> str | None:
    """The reason of a condition."""
    return next((found.reason for found in job.status.conditions if found.type == kind), None)


async def test_results_that_are_all_there_end_the_job_and_leave_the_provider(scene):
    """The usual end: delivered, counted, and the provider's files are deleted."""
    scene.ends(lines=3, counts=Counts(3, 3, 0))

    job = await scene.look()

    assert job.status.phase is Phase.SUCCEEDED
    assert scene.sink.written["output.jsonl"] == answered(3)
    assert scene.east.deleted == ["file-out"]


async def test_a_batch_is_read_again_before_its_results(scene):
    """A listing may have shown it completed before its files were named; it is not taken for one without results."""
    scene.east.become(scene.batch_id, "completed")
    scene.process.accounts.learn("team/east", scene.east.held[scene.batch_id])
    scene.east.contents["file-out"] = answered(1)
    scene.east.become(scene.batch_id, "completed", output_file_id="file-out")

    job = await scene.look()

    assert job.status.phase is Phase.SUCCEEDED
    assert job.status.output_file_id == "file-out"


async def test_a_batch_that_has_not_ended_after_all_is_followed_on(scene):
    """What a listing showed may be wrong; the batch itself is asked last."""
    scene.ends(lines=3, counts=Counts(3, 2, 0))
    scene.east.become(scene.batch_id, "finalizing")

    job = await scene.look()

    assert (job.status.phase, reason(job, "Reconciling")) == (Phase.IN_PROGRESS, "Running")
    assert scene.east.count("download") == 0


@pytest.mark.parametrize("lines", [0, 2])
async def test_results_that_are_missing_are_not_deleted_and_no_success(scene, lines):
    """The job waits for the rest; then it fails for that reason, what there is was delivered, and nothing is gone."""
    scene.ends(lines=lines, counts=Counts(3, 3, 0))

    waiting = await scene.look()
    scene.bench.clock.step(RESULTS_WITHIN.total_seconds())
    failed = await scene.look()

    assert (waiting.status.phase, reason(waiting, "Reconciling")) == (Phase.COLLECTING, "ResultsIncomplete")
    assert failed.status.phase is Phase.FAILED
    assert reason(failed, "Failed") == ("ResultsIncomplete" if lines else "ResultsLost")
    assert scene.sink.written.get("output.jsonl", b"") == answered(lines)
    assert scene.east.deleted == []


async def test_results_that_come_later_are_waited_for(scene):
    """A file that was short at first is read again, and all of it is what the job ends with."""
    scene.ends(lines=2, counts=Counts(3, 3, 0))
    await scene.look()
    scene.east.contents["file-out"] = answered(3)
    scene.bench.clock.step(10)

    job = await scene.look()

    assert job.status.phase is Phase.SUCCEEDED
    assert job.status.progress == "3/3"


async def test_nothing_is_deleted_where_nobody_knows_how_many_results_there_must_be(scene):
    """Neither the file nor the provider says: what is there is believed, and stays there too."""
    bench = scene.bench
    bench.cluster.stored[RUN] = bench.stored().model_copy(
        update={"status": bench.stored().status.model_copy(update={"request_counts": None})}
    )
    scene.ends(lines=3, counts=Counts())

    job = await scene.look()

    assert job.status.phase is Phase.SUCCEEDED
    assert scene.east.deleted == []


async def test_a_provider_that_trickles_does_not_hold_the_reconcile(scene):
    """The job says that its results are on their way, and is looked at again when they are there."""
    scene.east.trickles = asyncio.Event()
    scene.ends(lines=3, counts=Counts(3, 3, 0))

    under_way = await scene.look()
    assert (under_way.status.phase, reason(under_way, "Reconciling")) == (Phase.COLLECTING, "Collecting")
    scene.east.trickles.set()
    assert await until_queued(scene.process.queue)
    job = await scene.look()

    assert job.status.phase is Phase.SUCCEEDED
    assert scene.east.count("download") == 1


async def until_queued(queue: WorkQueue) -> bool:
    """Whether the job's key comes out of the queue."""
    async with asyncio.timeout(30):
        while (key := await queue.get()) != RUN:
            queue.done(key)
    queue.done(key)
    return True


async def test_a_deletion_ends_the_retrieval_and_leaves_nothing_half_made(scene):
    """What was written so far is not committed."""
    scene.east.trickles = asyncio.Event()
    scene.ends(lines=3, counts=Counts(3, 3, 0))
    await scene.look()
    scene.bench.cluster.edit(RUN, deletion_timestamp=scene.bench.clock.now())

    await scene.process.reconcile()

    assert scene.sink.ends == ["left"]
    assert scene.sink.written == {}


async def test_results_are_not_read_again_for_a_sink_that_is_denied(scene):
    """Once it has refused them, the sink is asked first."""
    scene.sink.denied = scene.sink.fails = OutputDenied("no rights")
    scene.ends(lines=3, counts=Counts(3, 3, 0))

    for _ in range(5):
        await scene.look()
        scene.bench.clock.step(60)

    assert reason(scene.bench.stored(), "Reconciling") == "OutputDenied"
    assert scene.east.count("download") == 1


async def test_results_are_read_again_only_when_the_backoff_is_over(scene):
    """However often the job is looked at."""
    scene.sink.fails = OutputFailed("away")
    scene.ends(lines=3, counts=Counts(3, 3, 0))
    for _ in range(5):
        await scene.look()
    assert scene.east.count("download") == 1
    scene.bench.clock.step(1)
    await scene.look()
    scene.bench.clock.step(1)
    await scene.look()
    assert scene.east.count("download") == 2
    scene.sink.fails = None
    scene.bench.clock.step(1)

    job = await scene.look()

    assert job.status.phase is Phase.SUCCEEDED


async def test_an_output_that_cannot_be_understood_is_told_like_any_other_problem(scene):
    """Where a sink cannot even be made, the job says why."""

    def broken(job: BatchJob) -> Any:
        raise OutputFailed("the URL makes no sense")

    scene.bench.sink_of = broken
    scene.process = scene.bench.start()
    await scene.look()
    scene.ends(lines=3, counts=Counts(3, 3, 0))

    job = await scene.look()

    assert reason(job, "Reconciling") == "OutputFailed"


# --- how many at once ---------------------------------------------------------------------------------------------


async def test_one_namespace_does_not_take_up_all_retrievals():
    """At most so many for a namespace, and so many in all; the others wait for their turn."""
    clock = VirtualClock()
    bench, running = Bench(), set[str]()
    retrievals = Retrievals(WorkQueue(clock), clock, at_once=3, at_once_in_namespace=2)
    gate = asyncio.Event()

    async def take(namespace: str, name: str) -> Retrieved | Later:
        job = bench.stored(bench.job(name, namespace=namespace))

        async def work(again: bool) -> Retrieved:
            running.add(f"{namespace}/{name}")
            await gate.wait()
            return Retrieved(())

        return await retrievals.take(job, work, patience=0.01)

    for name in ("a", "b", "c"):
        assert isinstance(await take("one", name), Later)
    assert running == {"one/a", "one/b"}
    for name in ("a", "b"):
        await take("two", name)
    assert running == {"one/a", "one/b", "two/a"}
    gate.set()

    assert await take("two", "b") == Retrieved(())
    await retrievals.close()


async def test_a_job_of_the_same_name_does_not_take_the_results_of_another():
    """A retrieval belongs to a UID."""
    clock, bench = VirtualClock(), Bench()
    retrievals = Retrievals(WorkQueue(clock), clock)
    gate = asyncio.Event()

    async def old(again: bool) -> Retrieved:
        await gate.wait()
        raise AssertionError("nobody is interested")

    async def new(again: bool) -> Retrieved:
        return Retrieved(())

    first = bench.stored(bench.job())
    assert isinstance(await retrievals.take(first, old, patience=0.0), Later)
    second = first.model_copy(update={"metadata": first.metadata.model_copy(update={"uid": "another"})})

    assert await retrievals.take(second, new, patience=1.0) == Retrieved(())


async def test_a_batch_that_is_told_of_in_full_is_not_asked_for_again(scene):
    """Where every request is counted and the files are named, nothing can have changed since."""
    scene.ends(lines=3, counts=Counts(3, 3, 0))
    asked = scene.east.count("get_batch")

    job = await scene.look()

    assert job.status.phase is Phase.SUCCEEDED
    assert scene.east.count("get_batch") == asked


async def test_one_line_that_nobody_understands_takes_nothing_from_the_others(scene):
    """The files are read a second time, the output has the line as it came, and the provider's files are kept."""
    scene.ends(lines=2, counts=Counts(3, 3, 0))
    cut = answered(2) + b'{"custom_id":"2","response":{"sta\n'
    scene.east.contents["file-out"] = cut

    job = await scene.look()

    assert (job.status.phase, reason(job, "Complete")) == (Phase.SUCCEEDED, "CompletedWithUnreadableResults")
    assert scene.sink.written["output.jsonl"] == cut
    assert scene.east.count("download") == 2
    assert scene.east.deleted == []


async def test_a_file_that_is_not_there_takes_nothing_from_the_other(scene):
    """All requests are answered in the output file: an error file that answers 404 is as an empty one."""
    scene.ends(lines=3, counts=Counts(3, 3, 0))
    scene.east.become(scene.batch_id, "completed", error_file_id="file-err")
    scene.process.accounts.learn("team/east", scene.east.held[scene.batch_id])

    job = await scene.look()

    assert (job.status.phase, reason(job, "Complete")) == (Phase.SUCCEEDED, "Completed")


async def test_results_that_are_not_there_for_a_moment_are_asked_for_again(scene):
    """A 404 is lost only when it has been one for ten minutes."""
    scene.ends(lines=3, counts=Counts(3, 3, 0))
    content = scene.east.contents.pop("file-out")

    for _ in range(9):
        job = await scene.look()
        scene.bench.clock.step(60)
        assert job.status.phase is Phase.COLLECTING
    scene.east.contents["file-out"] = content
    scene.bench.clock.step(300)

    assert (await scene.look()).status.phase is Phase.SUCCEEDED


async def test_a_cancelled_batch_without_answers_is_cancelled_though_its_files_are_not_there(scene):
    """Nothing was answered, so nothing is lost."""
    scene.ends(lines=0, counts=Counts(3, 0, 0), state="cancelled")
    del scene.east.contents["file-out"]

    job = await scene.look()

    assert job.status.phase is Phase.CANCELLED


@pytest.mark.parametrize("content", [None, b""])
async def test_a_failed_batch_that_names_files_is_sorted_by_its_errors(scene, content: bytes | None):
    """Azure names result files of a batch that had no room: they are empty or not there, and the job waits for room."""
    first = scene.batch_id
    scene.ends(lines=0, counts=Counts(0, 0, 0), state="failed")
    scene.east.contents = {} if content is None else {"file-out": content}
    scene.east.become(first, "failed", errors=(BatchError("token_limit_exceeded"),))
    scene.process.accounts.learn("team/east", scene.east.held[first])

    job = await scene.look()

    assert job.status.attempts[-1].result == "QuotaExceeded"
    assert job.status.shards[0].failures == 0
    assert scene.sink.written == {}


@pytest.mark.parametrize("input_is_there", [True, False])
async def test_results_that_belong_to_no_request_are_delivered_and_told(scene, input_is_there: bool):
    """One good line, one with null, one with another id, one without the key: all are counted, and three are told."""
    ids = ("r-1", "r-2", "r-3", "r-4")
    requests = b"".join(b'{"custom_id":"%s","body":{}}\n' % id_.encode() for id_ in ids)
    scene.ends(lines=0, counts=Counts(4, 4, 0))
    scene.east.contents["file-out"] = (CASES / "answers-without-their-ids.jsonl").read_bytes()
    if input_is_there:
        scene.east.contents[scene.east.held[scene.batch_id].input_file_id] = requests

    job = await scene.look()

    told = next(found for found in job.status.conditions if found.type == "Complete")
    assert (job.status.phase, told.reason) == (Phase.SUCCEEDED, "CompletedWithUnmatchedResults")
    assert (" 3 results" if input_is_there else " at least 2 results") in told.message
    assert (job.status.progress, job.status.usage.input_tokens) == ("4/4", 400)
    assert scene.sink.written["output.jsonl"] == scene.east.contents["file-out"]
    assert scene.east.deleted == []


async def test_an_id_that_is_not_of_the_file_is_noticed_by_its_digest(scene):
    """Each line has an id, and there are as many as requests; only the file's digest says that one is another's."""
    bench = scene.bench
    digest = InputCheck(None)
    digest.feed(
        requests := b"".join(
            b'{"custom_id":"%d","method":"POST","url":"/v1/embeddings","body":{}}\n' % n for n in range(3)
        )
    )
    status = bench.stored().status.model_copy(update={"custom_id_digest": digest.finish().custom_id_digest})
    bench.cluster.stored[RUN] = bench.stored().model_copy(update={"status": status})
    scene.ends(lines=3, counts=Counts(3, 3, 0))
    scene.east.contents["file-out"] = answered(3).replace(b'"custom_id":"2"', b'"custom_id":"another"')
    scene.east.contents[scene.east.held[scene.batch_id].input_file_id] = requests

    job = await scene.look()

    told = next(found for found in job.status.conditions if found.type == "Complete")
    assert told.reason == "CompletedWithUnmatchedResults"
    assert "; 1 results cannot be matched" in told.message
