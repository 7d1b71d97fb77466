"""The wire format that OpenAI gave and others took over, read with patience for how they differ.

Azure writes ``""`` and null where OpenAI has values or nothing, and capitalises states; others write ``{}`` for no
file, numbers as text, and states in words of their own; times come as whole numbers, fractions or ISO text. A field
that cannot be read counts as absent: only an id that cannot be had makes an object unreadable.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from llmbatch.api import names
from llmbatch.api.base import MAX_ID_CHARACTERS
from llmbatch.domain.errors import BadAnswer
from llmbatch.domain.remote import (
    BatchError,
    BatchState,
    Counts,
    FileState,
    RemoteBatch,
    RemoteFile,
    UnreadableBatch,
)
from llmbatch.providers.refusals import leading_code, line_in, safe_code, safe_details, safe_message

T = TypeVar("T", bound=msgspec.Struct)
Moment = int | float | str | None
Number = int | float | None
Identifier = str | int | None
_TAGS = frozenset({names.TAG_CLUSTER, names.TAG_JOB, names.TAG_UID, names.TAG_SHARD, names.TAG_ATTEMPT})
_TAG_KEYS = (names.TAG_UID.encode(), names.TAG_JOB.encode())
_NULL = msgspec.Raw(b"null")

ENTRY_BYTES = 1024 * 1024
"""Of one object in a page."""
METADATA_BYTES = 8 * 1024
"""Of one entry: 512 characters, even where all of them are written as escapes."""
METADATA_ENTRIES = 32
"""Twice as many as a batch can have."""
VALUE_BYTES = 16 * 1024
"""Of an error, or what else has no certain form; a longer one is left out."""
COMMAS = 200_000
"""In an answer, and 10 more for each object that a page may have: decoding is bounded by them as well as by length."""

_BATCH_STATES = {state.value.replace("_", ""): state for state in BatchState} | {
    "queued": BatchState.VALIDATING,
    "inqueue": BatchState.VALIDATING,
    "pending": BatchState.VALIDATING,
    "created": BatchState.VALIDATING,
    "submitted": BatchState.VALIDATING,
    "running": BatchState.IN_PROGRESS,
    "processing": BatchState.IN_PROGRESS,
    "succeeded": BatchState.COMPLETED,
    "success": BatchState.COMPLETED,
    "complete": BatchState.COMPLETED,
    "done": BatchState.COMPLETED,
    "finished": BatchState.COMPLETED,
    "error": BatchState.FAILED,
    "errored": BatchState.FAILED,
    "failure": BatchState.FAILED,
    "timeout": BatchState.EXPIRED,
    "canceling": BatchState.CANCELLING,
    "canceled": BatchState.CANCELLED,
}
_RESULT_PURPOSES = ("output", "error", "result")
"""In the names of purposes that no input of ours has, whatever a provider calls that of batches."""


class WireFile(msgspec.Struct, frozen=True):
    """A file object as it comes."""

    id: Identifier = None
    filename: str | None = None
    purpose: str | None = None
    bytes: Number = None
    status: str | None = None
    status_details: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL
    created_at: Moment = None
    expires_at: Moment = None


class WireCounts(msgspec.Struct, frozen=True):
    """A batch's request counts as they come."""

    total: Number = None
    completed: Number = None
    failed: Number = None


class WireBatch(msgspec.Struct, frozen=True):
    """A batch object as it comes."""

    id: Identifier = None
    status: str | None = None
    created_at: Moment = None
    input_file_id: Identifier = None
    output_file_id: Identifier = None
    error_file_id: Identifier = None
    request_counts: msgspec.Raw = _NULL
    metadata: msgspec.Raw = _NULL
    errors: msgspec.Raw = _NULL


class WirePage(msgspec.Struct, frozen=True):
    """A page of objects, each to be decoded by itself so that others get their turn between them."""

    data: list[msgspec.Raw] | None
    has_more: bool | None = None
    last_id: Identifier = None


