"""Namespaces take turns: a flood uses every worker that nobody else wants, and holds up no one else's job."""

from __future__ import annotations

from support.cluster import poll
from support.world import World

FLOOD = 60
WORKERS = 4
SLOW_SECONDS = 1.0
FLAGS = ("--poll-interval", "0.5", "--probe-interval", "1", "--workers", str(WORKERS))


def test_a_flood_holds_up_no_job_of_another_namespace(cluster, namespaces, account, operator):
    """Each create of the flood takes a second, so that its queue lasts; the other's job is done beside it."""
    flood, other = World(cluster, namespaces()), World(cluster, namespaces())
    slow, quick = account("slow", provider="openai"), account("quick", provider="openai")
    operator(flood.namespace, other.namespace, flags=FLAGS)
    for world, openai in ((flood, slow), (other, quick)):
        world.openai("openai", openai)
        world.file()
        world.ready("BatchFile", "questions")
    slow.fault("latency", "batches.create", seconds=SLOW_SECONDS, times="always")
    for at in range(FLOOD):
        flood.job(f"run-{at}")
    assert poll(lambda: slow.calls().count("batches.create") >= WORKERS, 30)

    other.job("single")

    assert other.finished("single", timeout=20)["status"]["phase"] == "Succeeded"
    made = len(slow.batches())
    assert made < FLOOD / 2, f"{made} of the flood's jobs went before the one of another namespace"
    slow.clear_faults()
    for at in range(FLOOD):
        assert flood.finished(f"run-{at}", timeout=60)["status"]["phase"] == "Succeeded"
