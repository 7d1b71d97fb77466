"""What annotations say of a batch, whoever wrote them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbatch.domain.job.record import Pending, ShardRecord

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PENDING = Pending(2, "default/east", LATER, "file-1")
DEPLOYMENT, CREATE_PENDING, BATCH_ID = (f"llmbatch.dev/{name}" for name in ("deployment", "create-pending", "batch-id"))


def kept(record: ShardRecord, shard: int = 0) -> dict[str, str]:
    """The annotations that are left when a record is written."""
    return {name: value for name, value in record.annotations(shard).items() if value is not None}


@pytest.mark.parametrize("shard", [0, 3])
@pytest.mark.parametrize(
    "record", [ShardRecord(), ShardRecord().begun(PENDING), ShardRecord("default/east", batch_id="batch_1")]
)
def test_what_is_written_is_read_again(record, shard):
    """A record that was written to annotations is the same when it is read."""
    assert ShardRecord.read(kept(record, shard), shard, created=CREATED) == record


def test_the_names_are_those_that_others_rely_on():
    """The first shard's annotations have the plain names, the others carry their number."""
    assert set(kept(ShardRecord().begun(PENDING))) == {DEPLOYMENT, CREATE_PENDING}
    assert set(kept(ShardRecord().begun(PENDING), 2)) == {f"{DEPLOYMENT}.2", f"{CREATE_PENDING}.2"}
    assert json.loads(kept(ShardRecord().begun(PENDING))[CREATE_PENDING]) == {
        "attempt": 2,
        "deployment": "default/east",
        "time": "2026-01-02T03:04:05Z",
        "inputFileID": "file-1",
    }


def test_a_batch_takes_the_place_of_its_pending_create():
    """With the id of the batch the pending create is removed in the same write, and the route stays."""
    made = ShardRecord().begun(PENDING).created("batch_1")

    assert made.annotations(0) == {DEPLOYMENT: "default/east", CREATE_PENDING: None, BATCH_ID: "batch_1"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "1",
        '{"attempt":0,"deployment":"a/b","time":"2026-01-02T03:04:05Z"}',
        '{"attempt":1,"deployment":"nowhere","time":"2026-01-02T03:04:05Z"}',
        '{"attempt":1,"deployment":"a/b","time":"2026-01-02T03:04:05"}',
        '{"attempt":1,"deployment":"a/b","time":"yesterday"}',
        '{"attempt":"1","deployment":"a/b","time":"2026-01-02T03:04:05Z"}',
        "[" * 8000,
        '{"attempt":3,"deployment":"a/b","time":"2026-01-02T03:04:05Z"}' + " " * 9000,
    ],
)
def test_a_pending_create_that_makes_no_sense_is_looked_for_from_the_beginning(text):
    """Garbage counts as a create of attempt 1 since the job's creation, so that nothing is made before it is sought."""
    read = ShardRecord.read({CREATE_PENDING: text, DEPLOYMENT: "default/east"}, 0, created=CREATED)

    assert read.pending == Pending(1, "default/east", CREATED)


@pytest.mark.parametrize("route", ["", "east", "/east", "default/", "a/b/c", "a/\n", "a/" + "b" * 400])
def test_a_route_that_makes_no_sense_is_none(route):
    """A route that names no deployment counts as absent."""
    assert ShardRecord.read({DEPLOYMENT: route}, 0, created=CREATED).deployment is None


@pytest.mark.parametrize("batch_id", ["", "x" * 1025, "batch\n1", "batch\x00"])
def test_a_batch_id_that_makes_no_sense_is_none(batch_id):
    """An id that no provider would give counts as absent."""
    assert ShardRecord.read({BATCH_ID: batch_id}, 0, created=CREATED).batch_id is None


def test_a_difference_is_seen_in_each_annotation():
    """A record differs from annotations that lack one of its values or have one too many."""
    record = ShardRecord().begun(PENDING)

    assert not record.differs(kept(record), 0)
    assert record.differs({**kept(record), BATCH_ID: "batch_1"}, 0)
    assert record.differs({DEPLOYMENT: "default/east"}, 0)
    assert record.differs({**kept(record), DEPLOYMENT: "default/west"}, 0)


@given(st.dictionaries(st.sampled_from([DEPLOYMENT, CREATE_PENDING, BATCH_ID]), st.text()))
def test_nothing_that_people_write_is_too_much(annotations):
    """Whatever stands in the annotations, they can be read."""
    ShardRecord.read(annotations, 0, created=CREATED)


@pytest.mark.parametrize(
    "fields",
    [
        {"time": "0001-01-01T00:00:00+14:00"},
        {"deployment": "Default/EAST"},
        {"deployment": "default/east/west"},
        {"attempt": 10**30},
        {"attempt": True},
    ],
)
def test_a_pending_create_that_status_could_not_hold_is_one_since_the_creation(fields):
    """What somebody wrote there by hand must neither raise nor be believed; a batch is looked for all the same."""
    written = {"attempt": 2, "deployment": "default/east", "time": "2026-01-02T03:04:05Z", **fields}

    read = ShardRecord.read({CREATE_PENDING: json.dumps(written)}, 0, created=CREATED)

    assert read == ShardRecord(pending=Pending(1, "", CREATED))
