"""Both providers' objects are read into one form."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
import pytest

from llmbatch.domain.errors import BadAnswer
from llmbatch.domain.remote import BatchError, BatchState, Counts, FileState
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


@pytest.mark.parametrize("written", [None, "", 0, "yesterday", 1e300])
def test_a_batch_without_a_time_is_no_answer_to_build_on(written: object):
    """Exactly-once goes by the time of creation, so that it is never guessed."""
    with pytest.raises(BadAnswer, match="when the batch was made"):
        wire.decode_batch(orjson.dumps(a_batch(created_at=written)))


def test_an_unknown_state_is_named():
    """A state that came with a newer API stops at the door, with its name."""
    with pytest.raises(BadAnswer, match="'paused'"):
        wire.decode_batch(b'{"id": "batch_1", "status": "paused", "created_at": 1}')
    with pytest.raises(BadAnswer, match="'quarantined'"):
        wire.decode_file(b'{"id": "file-1", "status": "quarantined"}', openai.FILE_STATES)


@pytest.mark.parametrize("body", [b"", b"null", b"<html>", b'{"id": 7}', b'{"id": "../files/1"}', b"\xff", b"[" * 9999])
def test_what_is_no_batch_is_a_bad_answer(body: bytes):
    """Nothing that a provider sends raises anything else, and an id cannot lead elsewhere."""
    with pytest.raises(BadAnswer):
        wire.decode_batch(body)


@pytest.mark.parametrize("field", ["id", "input_file_id", "output_file_id", "error_file_id"])
@pytest.mark.parametrize("forged", ["../batches/batch_1", "..", "a b", "file-1?x=1", "x" * 257])
def test_an_id_that_leads_elsewhere_is_a_bad_answer(field: str, forged: str):
    """Ids become paths of later calls, so that a provider's are not believed either."""
    with pytest.raises(BadAnswer, match="an id that cannot be one"):
        wire.decode_batch(orjson.dumps(a_batch(**{field: forged})))


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


def test_others_odd_batches_do_not_hide_ours():
    """A batch that cannot be read is left out of a list if its metadata is surely not ours."""
    odd = a_batch(id="batch_2", status="paused")

    assert wire.listed_batch(entry_of(a_batch())) == wire.decode_batch(orjson.dumps(a_batch()))
    assert wire.listed_batch(entry_of(odd)) is None


def test_a_batch_of_ours_in_an_unknown_state_does_not_stop_the_others():
    """In a list it counts as in progress, and the state is told; asked for by itself it is an error."""
    odd, told = a_batch(status="paused", metadata={"llmbatch-uid": "u-1"}), list[str]()

    listed = wire.listed_batch(entry_of(odd), told.append)

    assert listed is not None
    assert listed.state is BatchState.IN_PROGRESS
    assert told == ["'paused'"]


def test_our_tag_is_found_in_a_batch_that_cannot_be_read_at_all():
    """What may be ours is never left out of a listing, however the rest of it looks."""
    broken = {"id": 7, "metadata": {"llmbatch-job": "a/b"}}

    with pytest.raises(BadAnswer):
        wire.listed_batch(entry_of(broken))
    assert wire.listed_batch(entry_of({"id": 7})) is None


def test_the_longest_metadata_that_is_allowed_is_read():
    """Sixteen values of 512 characters come whole, even written as escapes; more than can be is no answer."""
    longest = {f"key-{n}": "\N{SLEEPING SYMBOL}" * 512 for n in range(16)}
    escaped = json.dumps(a_batch(metadata=longest)).encode()

    assert dict(wire.decode_batch(escaped).metadata) == longest
    with pytest.raises(BadAnswer, match="more metadata"):
        wire.decode_batch(orjson.dumps(a_batch(metadata={"a": "x" * 200_000})))


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
