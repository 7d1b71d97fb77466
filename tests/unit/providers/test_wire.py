"""Both providers' objects are read into one form."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
import pytest

from llmbatch.domain.errors import BadAnswer
from llmbatch.domain.remote import BatchError, BatchState, Counts, FileState, UnreadableBatch
from llmbatch.providers import azure, openai, wire
from support.providers import a_batch


def entry_of(value: dict[str, Any]) -> msgspec.Raw:
    """An object as it comes in a page."""
    return msgspec.Raw(orjson.dumps(value))


@pytest.mark.parametrize(
    ("written", "state"),
    [
        ("validating", BatchState.VALIDATING),
        ("Validating", BatchState.VALIDATING),
        ("in_progress", BatchState.IN_PROGRESS),
        ("In_Progress", BatchState.IN_PROGRESS),
        ("InProgress", BatchState.IN_PROGRESS),
        ("Finalizing", BatchState.FINALIZING),
        ("Completed", BatchState.COMPLETED),
        ("FAILED", BatchState.FAILED),
        ("expired", BatchState.EXPIRED),
        ("Cancelling", BatchState.CANCELLING),
        ("canceled", BatchState.CANCELLED),
        ("queued", BatchState.VALIDATING),
        ("IN_QUEUE", BatchState.VALIDATING),
        ("pending", BatchState.VALIDATING),
        ("running", BatchState.IN_PROGRESS),
        ("Processing", BatchState.IN_PROGRESS),
        ("succeeded", BatchState.COMPLETED),
        ("done", BatchState.COMPLETED),
    ],
)
def test_a_state_is_one_however_it_is_written(written: str, state: BatchState):
    """Azure capitalises states, in more than one way."""
    assert wire.decode_batch(orjson.dumps(a_batch(status=written))).state is state


@pytest.mark.parametrize("nothing", ["", None])
def test_empty_text_and_null_are_absent(nothing: str | None):
    """Azure writes "" and null where OpenAI has values."""
    batch = wire.decode_batch(
        orjson.dumps(
            a_batch(
                output_file_id=nothing,
                error_file_id=nothing,
                errors=nothing,
                metadata=nothing,
                request_counts=nothing,
                expires_at=nothing,
            )
        )
    )

    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert (batch.errors, dict(batch.metadata), batch.counts) == ((), {}, Counts())


@pytest.mark.parametrize(
    "written", [1_767_225_600, 1_767_225_600.0, "1767225600", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"]
)
def test_times_come_in_many_forms(written: object):
    """Whole numbers, fractions, digits and ISO text are the same moment."""
    assert wire.decode_batch(orjson.dumps(a_batch(created_at=written))).created_at == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("written", [None, "", 0, "yesterday", 1e300, {}, True])
def test_a_time_that_is_none_is_not_guessed(written: object):
    """A batch is followed by its id and found by its tag, and needs no time for either."""
    assert wire.decode_batch(orjson.dumps(a_batch(created_at=written))).created_at is None


@pytest.mark.parametrize("written", ["paused", "", None, {}, 7])
def test_an_unknown_state_is_told(written: object):
    """A state that came with a newer API counts as in progress, and is kept for people to read."""
    batch = wire.decode_batch(orjson.dumps(a_batch(status=written)))

    assert (batch.state, bool(batch.unknown_state)) == (BatchState.IN_PROGRESS, True)
    assert batch.unknown_state == ("'paused'" if written == "paused" else "''")


@pytest.mark.parametrize(
    ("provider", "state"), [(openai, FileState.PROCESSED), (azure, FileState.PROCESSING)], ids=["openai", "azure"]
)
def test_an_unknown_state_of_a_file_counts_as_none(provider: Any, state: FileState):
    """It says as much as no state at all, and is kept for people to read."""
    file = wire.decode_file(b'{"id": "file-1", "status": "quarantined"}', provider.FILE_STATES)

    assert (file.state, file.unknown_state) == (state, "'quarantined'")


@pytest.mark.parametrize(
    "body", [b"", b"null", b"<html>", b'{"id": []}', b'{"id": "../files/1"}', b"\xff", b"[" * 9999]
)
def test_what_is_no_batch_is_a_bad_answer(body: bytes):
    """Nothing that a provider sends raises anything else, and an id cannot lead elsewhere."""
    with pytest.raises(BadAnswer):
        wire.decode_batch(body)


FORGED = ["../batches/batch_1", "..", "a/../../b", "a/%2e/..", "a\nb", " ", "x" * 1025, {}, [], False]


@pytest.mark.parametrize("forged", FORGED, ids=repr)
def test_an_id_that_leads_elsewhere_is_none(forged: object):
    """Ids become paths of later calls, so that a provider's are not believed either."""
    with pytest.raises(BadAnswer, match="no id"):
        wire.decode_batch(orjson.dumps(a_batch(id=forged)))
    odd = wire.decode_batch(orjson.dumps(a_batch(input_file_id=forged, output_file_id=forged, error_file_id=forged)))
    assert (odd.input_file_id, odd.output_file_id, odd.error_file_id) == (None, None, None)


