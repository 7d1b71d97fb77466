"""Many jobs of one file read it once, and none of them reads what is no longer so."""

from __future__ import annotations

from llmbatch.api import BatchFile
from llmbatch.engine.queue import Key
from llmbatch.reconcile.files.recent import KEPT, RecentFiles
from llmbatch.reconcile.index.index import Index
from support.job_bench import Bench


class Counted:
    """Reads files of a stored cluster, and counts that."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.reads = 0

    async def get(self, kind: type[BatchFile], namespace: str, name: str) -> BatchFile | None:
        self.reads += 1
        found = await self._bench.cluster.get(kind, namespace, name)
        return found if isinstance(found, BatchFile) else None


KEY = Key("BatchFile", "team", "questions")


async def test_a_file_is_read_again_only_when_it_changed():
    """The index sees each version as it comes."""
    bench, index = Bench(), Index()
    bench.deployment("east")
    bench.file("team/east")
    kube = Counted(bench)
    files = RecentFiles(kube, index)  # type: ignore[arg-type]
    index.put(bench.cluster.stored[KEY])

    first = [await files.get(KEY) for _ in range(3)]
    assert kube.reads == 1
    bench.cluster.edit(KEY, labels={"a": "b"})
    index.put(bench.cluster.stored[KEY])
    second = await files.get(KEY)

    assert kube.reads == 2
    assert first[2] is first[0]
    assert second is not None
    assert second.metadata.labels == {"a": "b"}


async def test_a_file_that_the_index_does_not_know_is_not_kept():
    """Nobody would tell of its changes."""
    bench = Bench()
    bench.deployment("east")
    bench.file("team/east")
    kube = Counted(bench)
    files = RecentFiles(kube, Index())  # type: ignore[arg-type]

    await files.get(KEY)
    await files.get(KEY)

    assert kube.reads == 2


async def test_only_so_many_are_kept():
    """Memory does not grow with the number of files."""
    bench = Bench()
    bench.deployment("east")
    files = RecentFiles(Counted(bench), Index())  # type: ignore[arg-type]
    for at in range(KEPT + 5):
        bench.file("team/east", namespace=f"team-{at}")
        await files.get(Key("BatchFile", f"team-{at}", "questions"))

    assert len(files._kept) == KEPT
