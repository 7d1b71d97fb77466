"""Whose fault a failed batch was, and what people are told of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llmbatch.domain.backoff import Backoff
from llmbatch.domain.job.failures import Fault, classify
from llmbatch.domain.remote import BatchError


@pytest.mark.parametrize(
    ("codes", "fault"),
    [
        ([], Fault.SERVICE),
        (["server_error"], Fault.SERVICE),
        (["a_code_of_next_year"], Fault.SERVICE),
        (["token_limit_exceeded"], Fault.QUOTA),
        (["Token_Limit_Exceeded"], Fault.QUOTA),
        (["server_error", "enqueued_token_limit_exceeded"], Fault.QUOTA),
        (["invalid_input_file"], Fault.INPUT_LOST),
        (["input_file_not_found"], Fault.INPUT_LOST),
        (["invalid_json_line"], Fault.INPUT),
        (["mismatched_model", "duplicate_custom_id"], Fault.INPUT),
        (["mismatched_url"], Fault.INPUT),
        (["invalid_json_line", "server_error"], Fault.SERVICE),
    ],
)
def test_the_codes_of_a_failed_batch_say_whose_fault_it_was(codes, fault):
    """Quota first; input only where all errors are about it; what is unknown is the service's."""
    assert classify([BatchError(code) for code in codes]).fault is fault


def test_people_are_told_codes_and_lines_but_not_the_providers_words():
    """The words may quote a prompt, and a code may be anything."""
    errors = [
        BatchError("invalid_json_line", "SECRET", 17),
        BatchError("code with <SECRET> words!", "SECRET"),
        BatchError("", "SECRET"),
        BatchError("fourth"),
    ]

    message = classify(errors).message

    assert "invalid_json_line in line 17" in message
    assert "codewithSECRETwords" in message
    assert "unnamed error" in message
    assert "fourth" not in message
    assert " SECRET" not in message


def test_waits_double_up_to_the_most():
    """Counted from the first failure; any number of tries is fine."""
    backoff = Backoff(timedelta(seconds=10), timedelta(seconds=60))

    waits = [backoff.wait(tries).total_seconds() for tries in (0, 1, 2, 3, 4, 10_000)]

    assert waits == [10, 10, 20, 40, 60, 60]
