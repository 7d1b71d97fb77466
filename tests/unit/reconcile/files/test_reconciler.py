"""Files and their copies when something goes wrong in between."""

from __future__ import annotations

import pytest

from llmbatch.api import ModelDeployment
from llmbatch.api.names import FINALIZER
from llmbatch.domain.errors import Unavailable
from llmbatch.domain.remote import FileState
from llmbatch.engine.queue import Key
from llmbatch.kube.client import NamespaceView
from llmbatch.kube.errors import Forbidden, Unreachable
from llmbatch.reconcile.abandonment import PATIENCE
from llmbatch.reconcile.deployments.tenancy import LABELS_AGE
from support.file_bench import HOME, QUESTIONS, SHARED, FileBench

EAST = Key(ModelDeployment.KIND, HOME, "east")
GOLD = {"from": "Selector", "selector": {"matchLabels": {"tier": "gold"}}}


@pytest.fixture
def bench() -> FileBench:
    """A process in virtual time."""
    return FileBench()


async def uploaded(bench: FileBench) -> None:
    """The file is on `east`."""
    bench.file()
    await bench.reconcile()
    assert [entry.state for entry in bench.stored().status.deployments] == ["Processed"]


# --- deployments that go ----------------------------------------------------------------------------------------------


async def test_a_deployment_whose_provider_is_gone_is_let_go_when_its_patience_is_over(bench):
    """A living file has a copy there that nobody can delete any more: it is told of, and holds up nothing."""
    east = bench.deployment()
    await uploaded(bench)
    east.error = Unavailable("nobody there")
    bench.delete(EAST)
    bench.clock.step(PATIENCE.total_seconds() - 1)
    await bench.reconcile()
    await bench.reconcile(EAST)
    assert EAST in bench.api.stored
    assert bench.abandoned == 0
    bench.clock.step(1)

    await bench.reconcile()
    await bench.reconcile(EAST)

    assert EAST not in bench.api.stored
    assert bench.stored().status.deployments == []
    assert bench.abandoned == 1
    assert bench.api.events == [
        "ModelDeployment CleanupAbandoned: given up, left behind: copies of BatchFile team/questions"
    ]


async def test_a_deployment_that_waits_describes_the_generation_it_is_told_of(bench):
    """Whoever looks at observedGeneration sees that the deletion was taken in."""
    bench.deployment()
    await uploaded(bench)
    bench.api.edit(EAST, generation=2)
    bench.delete(EAST)

    await bench.reconcile(EAST)

    stored = bench.api.stored[EAST]
    assert stored.status.conditions[0].reason == "DeletionWaits"
    assert stored.status.observed_generation == 2


# --- writes that are lost ---------------------------------------------------------------------------------------------


async def test_an_upload_whose_status_was_not_written_is_found_and_not_repeated(bench):
    """The API server was away when the copy's id was to be written."""
    east = bench.deployment()
    bench.file()
    bench.api.lost_writes.append(Unreachable("away"))
    with pytest.raises(Unreachable):
        await bench.reconcile()
    assert list(east.files) == ["file-1"]

    await bench.reconcile()

    assert east.uploads == 1
    assert [entry.files[0].file_id for entry in bench.stored().status.deployments] == ["file-1"]


async def test_an_upload_whose_status_was_not_written_goes_with_the_file(bench):
    """No status tells of the copy, so it is looked for by its name."""
    east = bench.deployment()
    bench.file()
    bench.api.lost_writes.append(Unreachable("away"))
    with pytest.raises(Unreachable):
        await bench.reconcile()
    bench.delete(QUESTIONS)

    await bench.reconcile()

    assert QUESTIONS not in bench.api.stored
    assert east.files == {}


async def test_copies_that_another_process_lost_sight_of_go_with_the_file(bench):
    """One id is known and another copy bears the name: this process was not there from the beginning, so it looks."""
    east = bench.deployment()
    name = bench.file()
    await bench.reconcile()
    east.hold("file-late", name)
    bench.restart()
    bench.delete(QUESTIONS)

    await bench.reconcile()

    assert QUESTIONS not in bench.api.stored
    assert east.files == {}


async def test_files_of_the_process_that_began_them_are_deleted_without_a_listing(bench):
    """A listing of an account's files is long, and nothing can be there that no status tells of."""
    east = bench.deployment()
    await uploaded(bench)
    bench.delete(QUESTIONS)

    await bench.reconcile()

    assert QUESTIONS not in bench.api.stored
    assert (east.files, east.listings) == ({}, 0)


# --- copies that are read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False])
async def test_a_copy_is_not_deleted_while_a_batch_may_read_it(bench, running):
    """Of several copies of a name the spare ones stay until no batch of the file runs there."""
    east = bench.deployment()
    name = bench.file(finalizers=[FINALIZER])
    east.hold("file-read", name, state=FileState.ERROR)
    east.hold("file-good", name)
    if running:
        bench.job(batch_id="batch_1")

    await bench.reconcile()

    assert sorted(east.files) == (["file-good", "file-read"] if running else ["file-good"])
    assert [entry.files[0].file_id for entry in bench.stored().status.deployments] == ["file-good"]


# --- namespaces -------------------------------------------------------------------------------------------------------


async def test_copies_stay_while_nobody_can_say_whether_the_namespace_is_selected(bench):
    """An API server that fails to show a namespace has not taken its labels away."""
    east = bench.deployment(namespace=SHARED, allowedNamespaces=GOLD)
    bench.api.namespaces[HOME] = NamespaceView({"tier": "gold"}, terminating=False)
    await uploaded(bench)
    bench.clock.step(LABELS_AGE + 1)
    bench.api.namespace_error = Unreachable("away")

    with pytest.raises(Unreachable):
        await bench.reconcile()

    assert list(east.files) == ["file-1"]
    bench.api.namespace_error = None
    await bench.reconcile()
    assert list(east.files) == ["file-1"]


async def test_copies_go_when_the_namespace_may_not_be_read_any_more(bench):
    """Without the right to read namespaces a selector admits none."""
    east = bench.deployment(namespace=SHARED, allowedNamespaces=GOLD)
    bench.api.namespaces[HOME] = NamespaceView({"tier": "gold"}, terminating=False)
    await uploaded(bench)
    bench.clock.step(LABELS_AGE + 1)
    bench.api.namespace_error = Forbidden("namespaces may not be read")

    await bench.reconcile()

    assert east.files == {}
    assert bench.stored().status.deployments == []