class _WireID(msgspec.Struct, frozen=True):
    id: Identifier = None


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_decoders: Mapping[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (WireFile, WireBatch, WireCounts, WirePage, _WireID)
}


def is_id(value: str) -> bool:
    """Whether this can be an id of a provider's, some of which are paths (``batches/1``, ``gs://…``).

    Ids are escaped in the paths of calls; one that would lead elsewhere behind a proxy that undoes that is none.
    """
    return (
        0 < len(value) <= MAX_ID_CHARACTERS
        and value.isprintable()
        and not value.isspace()
        and not any(part in (".", "..") for part in re.split(r"[/\\?#]", value))
    )


def decode_file(body: bytes, states: Mapping[str, FileState], asked: str = "") -> RemoteFile:
    """One file, with the id that was ``asked`` for where it gives none; BadAnswer where it cannot be understood."""
    return _remote_file(_decode(WireFile, body, "a file"), states, asked)


def decode_page(body: bytes, most: int) -> WirePage:
    """A page of at most so many objects; BadAnswer where it is none, or has more."""
    page = _decode(WirePage, body, "a page", most)
    if len(page.data or ()) > most:
        raise BadAnswer(f"the provider's page has more than {most} objects")
    return page


def last_id(page: WirePage) -> str:
    """The id behind which the next page begins: the page's own, or the last that can be had; else empty."""
    if given := _optional_id(page.last_id):
        return given
    for entry in reversed(page.data or ()):
        with contextlib.suppress(BadAnswer):
            return _id(_decode(_WireID, entry, "an object with an id").id)
    return ""


def listed_file(entry: msgspec.Raw, states: Mapping[str, FileState]) -> RemoteFile | None:
    """A file of a page, or None where it is no input of a batch, or has no id."""
    wire = _decode(WireFile, _bounded(entry), "a file")
    purpose = (wire.purpose or "").lower()
    if _optional_id(wire.id) is None or (purpose and "batch" not in purpose):
        return None
    if any(word in purpose for word in _RESULT_PURPOSES):
        return None
    return _remote_file(wire, states)


def listed_batch(entry: msgspec.Raw) -> RemoteBatch | UnreadableBatch | None:
    """A batch of a page; None where it cannot be read and surely is not ours.

    What others do in the account must not keep our own batches from being found, and one of ours that cannot be read
    must not hide the others.
    """
    try:
        wire = _decode(WireBatch, _bounded(entry), "a batch")
        if _optional_id(wire.id) is not None:
            return _remote_batch(wire)
        metadata = _metadata(wire)
    except BadAnswer:
        metadata = {}
    ours = any(key in bytes(entry) for key in _TAG_KEYS)
    return UnreadableBatch(metadata) if ours else None


def decode_batch(body: bytes, asked: str = "") -> RemoteBatch:
    """One batch, with the id that was ``asked`` for where it gives none; BadAnswer where it cannot be understood."""
    return _remote_batch(_decode(WireBatch, body, "a batch"), asked)


