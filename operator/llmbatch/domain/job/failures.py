"""What a failed batch means: whose fault it was and whether another try can help."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from llmbatch.domain.remote import BatchError


class Fault(Enum):
    """Who must do something."""

    QUOTA = auto()
    """The account had no room: wait or go elsewhere; never counted."""
    INPUT_LOST = auto()
    """The provider cannot read its copy of the input: upload it again, counted against backoffLimit."""
    INPUT = auto()
    """The input or the deployment is wrong: a person must mend it."""
    SERVICE = auto()
    """The provider failed: try again, counted against backoffLimit."""


def _plain(code: str) -> str:
    """A code in lower case without separators: ``DeploymentNotFound`` and ``deployment_not_found`` are one."""
    return re.sub(r"[_.\s-]", "", code.lower())


def _codes(*codes: str) -> frozenset[str]:
    return frozenset(map(_plain, codes))


QUOTA_CODES = _codes(
    "token_limit_exceeded",
    "enqueued_token_limit_exceeded",
    "token_limit",
    "rate_limit_exceeded",
    "too_many_requests",
    "too_many_tasks",
    "insufficient_quota",
    "quota_exceeded",
    "billing_hard_limit_reached",
)
"""OpenAI and Azure OpenAI, of batches whose enqueued tokens do not fit."""
LOST_CODES = _codes(
    "file_not_found", "input_file_not_found", "invalid_input_file", "missing_file", "file_expired", "file_deleted"
)
"""OpenAI accepts a batch on a file that is gone and says ``invalid_input_file`` a quarter of an hour later."""
INPUT_CODES = _codes(
    "invalid_json_line",
    "invalid_json",
    "empty_file",
    "empty_batch",
    "invalid_request",
    "invalid_url",
    "invalid_method",
    "missing_required_parameter",
    "mismatched_model",
    "model_mismatch",
    "model_not_found",
    "deployment_not_found",
    "duplicate_custom_id",
    "too_many_requests_in_file",
    "too_many_lines",
    "maximum_lines_exceeded",
    "file_too_large",
    "url_mismatch",
    "mismatched_url",
    "endpoint_mismatch",
    "unsupported_endpoint",
    "unsupported_model",
    "invalid_endpoint",
    "invalid_file_format",
    "content_filter",
    "invalid_file",
    "invalid_model",
    "unsupported_parameter",
    "unsupported_value",
)
_LIMIT = re.compile(r"\blimit(?: of|:)? *(\d[\d,]{0,15}) *([km]?)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fault and a sentence for people; only codes and line numbers, the provider's words may hold content."""

    fault: Fault
    message: str


def classify(errors: Sequence[BatchError]) -> Verdict:
    """Sort a failed batch by its errors. An error that names a line is the input's fault, whatever its code; no error,
    or an unknown one, is the service's."""
    codes = [_plain(error.code) for error in errors]
    shown = ", ".join(_describe(error) for error in errors[:3]) or "no error code"
    if any(code in QUOTA_CODES for code in codes):
        words = "".join(f": {error.message}" for error in errors[:1] if error.message)
        return Verdict(Fault.QUOTA, f"the provider has no room for the batch ({shown}){words}")
    about_input = [error.line is not None or code in INPUT_CODES for error, code in zip(errors, codes, strict=True)]
    if errors and all(about_input):
        return Verdict(Fault.INPUT, f"the provider refused the input ({shown}); mend it and make a new BatchFile")
    if any(code in LOST_CODES for code in codes):
        return Verdict(Fault.INPUT_LOST, f"the provider lost its copy of the input ({shown})")
    return Verdict(Fault.SERVICE, f"the provider failed the batch ({shown})")


def _describe(error: BatchError) -> str:
    code = "".join(letter for letter in error.code[:64] if letter.isalnum() or letter in "_-.") or "unnamed error"
    return f"{code} in line {error.line}" if error.line is not None else code


def enqueued_limit(words: Iterable[str]) -> int | None:
    """The most enqueued tokens that a provider takes in all, where what it says of a refusal names it; the last counts.

    OpenAI: ``Limit: 90,000 enqueued tokens``. Azure OpenAI: ``the configured limit of 90K``.
    """
    found = None
    for match in filter(None, map(_LIMIT.search, words)):
        found = int(match[1].replace(",", "")) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]
    return found
