"""The wire format that OpenAI and Azure OpenAI share, read with patience for how they differ.

Azure writes ``""`` and null where OpenAI has values or nothing, and capitalises states; times come as whole numbers,
fractions or ISO text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from llmbatch.api import names
from llmbatch.domain.errors import BadAnswer
from llmbatch.domain.remote import BatchError, BatchState, Counts, FileState, RemoteBatch, RemoteFile
from llmbatch.providers.refusals import safe_code, safe_details, safe_message

T = TypeVar("T")
Moment = int | float | str | None
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:=~+-]{1,256}")
_TAG_KEYS = (names.TAG_UID.encode(), names.TAG_JOB.encode())
_NULL = msgspec.Raw(b"null")

ENTRY_BYTES = 1024 * 1024
"""Of one object in a page."""
METADATA_BYTES = 128 * 1024
"""16 entries of 64 and 512 characters, even where all of them are written as escapes."""
VALUE_BYTES = 16 * 1024
"""Of an error, or what else has no certain form; a longer one is left out."""
COMMAS = 200_000
"""In an answer, and 10 more for each object that a page may have: decoding is bounded by them as well as by length."""

_BATCH_STATES = {state.value.replace("_", ""): state for state in BatchState} | {
    "canceling": BatchState.CANCELLING,
    "canceled": BatchState.CANCELLED,
}


class WireFile(msgspec.Struct, frozen=True):
    """A file object as it comes."""

    id: str
    filename: str | None = None
    purpose: str | None = None
    bytes: int | float | None = None
    status: str | None = None
    status_details: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL
    created_at: Moment = None
    expires_at: Moment = None


class WireCounts(msgspec.Struct, frozen=True):
    """A batch's request counts as they come."""

    total: int | float | None = None
    completed: int | float | None = None
    failed: int | float | None = None


class WireErrors(msgspec.Struct, frozen=True):
    """A batch's list of errors as it comes."""

    data: list[msgspec.Raw] | None = None


class WireBatch(msgspec.Struct, frozen=True):
    """A batch object as it comes."""

    id: str
    status: str | None = None
    created_at: Moment = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: WireCounts | str | None = None
    metadata: msgspec.Raw = _NULL
    errors: msgspec.Raw = _NULL


class WirePage(msgspec.Struct, frozen=True):
    """A page of objects, each to be decoded by itself so that others get their turn between them."""

    data: list[msgspec.Raw]
    has_more: bool | None = None
    last_id: str | None = None


class _WireID(msgspec.Struct, frozen=True):
    id: str


_file = msgspec.json.Decoder(WireFile)
_batch = msgspec.json.Decoder(WireBatch)
_errors_of = msgspec.json.Decoder(WireErrors)
_page = msgspec.json.Decoder(WirePage)
_id_of = msgspec.json.Decoder(_WireID)


def is_id(value: str) -> bool:
    """Whether this can be an id of a provider's; what cannot must not get into a path."""
    return _ID.fullmatch(value) is not None


def decode_file(body: bytes, states: Mapping[str, FileState]) -> RemoteFile:
    """One file; BadAnswer where it cannot be understood or its state is unknown."""
    wire = _decode(_file, body, "a file")
    state = states.get(_plain(wire.status))
    if state is None:
        raise BadAnswer(f"the provider reports a file in the unknown state {_shown(wire.status)}")
    return _remote_file(wire, state)


def decode_page(body: bytes, most: int) -> WirePage:
    """A page of at most so many objects; BadAnswer where it is none, or has more."""
    page = _decode(_page, body, "a page", most)
    if len(page.data) > most:
        raise BadAnswer(f"the provider's page has more than {most} objects")
    return page


def last_id(page: WirePage) -> str:
    """The id behind which the next page begins; empty where the page does not tell."""
    if page.last_id:
        return _id(page.last_id)
    return _id(_decode(_id_of, page.data[-1], "an object with an id").id) if page.data else ""


def listed_file(entry: msgspec.Raw, states: Mapping[str, FileState]) -> RemoteFile | None:
    """A file of a page, or None where it is not for batches.

    An unknown state counts as processing, as one odd file must not hide all.
    """
    wire = _decode(_file, _bounded(entry), "a file")
    if wire.purpose not in (None, "", "batch"):
        return None
    return _remote_file(wire, states.get(_plain(wire.status), FileState.PROCESSING))


def listed_batch(entry: msgspec.Raw, unknown: Callable[[str], None] = lambda state: None) -> RemoteBatch | None:
    """A batch of a page.

    One that cannot be understood is an error if it may be ours, and None if it surely is not: what others do in the
    account must not keep our own batches from being found. One of ours in a state that came with a newer API counts
    as in progress, so that it does not stop all others; ``unknown`` is told.
    """
    ours = any(key in bytes(entry) for key in _TAG_KEYS)
    try:
        wire = _decode(_batch, _bounded(entry), "a batch")
        if ours and _plain(wire.status) not in _BATCH_STATES:
            unknown(_shown(wire.status))
            wire = msgspec.structs.replace(wire, status=BatchState.IN_PROGRESS.value)
        return _remote_batch(wire)
    except BadAnswer:
        if ours:
            raise
        return None


