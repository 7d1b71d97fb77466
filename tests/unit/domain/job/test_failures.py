"""Whose fault a failed batch was, and what people are told of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llmbatch.domain.backoff import Backoff
from llmbatch.domain.job.failures import Fault, classify, enqueued_limit
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
        (["DeploymentNotFound"], Fault.INPUT),
        (["unsupported_parameter", "invalid-model"], Fault.INPUT),
    ],
)
def test_the_codes_of_a_failed_batch_say_whose_fault_it_was(codes, fault):
    """Quota first; input only where all errors are about it; what is unknown is the service's."""
    assert classify([BatchError(code) for code in codes]).fault is fault


@pytest.mark.parametrize("code", ["a_code_of_next_year", "invalid_input_file", ""])
def test_an_error_that_names_a_line_is_the_inputs(code: str):
    """Whatever it is called: another paid try reads the same line."""
    assert classify([BatchError(code, line=3), BatchError(code, line=7)]).fault is Fault.INPUT
    assert classify([BatchError("a_code_of_next_year", line=3), BatchError("server_error")]).fault is Fault.SERVICE
    assert classify([BatchError("token_limit_exceeded", line=1)]).fault is Fault.QUOTA


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("Enqueued token limit reached for gpt-4o. Limit: 90,000 enqueued tokens. Please try again.", 90_000),
        ("the number of enqueued tokens has surpassed the configured limit of 90K for the deployment", 90_000),
        ("a limit of 2M", 2_000_000),
        ("the limit is reached", None),
        ("limit: 1000kg", None),
    ],
)
def test_the_limit_of_enqueued_tokens_is_read_from_a_refusal(words: str, limit: int | None):
    """As OpenAI and Azure write it."""
    assert enqueued_limit([words]) == limit
    assert enqueued_limit(["Limit: 5", words, "nothing"]) == (limit or 5)


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