@pytest.mark.parametrize("written", ["batches/k3x-9", "gs://bucket/a b/input.jsonl", "ocid1:x", "x" * 1024, "ü", 17])
def test_ids_are_whatever_a_provider_makes_them(written: object):
    """Paths, addresses, long ones and numbers are ids."""
    batch = wire.decode_batch(orjson.dumps(a_batch(id=written, input_file_id=written)))

    assert (batch.id, batch.input_file_id) == (str(written), str(written))


def test_an_answer_without_an_id_is_about_what_was_asked():
    """Who asks for one object knows its id."""
    assert wire.decode_batch(orjson.dumps(a_batch(id=None)), "batch_9").id == "batch_9"
    assert wire.decode_file(b'{"status": "processed"}', openai.FILE_STATES, "file-9").id == "file-9"


def test_each_field_is_read_by_itself():
    """One field of another type takes nothing from the others; numbers may be text."""
    batch = wire.decode_batch(
        orjson.dumps(
            a_batch(
                status="succeeded",
                error_file_id={},
                output_file_id="file-2",
                request_counts={"total": "42", "completed": 40.0, "failed": [2]},
                metadata={"llmbatch-uid": "u-1", "number": 7},
                errors=False,
            )
        )
    )

    assert (batch.state, batch.output_file_id, batch.error_file_id) == (BatchState.COMPLETED, "file-2", None)
    assert batch.counts == Counts(total=42, completed=40, failed=0)
    assert (dict(batch.metadata), batch.errors) == ({"llmbatch-uid": "u-1"}, ())


@pytest.mark.parametrize(
    ("written", "errors"),
    [
        (["bad_line: line 3 has no url", "my prompt is"], (BatchError("bad_line", "", 3),)),
        ([{"code": "x", "line": "4"}], (BatchError("x", "", 4),)),
        ({"code": "x", "message": "y"}, (BatchError("x", "", None),)),
        ({"object": "list", "data": None}, ()),
        ("it failed", ()),
    ],
)
def test_errors_come_in_many_forms(written: object, errors: tuple[BatchError, ...]):
    """In a list of objects or of texts, in ``data``, or as one alone."""
    assert wire.decode_batch(orjson.dumps(a_batch(errors=written))).errors == errors


def test_a_failed_batch_tells_its_errors_without_the_input():
    """Codes and lines are kept, words only of codes that never repeat what was sent."""
    batch = wire.decode_batch(
        orjson.dumps(
            a_batch(
                status="failed",
                errors={
                    "object": "list",
                    "data": [
                        {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None},
                        {"code": "duplicate_custom_id", "message": "The id 'patient-7' is there twice", "line": 3},
                        "nonsense",
                    ],
                },
            )
        )
    )

    assert batch.errors == (
        BatchError("token_limit_exceeded", "Enqueued token limit reached", None),
        BatchError("duplicate_custom_id", "", 3),
    )


def test_one_odd_batch_does_not_hide_the_others():
    """What cannot be read is left out of a list if it is surely not ours; ours stay, with the tag they have."""
    tag = {"llmbatch-uid": "u-1"}

    assert wire.listed_batch(entry_of(a_batch())) == wire.decode_batch(orjson.dumps(a_batch()))
    assert wire.listed_batch(entry_of(a_batch(id={}))) is None
    assert wire.listed_batch(msgspec.Raw(b'"text"')) is None
    assert wire.listed_batch(entry_of(a_batch(id={}, metadata=tag))) == UnreadableBatch(tag)
    assert wire.listed_batch(entry_of(a_batch(id=None, metadata=json.dumps(tag)))) == UnreadableBatch({})


def test_our_tag_is_read_from_any_metadata():
    """Sixteen values of 512 characters come whole, even written as escapes; of more, ours are kept."""
    longest = {f"key-{n}": "\N{SLEEPING SYMBOL}" * 512 for n in range(16)}
    many = {f"a{n}": "x" * 100_000 for n in range(40)} | {"llmbatch-uid": "u-1"}

    assert dict(wire.decode_batch(json.dumps(a_batch(metadata=longest)).encode()).metadata) == longest
    assert dict(wire.decode_batch(orjson.dumps(a_batch(metadata=many))).metadata) == {"llmbatch-uid": "u-1"}


