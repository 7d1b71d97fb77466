"""From a provider's error answer to the one tree of errors.

Sources: OpenAI's error-code guide and batch guide, Microsoft's how-to page on batches and answers seen in public
issues. Providers' words may repeat what was sent, so they are kept only for codes whose words are known not to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import (
    BadAnswer,
    NotFound,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)

QUOTA_CODES = frozenset(
    {
        "token_limit_exceeded",
        "too_many_tasks",
        "insufficient_quota",
        "quota_exceeded",
        "quotaexceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "batch_limit_exceeded",
        "too_many_batches",
    }
)
"""Codes, in lower case, that say that there is no room now, whatever status they come with."""

QUOTED_CODES = QUOTA_CODES | frozenset(
    {
        "rate_limit_exceeded",
        "model_not_found",
        "empty_file",
        "mismatched_model",
        "model_mismatch",
        "url_mismatch",
        "mismatched_url",
        "batch_expired",
        "batch_cancelled",
    }
)
"""Codes whose message names models, limits and advice only."""

LONGEST_WAIT = 24 * 3600.0
"""Seconds; a Retry-After beyond it is taken for this much."""

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_ABOUT_THE_KEY = re.compile(r"key|authentic|credential|token|unauthori[sz]ed", re.IGNORECASE)
_LEADING_CODE = re.compile(r"(?=[a-z_]{3,64}(?::|\s|$))([a-z]+(?:_[a-z]+)+|[a-z]+(?=:))")
_LINE = re.compile(r"\bline (\d{1,9})\b", re.IGNORECASE)
_CREDENTIAL = re.compile(r"\b(?:sk|key|org|proj|Bearer)[-_ ][A-Za-z0-9_*.-]{6,}")
_ID_PARAMS = frozenset({"id", "batch_id", "file_id"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What an error answer says, made safe to show: anything odd is left out."""

    code: str = ""
    message: str = ""
    param: str = ""


def safe_code(value: object) -> str:
    """A provider's code if it looks like one, else nothing."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if _CODE.fullmatch(text) else ""


def safe_message(code: str, message: object) -> str:
    """A provider's words on one line of at most 256 characters, where its code says that they are harmless."""
    if code.lower() not in QUOTED_CODES or not isinstance(message, str):
        return ""
    text = " ".join("".join(c if c.isprintable() else " " for c in message[:1024]).split())
    text = _CREDENTIAL.sub("[redacted]", text)
    return text if len(text) <= 256 else text[:255] + "…"


def safe_details(details: object) -> str:
    """What a file's free-text details give away safely: the code they begin with, and a line number."""
    if not isinstance(details, str):
        return ""
    code, line = leading_code(details), line_in(details)
    return code + (f" (line {line})" if code and line is not None else "")


def leading_code(words: str) -> str:
    """The code that a provider's words begin with, if they do."""
    found = _LEADING_CODE.match(words.strip())
    return found[1] if found else ""


def line_in(words: str) -> int | None:
    """The number of the line that a provider's words name, if they do."""
    found = _LINE.search(words[:1024])
    return int(found[1]) if found else None


def parse_fault(body: bytes) -> Fault:
    """The code, words and parameter in an error body of either provider, or of the gateway before it."""
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Fault()
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return Fault()
    code = safe_code(error.get("code")) or safe_code(error.get("type"))
    param = error.get("param")
    return Fault(
        code=code,
        message=safe_message(code, error.get("message")),
        param=param if isinstance(param, str) and _PARAM.fullmatch(param) else "",
    )


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the provider asks to wait, from ``Retry-After`` in either of its forms (RFC 9110, 10.2.3).

    A date is measured against the answer's own ``Date``, so that a clock that is off does not matter.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST_WAIT)
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        until = _date(value)
        if until is None:
            return None
        seconds = max(0.0, (until - (_date(headers.get("date")) or now)).total_seconds())
    return min(seconds, LONGEST_WAIT)


def error_of(
    operation: str, status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, by_id: bool
) -> ProviderError:
    """The error that an answer without success stands for; ``by_id``: the path named one object."""
    fault = parse_fault(body)
    said = " ".join(filter(None, [str(status), fault.code, f"param {fault.param}" if fault.param else ""]))
    words = f": {fault.message}" if fault.message else ""
    wait = retry_after(headers, now)

    if 300 <= status < 400:
        return BadAnswer(f"{operation} was answered with a redirect ({said}), which is not followed", status=status)
    if status in (408, 409, 425) or status >= 500:
        message = f"the provider failed at {operation} ({said})"
        return Unavailable(message, code=fault.code, status=status, retry_after=wait)
    if fault.code.lower() in QUOTA_CODES:
        message = f"the provider has no room for {operation} now ({said}){words}"
        return QuotaExceeded(message, code=fault.code, status=status, retry_after=wait)
    if status == 429:
        message = f"the provider limits the rate of {operation} ({said}){words}"
        return RateLimited(message, code=fault.code, status=status, retry_after=wait)
    if status == 403 and fault.code and not (fault.code.isdecimal() or _ABOUT_THE_KEY.search(fault.code)):
        message = f"the key is good, but its account may not do {operation} ({said}){words}"
        return PermissionDenied(message, code=fault.code, status=status)
    if status in (401, 403):
        return Unauthorized(f"the provider refused the key at {operation} ({said})", code=fault.code, status=status)
    if by_id and (status == 404 or (status == 400 and fault.param in _ID_PARAMS)):
        return NotFound(f"the provider does not know the object of {operation} ({said})", code=fault.code, status=404)
    if status == 404:
        message = f"{operation} was not found ({said}){words}: check the endpoint's URL, its API version and the ids"
        return NotFound(message, code=fault.code, status=status)
    if status == 413:
        message = f"the provider takes no {operation} of this size ({said}){words}: divide the file"
        return Refused(message, reason=Reason.LIMIT_EXCEEDED, code=fault.code, status=status)
    reason = Reason.BATCH_REFUSED if operation == "batches.create" else Reason.PROVIDER_ERROR
    message = f"the provider refused {operation} ({said}){words}"
    return Refused(message, reason=reason, code=fault.code, status=status)


def _number(value: str | None) -> float | None:
    """A plain, finite, non-negative decimal number."""
    if value is None or not re.fullmatch(r"\s*\d{1,15}(?:\.\d{0,9})?\s*", value):
        return None
    return float(value)


def _date(value: str | None) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(value) if value else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if parsed is not None and parsed.tzinfo is None:
        return parsed.replace(tzinfo=UTC)
    return parsed
