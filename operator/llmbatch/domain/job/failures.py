"""What a failed batch means: whose fault it was and whether another try can help."""

from __future__ import annotations

from collections.abc import Sequence
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


QUOTA_CODES = frozenset(
    {
        "token_limit_exceeded",
        "enqueued_token_limit_exceeded",
        "token_limit",
        "rate_limit_exceeded",
        "too_many_requests",
        "too_many_tasks",
        "insufficient_quota",
        "quota_exceeded",
        "billing_hard_limit_reached",
    }
)
"""OpenAI and Azure OpenAI, of batches whose enqueued tokens do not fit."""
LOST_CODES = frozenset(
    {"file_not_found", "input_file_not_found", "invalid_input_file", "missing_file", "file_expired", "file_deleted"}
)
"""OpenAI accepts a batch on a file that is gone and says ``invalid_input_file`` a quarter of an hour later."""
INPUT_CODES = frozenset(
    {
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
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fault and a sentence for people; only codes and line numbers, the provider's words may hold content."""

    fault: Fault
    message: str


def classify(errors: Sequence[BatchError]) -> Verdict:
    """Sort a failed batch by its errors. No error, or an unknown one, is the service's fault."""
    codes = [error.code.lower() for error in errors]
    shown = ", ".join(_describe(error) for error in errors[:3]) or "no error code"
    if any(code in QUOTA_CODES for code in codes):
        return Verdict(Fault.QUOTA, f"the provider has no room for the batch ({shown})")
    if any(code in LOST_CODES for code in codes):
        return Verdict(Fault.INPUT_LOST, f"the provider lost its copy of the input ({shown})")
    if codes and all(code in INPUT_CODES for code in codes):
        return Verdict(Fault.INPUT, f"the provider refused the input ({shown}); mend it and make a new BatchFile")
    return Verdict(Fault.SERVICE, f"the provider failed the batch ({shown})")


def _describe(error: BatchError) -> str:
    code = "".join(letter for letter in error.code[:64] if letter.isalnum() or letter in "_-.") or "unnamed error"
    return f"{code} in line {error.line}" if error.line is not None else code