def test_a_listing_goes_on_behind_the_last_id_that_can_be_had():
    """An object without an id at the end of a page does not end the listing."""
    page = wire.decode_page(b'{"data": [{"id": "a"}, {"id": "b"}, {"id": {}}, 7], "has_more": true}', 10)

    assert wire.last_id(page) == "b"
    assert wire.last_id(wire.decode_page(b'{"data": null, "has_more": "false"}', 10)) == ""


@pytest.mark.parametrize("purpose", [None, "", "batch", "Batch", "batch_input"])
def test_our_copies_are_found_whatever_their_purpose_is_called(purpose: str | None):
    """Results and files for other things are no inputs."""
    file = {"id": "file-1", "filename": "a.jsonl"}

    assert wire.listed_file(entry_of({**file, "purpose": purpose}), openai.FILE_STATES) is not None
    assert wire.listed_file(entry_of({**file, "purpose": "batch_output"}), openai.FILE_STATES) is None
    assert wire.listed_file(entry_of({**file, "purpose": "fine-tune"}), openai.FILE_STATES) is None


@pytest.mark.parametrize("body", [b"[%s1]" % (b"1," * 300_000), b'{"id":"batch_1","x":[%s1]}' % (b"{}," * 300_000)])
def test_an_answer_of_very_many_values_is_not_decoded(body: bytes):
    """Decoding it would hold up everyone else."""
    with pytest.raises(BadAnswer, match="too much"):
        wire.decode_batch(body)


def test_long_errors_are_left_out():
    """What a provider says of an error has no certain form, so that only so much of it is decoded."""
    data = [{"code": "empty_file", "line": 1}, {"code": "empty_file", "line": 2, "more": "x" * 20_000}]

    assert wire.decode_batch(orjson.dumps(a_batch(errors={"data": data}))).errors == (BatchError("empty_file", "", 1),)
    file = {"id": "file-1", "status": "error", "error": {"code": "invalidFile", "more": "x" * 20_000}}
    assert wire.decode_file(orjson.dumps(file), azure.FILE_STATES).error == "the provider could not process the file"


def test_an_object_in_a_page_is_bounded():
    """One object of a page cannot be as large as a page."""
    with pytest.raises(BadAnswer, match="bytes"):
        wire.listed_file(entry_of({"id": "file-1", "filename": "x" * 2_000_000}), openai.FILE_STATES)


@pytest.mark.parametrize(
    ("written", "at_openai", "at_azure"),
    [
        ("processed", FileState.PROCESSED, FileState.PROCESSED),
        ("Processed", FileState.PROCESSED, FileState.PROCESSED),
        ("uploaded", FileState.PROCESSED, FileState.PROCESSING),
        (None, FileState.PROCESSED, FileState.PROCESSING),
        ("error", FileState.ERROR, FileState.ERROR),
        ("failed", FileState.ERROR, FileState.ERROR),
        ("pending", FileState.PROCESSING, FileState.PROCESSING),
        ("succeeded", FileState.PROCESSED, FileState.PROCESSED),
    ],
)
def test_a_file_is_usable_when_its_provider_says_so(written: str | None, at_openai: FileState, at_azure: FileState):
    """OpenAI takes a file as it is; Azure must have processed it first."""
    body = orjson.dumps({"id": "file-1", "filename": "a.jsonl", "status": written, "expires_at": ""})

    assert wire.decode_file(body, openai.FILE_STATES).state is at_openai
    assert wire.decode_file(body, azure.FILE_STATES).state is at_azure


@pytest.mark.parametrize("written", ["pending", "notRunning", "running", "not_running"])
def test_azure_works_on_a_file_for_a_while(written: str):
    """All of Azure's names for it mean waiting."""
    body = orjson.dumps({"id": "file-1", "status": written})

    assert wire.decode_file(body, azure.FILE_STATES).state is FileState.PROCESSING


def test_a_bad_file_has_a_reason_that_quotes_nothing():
    """The reason is the provider's code, or at least that there is one."""
    told = {"id": "file-1", "status": "error", "status_details": "empty_file: nothing in 'patients'"}
    silent = {"id": "file-1", "status": "error"}
    structured = {"id": "file-1", "status": "error", "error": {"code": "invalidFile", "message": "has 'a prompt'"}}

    assert wire.decode_file(orjson.dumps(told), azure.FILE_STATES).error == "empty_file"
    assert wire.decode_file(orjson.dumps(silent), azure.FILE_STATES).error == "the provider could not process the file"
    assert wire.decode_file(orjson.dumps(structured), azure.FILE_STATES).error == "invalidFile"
