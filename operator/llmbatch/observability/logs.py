"""Logs: one line a record, as JSON or text, that never hold a secret, a prompt or a completion.

A record of ours says what it is about with ``extra={"fields": {...}}`` or through ``bound``. Tracebacks show where
and which type: the words of an exception are shown only if it is one of ours, since those of pydantic, an HTTP
library or the standard library can quote what they failed on.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

import orjson

from llmbatch.domain.errors import LLMBatchError

OURS = "llmbatch"
FOREIGN_LENGTH = 500
FRAMES = 12
CHAIN = 5
RESERVED = frozenset({"time", "level", "logger", "message", "error"})

Format = Literal["json", "text"]


class Bound(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records all carry the same fields; a record may add its own."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the fields of the logger and of the record."""
        extra = dict(kwargs.get("extra") or {})
        extra["fields"] = {**(self.extra or {}), **extra.get("fields", {})}
        return msg, {**kwargs, "extra": extra}


def bound(logger: logging.Logger, **fields: str | int | float | None) -> Bound:
    """A logger for one job: ``namespace``, ``name``, ``deployment``, ``batch_id``; None leaves a field out."""
    return Bound(logger, {key: value for key, value in fields.items() if value is not None})


def configure(format_: Format, *, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send everything to ``stream`` (standard output), and let other people's libraries only warn."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JSONFormatter() if format_ == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(level)
    logging.captureWarnings(capture=True)
    # A record that cannot be written would otherwise be printed with its arguments to standard error.
    logging.raiseExceptions = False


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, milliseconds), level, logger, message, fields, error."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        entry: dict[str, Any] = {
            "time": timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": safe_message(record),
        }
        entry.update({key: value for key, value in fields_of(record).items() if key not in RESERVED})
        if error := _error_of(record):
            entry["error"] = told(error)
        return orjson.dumps(entry, default=_type_name, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """One line for people, with the fields behind it; a traceback follows indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        fields = " ".join(f"{key}={_one_line(str(value))}" for key, value in fields_of(record).items())
        line = f"{timestamp(record)} {record.levelname:<7} {record.name}: {_one_line(safe_message(record))}"
        lines = [f"{line}  {fields}" if fields else line]
        if error := _error_of(record):
            lines += [f"    {line}" for line in told(error)]
        return "\n".join(lines)


def timestamp(record: logging.LogRecord) -> str:
    """When the record was made, in UTC."""
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """What the record is about."""
    fields = record.__dict__.get("fields")
    return fields if isinstance(fields, Mapping) else {}


def safe_message(record: logging.LogRecord) -> str:
    """The message; of other people's records only the first line and no exception's words."""
    if record.name.partition(".")[0] == OURS:
        return _message(record)
    if isinstance(record.args, tuple) and any(isinstance(given, BaseException) for given in record.args):
        given = tuple(type(arg).__name__ if isinstance(arg, BaseException) else arg for arg in record.args)
        record = logging.makeLogRecord({**record.__dict__, "args": given})
    first, _, _ = _message(record).partition("\n")
    # asyncio and others write what a task ended with as repr into the message.
    return first[:FOREIGN_LENGTH]


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} (its arguments do not fit)"


def told(error: BaseException) -> list[str]:
    """An exception and what caused it, as lines: types, places, and the words of our own errors."""
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < CHAIN:
        seen.add(id(current))
        words = f": {current.message}" if isinstance(current, LLMBatchError) else ""
        lines.append(f"{type(current).__module__}.{type(current).__qualname__}{words}")
        lines += _places(current.__traceback__)
        if isinstance(current, BaseExceptionGroup):
            lines += [f"  with {type(inner).__qualname__}" for inner in current.exceptions[:CHAIN]]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return lines


def _places(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-FRAMES:]
    # Neither source lines nor locals: both can hold what the code was working on.
    return [f"  at {frame.name} ({_module_path(frame.filename)}:{frame.lineno})" for frame in frames]


def _module_path(file: str) -> str:
    """The path from the package on, which is the same wherever it is installed."""
    for mark in ("/site-packages/", "/operator/", "/lib/python"):
        _, found, rest = file.rpartition(mark)
        if found:
            return rest
    return file


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _one_line(text: str) -> str:
    """Text without line breaks and without what a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _type_name(value: object) -> str:
    return str(value) if isinstance(value, datetime) else type(value).__name__
