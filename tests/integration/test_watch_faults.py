"""Watches that tell events twice, in another order, or break off: no job waits for ever, and none is made twice."""

from __future__ import annotations

from collections import Counter

import pytest

from support.api_proxy import ApiProxy

JOBS = 12
FLAGS = ("--poll-interval", "0.5", "--probe-interval", "1")


@pytest.mark.parametrize("seed", [1, 2])
def test_jobs_end_well_whatever_watches_do(world, account, operator, as_operator, tmp_path, seed):
    """Every kind of event comes twice, late, or after a cut; files, jobs, changes and deletions are all seen."""
    openai = account("openai", provider="openai")
    openai.hold()
    with ApiProxy(as_operator, tmp_path) as proxy:
        spoiler = proxy.spoil_watches(seed, cut_after=8)
        operator(world.namespace, flags=FLAGS, kubeconfig=proxy.kubeconfig)
        world.openai("openai", openai)
        names = [world.job(f"run-{at}") for at in range(JOBS)]
        world.file()
        for name in names:
            world.running(name, timeout=60)
        cancelled, *others = names
        world.cluster.patch("BatchJob", cancelled, world.namespace, {"spec": {"cancel": True}})
        phases = Counter([world.finished(cancelled, timeout=60)["status"]["phase"]])
        openai.release()
        phases.update(world.finished(name, timeout=60)["status"]["phase"] for name in others)
        for name in names:
            world.delete("BatchJob", name)
            world.gone("BatchJob", name, timeout=60)

    assert phases == {"Succeeded": JOBS - 1, "Cancelled": 1}
    assert len({batch["metadata"]["llmbatch-uid"] for batch in openai.batches()}) == len(openai.batches()) == JOBS
    assert all(spoiler.done[kind] for kind in ("twice", "late", "cut")), spoiler.done