def decode_batch(body: bytes) -> RemoteBatch:
    """One batch; BadAnswer where it cannot be understood or its state is unknown."""
    return _remote_batch(_decode(_batch, body, "a batch"))


def _decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, what: str, most: int = 0) -> T:
    if isinstance(body, bytes) and body.count(b",") > COMMAS + 10 * most:
        raise BadAnswer(f"the provider's answer is too much for {what}")
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswer(f"the provider's answer cannot be read as {what}") from None


def _bounded(entry: msgspec.Raw) -> msgspec.Raw:
    if memoryview(entry).nbytes > ENTRY_BYTES:
        raise BadAnswer(f"the provider lists an object of more than {ENTRY_BYTES} bytes")
    return entry


def _value(raw: msgspec.Raw, most: int = VALUE_BYTES) -> Any:
    """What a value without a certain form is, or None where it is long or cannot be held."""
    if memoryview(raw).nbytes > most:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _remote_file(wire: WireFile, state: FileState) -> RemoteFile:
    error = ""
    if state is FileState.ERROR:
        error = _file_error(wire) or "the provider could not process the file"
    return RemoteFile(
        id=_id(wire.id),
        name=wire.filename or "",
        state=state,
        bytes=_count(wire.bytes),
        created_at=_time(wire.created_at),
        expires_at=_time(wire.expires_at),
        error=error,
    )


def _file_error(wire: WireFile) -> str:
    error = _value(wire.error)
    if isinstance(error, dict):
        code = safe_code(error.get("code"))
        return ": ".join(filter(None, [code, safe_message(code, error.get("message"))]))
    return safe_details(_value(wire.status_details))


def _remote_batch(wire: WireBatch) -> RemoteBatch:
    state = _BATCH_STATES.get(_plain(wire.status))
    if state is None:
        raise BadAnswer(f"the provider reports a batch in the unknown state {_shown(wire.status)}")
    created_at = _time(wire.created_at)
    if created_at is None:
        raise BadAnswer("the provider does not say when the batch was made")
    counts = wire.request_counts if isinstance(wire.request_counts, WireCounts) else WireCounts()
    return RemoteBatch(
        id=_id(wire.id),
        state=state,
        created_at=created_at,
        input_file_id=_optional_id(wire.input_file_id),
        output_file_id=_optional_id(wire.output_file_id),
        error_file_id=_optional_id(wire.error_file_id),
        counts=Counts(_count(counts.total), _count(counts.completed), _count(counts.failed)),
        metadata={key: value for key, value in _metadata(wire).items() if isinstance(value, str)},
        errors=_errors(wire.errors),
    )


def _metadata(wire: WireBatch) -> Mapping[str, Any]:
    if memoryview(wire.metadata).nbytes > METADATA_BYTES:
        raise BadAnswer("the provider gives a batch more metadata than it can have")
    found = _value(wire.metadata, METADATA_BYTES)
    return found if isinstance(found, dict) else {}


def _errors(raw: msgspec.Raw) -> tuple[BatchError, ...]:
    """At most 20 errors, with words only where they are harmless."""
    try:
        errors = _errors_of.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return ()
    found: list[BatchError] = []
    for entry in map(_value, (errors.data or [])[:20]):
        if isinstance(entry, dict):
            code, line = safe_code(entry.get("code")), entry.get("line")
            valid = isinstance(line, int) and not isinstance(line, bool) and line >= 0
            found.append(BatchError(code, safe_message(code, entry.get("message")), line if valid else None))
    return tuple(found)


def _plain(state: str | None) -> str:
    """A state in lower case and without separators: ``InProgress``, ``in_progress`` and ``In Progress`` are one."""
    return (state or "").lower().replace("_", "").replace("-", "").replace(" ", "")


def _shown(state: str | None) -> str:
    return repr(safe_code(state)) if state else "''"


def _id(value: str) -> str:
    if not is_id(value):
        raise BadAnswer("the provider gave an id that cannot be one")
    return value


def _optional_id(value: str | None) -> str | None:
    return _id(value) if value else None


def _count(value: int | float | None) -> int:
    return int(value) if value is not None and 0 <= value < 2**63 else 0


def _time(value: Moment) -> datetime | None:
    """A time in seconds since 1970 or ISO 8601; nothing, nought and nonsense are no time."""
    if value is None or value == "" or value == 0:
        return None
    try:
        if isinstance(value, str):
            if re.fullmatch(r"\d{1,12}(\.\d+)?", value):
                return datetime.fromtimestamp(float(value), UTC)
            parsed = datetime.fromisoformat(value)
            return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
