"""Exactly once, wherever a process dies: the real reconciler between a stored cluster and providers in memory."""

from __future__ import annotations

import contextlib
import json

import pytest

from llmbatch.domain.remote import Tag
from llmbatch.kube.errors import Conflict
from support.job_bench import CLUSTER, NAMESPACE, Bench, Killed

EAST, WEST = "team/east", "team/west"
PENDING = {
    "llmbatch.dev/deployment": EAST,
    "llmbatch.dev/create-pending": json.dumps({"attempt": 1, "deployment": EAST, "time": "2026-01-01T00:00:00Z"}),
}


def one_deployment(lose: str = "") -> Bench:
    """A deployment and a file on it; what is lost of the first create."""
    bench = Bench()
    bench.deployment("east").lose.append(lose)
    bench.file(EAST)
    return bench


def two_deployments(lose: str) -> Bench:
    """East, which loses the first create, and west; a job for either."""
    bench = Bench()
    bench.deployment("east").lose.append(lose)
    bench.deployment("west")
    bench.file(EAST, WEST)
    bench.job()
    return bench


@pytest.mark.parametrize("moment", range(16))
@pytest.mark.parametrize("lose", ["request", "answer"])
async def test_a_doubt_leads_to_one_batch_wherever_the_process_dies(lose, moment):
    """A create without an answer is followed by one on another deployment only where it had no effect; a process may
    die at any moment."""
    bench = two_deployments(lose)
    with contextlib.suppress(Killed):
        await bench.start(kill_at=moment).running()

    job = await bench.start().running()

    assert [batch.id for batch in bench.batches()] == [job.status.batch_id]


async def test_what_follows_a_doubt_is_another_attempt():
    """A batch that appears after all must not be taken for that of the next create."""
    bench = two_deployments("request")

    await bench.start().running()

    assert [batch.metadata["llmbatch-attempt"] for batch in bench.batches()] == ["2"]


async def test_a_restored_job_in_doubt_takes_the_batch_of_the_old_one():
    """Restored under a new UID with its create still pending, it goes on with the batch that was made then."""
    bench = one_deployment()
    tag = Tag(CLUSTER, NAMESPACE, "run", "uid-of-old", 0, 1)
    old = await bench.provider("east").create_batch(
        input_file_id="file-east", endpoint="/v1/chat/completions", completion_window="24h", metadata=tag.metadata()
    )
    bench.job(metadata={"annotations": PENDING})

    job = await bench.start().running()

    assert job.status.batch_id == old.id
    assert len(bench.batches()) == 1


async def test_a_late_status_does_not_bring_an_earlier_batch_back():
    """What a former leader still writes of where a batch is counts only if the job is as it read it."""
    bench = one_deployment()
    bench.job()
    process = bench.start()
    read = bench.stored()
    await process.running()

    with pytest.raises(Conflict):
        await process.writer.status(read, {"batchID": "batch_of_yore"}, at_version=True)