def _decode(kind: type[T], body: bytes | msgspec.Raw, what: str, most: int = 0) -> T:
    if isinstance(body, bytes) and body.count(b",") > COMMAS + 10 * most:
        raise BadAnswer(f"the provider's answer is too much for {what}")
    try:
        try:
            decoded: T = _decoders[kind].decode(body)
        except msgspec.ValidationError:
            decoded = _patiently(kind, _fields.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
        raise BadAnswer(f"the provider's answer cannot be read as {what}") from None
    return decoded


def _patiently(kind: type[T], fields: Mapping[str, msgspec.Raw]) -> T:
    """Each field by itself; one that is of another type, and is no text of the right one, counts as absent."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        raw = fields.get(field.encode_name)
        for strict in (True, False):
            try:
                if raw is not None and field.name not in found:
                    found[field.name] = msgspec.json.decode(raw, type=field.type, strict=strict)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
    return kind(**found)


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


def _remote_file(wire: WireFile, states: Mapping[str, FileState], asked: str = "") -> RemoteFile:
    """A state that nobody knows counts as the one of a file of which the provider says nothing."""
    state, error = states.get(_plain(wire.status)), ""
    if state is FileState.ERROR:
        error = _file_error(wire) or "the provider could not process the file"
    return RemoteFile(
        id=_id(wire.id, asked),
        name=wire.filename or "",
        state=states[""] if state is None else state,
        bytes=_count(wire.bytes),
        created_at=_time(wire.created_at),
        expires_at=_time(wire.expires_at),
        error=error,
        unknown_state=_shown(wire.status) if state is None else "",
    )


def _file_error(wire: WireFile) -> str:
    error = _value(wire.error)
    if isinstance(error, dict):
        code = safe_code(error.get("code"))
        return ": ".join(filter(None, [code, safe_message(code, error.get("message"))]))
    return safe_details(_value(wire.status_details))


def _remote_batch(wire: WireBatch, asked: str = "") -> RemoteBatch:
    """A state that nobody knows counts as in progress, and is told."""
    state = _BATCH_STATES.get(_plain(wire.status))
    try:
        counts = _decode(WireCounts, wire.request_counts, "counts")
    except BadAnswer:
        counts = WireCounts()
    return RemoteBatch(
        id=_id(wire.id, asked),
        state=BatchState.IN_PROGRESS if state is None else state,
        created_at=_time(wire.created_at),
        input_file_id=_optional_id(wire.input_file_id),
        output_file_id=_optional_id(wire.output_file_id),
        error_file_id=_optional_id(wire.error_file_id),
        counts=Counts(_count(counts.total), _count(counts.completed), _count(counts.failed)),
        metadata=_metadata(wire),
        errors=_errors(wire.errors),
        unknown_state=_shown(wire.status) if state is None else "",
    )


def _metadata(wire: WireBatch) -> Mapping[str, str]:
    """The entries that are texts, as ours are. Whoever adds more than a batch can have takes nothing from them."""
    try:
        found = _fields.decode(wire.metadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    ours = sorted(found, key=lambda key: key not in _TAGS)[:METADATA_ENTRIES]
    values = {key: _value(found[key], METADATA_BYTES) for key in ours}
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _errors(raw: msgspec.Raw) -> tuple[BatchError, ...]:
    """At most 20 errors, with words only where they are harmless; they come as a list, in ``data``, or as one alone."""
    try:
        entries = _raw_list(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    return tuple(filter(None, (_error(_value(entry)) for entry in entries[:20])))


def _raw_list(raw: msgspec.Raw) -> list[msgspec.Raw]:
    if not bytes(raw).startswith(b"{"):
        return _raws.decode(raw)
    found = _fields.decode(raw)
    return _raw_list(found["data"]) if "data" in found else [raw]


def _error(entry: Any) -> BatchError | None:
    """One error, told as an object or in words, of which the code that they begin with and the line are kept."""
    if isinstance(entry, str):
        code, number = leading_code(entry), line_in(entry)
        return BatchError(code, "", number) if code or number is not None else None
    if not isinstance(entry, dict):
        return None
    code, line = safe_code(entry.get("code")), str(entry.get("line"))
    number = int(line) if line.isascii() and line.isdecimal() and len(line) < 10 else None
    return BatchError(code, safe_message(code, entry.get("message")), number)


def _plain(state: str | None) -> str:
    """A state in lower case and without separators: ``InProgress``, ``in_progress`` and ``In Progress`` are one."""
    return (state or "").lower().replace("_", "").replace("-", "").replace(" ", "")


def _shown(state: str | None) -> str:
    return repr(safe_code(state)) if state else "''"


def _id(value: Identifier, asked: str = "") -> str:
    found = asked if value in (None, "") else _optional_id(value)
    if not found:
        raise BadAnswer("the provider gave no id, or one that cannot be one")
    return found


def _optional_id(value: Identifier) -> str | None:
    text = str(value) if value is not None else ""
    return text if is_id(text) else None


def _count(value: Number) -> int:
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
