"""The wire format that OpenAI and Azure OpenAI share, read with patience for how they differ.

Azure writes ``""`` and null where OpenAI has values or nothing, and capitalises states; times come as whole numbers,
fractions or ISO text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from llmbatch.api import names
from llmbatch.domain.errors import BadAnswer
from llmbatch.domain.remote import BatchError, BatchState, Counts, FileState, RemoteBatch, RemoteFile
from llmbatch.providers.refusals import safe_code, safe_details, safe_message

T = TypeVar("T")
Moment = int | float | str | None
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:=~+-]{1,512}")
_TAG_KEYS = (names.TAG_UID, names.TAG_JOB)

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
    status_details: Any = None
    error: Any = None
    created_at: Moment = None
    expires_at: Moment = None


class WireCounts(msgspec.Struct, frozen=True):
    """A batch's request counts as they come."""

    total: int | float | None = None
    completed: int | float | None = None
    failed: int | float | None = None


class WireErrors(msgspec.Struct, frozen=True):
    """A batch's list of errors as it comes."""

    data: list[Any] | None = None


class WireBatch(msgspec.Struct, frozen=True):
    """A batch object as it comes."""

    id: str
    status: str | None = None
    created_at: Moment = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: WireCounts | str | None = None
    metadata: dict[str, Any] | str | None = None
    errors: WireErrors | str | None = None


class WireFiles(msgspec.Struct, frozen=True):
    """A page of files."""

    data: list[WireFile]
    has_more: bool | None = None
    last_id: str | None = None


class WireBatches(msgspec.Struct, frozen=True):
    """A page of batches."""

    data: list[WireBatch]
    has_more: bool | None = None
    last_id: str | None = None


_file = msgspec.json.Decoder(WireFile)
_files = msgspec.json.Decoder(WireFiles)
_batch = msgspec.json.Decoder(WireBatch)
_batches = msgspec.json.Decoder(WireBatches)


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


def decode_files(body: bytes, states: Mapping[str, FileState]) -> tuple[WireFiles, list[RemoteFile]]:
    """A page, and its files for batches. An unknown state counts as processing, as one odd file must not hide all."""
    page = _decode(_files, body, "a page of files")
    found = [
        _remote_file(wire, states.get(_plain(wire.status), FileState.PROCESSING))
        for wire in page.data
        if wire.purpose in (None, "", "batch")
    ]
    return page, found


def decode_batch(body: bytes) -> RemoteBatch:
    """One batch; BadAnswer where it cannot be understood or its state is unknown."""
    return _remote_batch(_decode(_batch, body, "a batch"))


def decode_batches(body: bytes) -> tuple[WireBatches, list[RemoteBatch]]:
    """A page, and its batches.

    A batch that cannot be understood is an error if its metadata may be ours, and left out if it surely is not: what
    others do in the account must not keep our own batches from being found.
    """
    page = _decode(_batches, body, "a page of batches")
    found: list[RemoteBatch] = []
    for wire in page.data:
        try:
            found.append(_remote_batch(wire))
        except BadAnswer:
            if any(key in _metadata(wire) for key in _TAG_KEYS):
                raise
    return page, found


def _decode(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswer(f"the provider's answer cannot be read as {what}") from None


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
    if isinstance(wire.error, dict):
        code = safe_code(wire.error.get("code"))
        return ": ".join(filter(None, [code, safe_message(code, wire.error.get("message"))]))
    return safe_details(wire.status_details)


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
    return wire.metadata if isinstance(wire.metadata, dict) else {}


def _errors(errors: WireErrors | str | None) -> tuple[BatchError, ...]:
    """At most 20 errors, with words only where they are harmless."""
    if not isinstance(errors, WireErrors):
        return ()
    found: list[BatchError] = []
    for entry in (errors.data or [])[:20]:
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
