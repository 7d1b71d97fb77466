"""Results into ConfigMaps and Secrets."""

from __future__ import annotations

import pytest

from llmbatch.api import batchjob
from llmbatch.domain.errors import OutputConflict, OutputTooLarge
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.storage import ERRORS, OUTPUT, SUMMARY, Ambient, Sink, sink_for
from llmbatch.storage.sink import MAX_OBJECT_BYTES
from support.stored_objects import Networks, StoredObjects

OWNER = OutputOwner(name="run-1", namespace="team", uid="uid-1")
KEY = ("ConfigMap", "team", "results")


def a_sink(objects: StoredObjects, **output: object) -> Sink:
    wanted = batchjob.Output.model_validate(output or {"configMap": {"name": "results"}})
    return sink_for(wanted, OWNER, objects, Networks(), Ambient())


@pytest.mark.parametrize(
    ("field", "kind", "location"),
    [("configMap", "ConfigMap", "configmap/results"), ("secret", "Secret", "secret/results")],
)
async def test_files_are_keys_and_empty_ones_are_left_out(field: str, kind: str, location: str) -> None:
    """What was written in pieces is one value under the file's name; a file without a byte has none."""
    objects = StoredObjects()
    sink = a_sink(objects, **{field: {"name": "results"}})
    async with sink.open() as writer:
        await writer.write(OUTPUT, b"a\n")
        await writer.write(ERRORS, b"")
        await writer.write(OUTPUT, b"\xff\n")
        await writer.write(SUMMARY, b"{}")
        assert await writer.commit() == 6
    assert sink.location == location
    assert objects.data == {(kind, "team", "results"): {"output.jsonl": b"a\n\xff\n", "summary.json": b"{}"}}


async def test_without_a_commit_nothing_is_written() -> None:
    """A collection that breaks off leaves no half of its results."""
    objects = StoredObjects()
    async with a_sink(objects).open() as writer:
        await writer.write(OUTPUT, b"a\n")
    assert objects.data == {}


async def test_collecting_twice_leaves_the_same() -> None:
    """The second time overwrites, it does not add."""
    objects = StoredObjects()
    for _ in range(2):
        async with a_sink(objects).open() as writer:
            await writer.write(OUTPUT, b"a\n")
            await writer.commit()
    assert objects.data == {KEY: {"output.jsonl": b"a\n"}}


async def test_exactly_the_limit_fits_and_one_byte_more_does_not() -> None:
    """All files together count; what is too much is refused at once, naming the way out."""
    objects = StoredObjects()
    async with a_sink(objects).open() as writer:
        await writer.write(OUTPUT, b"x" * (MAX_OBJECT_BYTES - 1))
        await writer.write(ERRORS, b"x")
        assert await writer.commit() == MAX_OBJECT_BYTES
    async with a_sink(objects).open() as writer:
        await writer.write(OUTPUT, b"x" * MAX_OBJECT_BYTES)
        with pytest.raises(OutputTooLarge, match=r"output\.url"):
            await writer.write(ERRORS, b"x")


async def test_an_object_of_someone_else_is_found_before_anything_is_spent() -> None:
    """The conflict is seen by the check, which writes nothing, and by the commit, which overwrites nothing."""
    objects = StoredObjects({KEY: {"precious": b"1"}}, owners={KEY: "uid-2"})
    with pytest.raises(OutputConflict):
        await a_sink(objects).check()
    async with a_sink(objects).open() as writer:
        with pytest.raises(OutputConflict):
            await writer.commit()
    assert objects.data[KEY] == {"precious": b"1"}


@pytest.mark.parametrize("retain", [True, False])
async def test_retain_is_passed_on(*, retain: bool) -> None:
    """Whether the object outlives the job is the user's choice."""
    objects = StoredObjects()
    async with a_sink(objects, configMap={"name": "results", "retain": retain}).open() as writer:
        await writer.commit()
    assert (KEY in objects.retained) is retain
