"""The operator's own S3 credentials, for tenants without a Secret."""

from __future__ import annotations

from collections.abc import Callable

from support.cluster import Cluster, condition
from support.emulator import chat_lines
from support.moto import Bucket
from support.world import MODEL, World


def test_tenants_read_and_write_below_their_own_prefix_only(
    cluster: Cluster, namespaces: Callable[[], str], account, operator, bucket: Bucket
):
    """With a prefix for each namespace a job needs no Secret, and nobody reads or writes below another's."""
    team, other = World(cluster, namespaces()), World(cluster, namespaces())
    bucket.put(f"{team.namespace}/requests.jsonl", chat_lines(3, model=MODEL))
    flags = ("--probe-interval", "1", "--ambient-credential-prefix", f"{bucket.url}{{namespace}}/")
    operator(team.namespace, other.namespace, flags=flags, environment=bucket.credentials)
    for world in (team, other):
        world.openai("east", account("east", provider="openai"))
        world.file(source={"url": f"{bucket.url}{team.namespace}/requests.jsonl"})
    other.file("own")
    team.job(output={"url": f"{bucket.url}{team.namespace}/answers"})
    other.job(file="own", output={"url": f"{bucket.url}{team.namespace}/answers"})

    assert team.finished()["status"]["phase"] == "Succeeded"
    assert len(bucket.get(f"{team.namespace}/answers/output.jsonl").splitlines()) == 3
    refused = other.until("BatchFile", "questions", lambda file: condition(file, "Reconciling"))
    assert "--ambient-credential-prefix" in str(condition(refused, "Reconciling"))
    waiting = other.until("BatchJob", "run", lambda job: "CredentialsInvalid" in str(job.get("status")))
    assert "batchID" not in waiting["status"]
    assert set(bucket.keys()) == {
        f"{team.namespace}/{name}" for name in ("requests.jsonl", "answers/output.jsonl", "answers/summary.json")
    }
