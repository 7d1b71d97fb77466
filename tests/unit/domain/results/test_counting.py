"""Counting results and usage as result lines stream by."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbatch.api.batchjob import Usage
from llmbatch.api.modeldeployment import Pricing
from llmbatch.domain.errors import BadAnswer
from llmbatch.domain.results.cost import PriceBook, Tokens
from llmbatch.domain.results.counting import ResultCounter, Totals, tokens_of
from support.results import a_chat_usage, a_result, an_unanswered

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PRICING = Pricing(input_per_million_tokens="1", output_per_million_tokens="2")


def totals(output: bytes, errors: bytes = b"", *, step: int | None = None) -> Totals:
    """The totals of both files, fed whole or in steps."""
    counter = ResultCounter(PriceBook(PRICING, "openai", NOW))
    for data, feed in ((output, counter.feed_output), (errors, counter.feed_errors)):
        size = step or max(1, len(data))
        for at in range(0, len(data), size):
            feed(data[at : at + size])
    return counter.finish()


@pytest.mark.parametrize(
    ("line", "failed"),
    [
        (a_result(), False),
        (a_result(status=399), False),
        (a_result(status=400), True),
        (a_result(status=500), True),
        (a_result(error={"code": "x"}), True),
        (an_unanswered("batch_expired"), True),
        (b'{"response":{"status_code":200}}', False),
        (b'{"response":{"status_code":200,"body":"text"},"error":null}', False),
        (b"{}", True),
        (b'{"response":[],"error":null}', True),
        (b'{"response":{"status_code":"200"}}', True),
        (b'{"response":{"status_code":true}}', True),
        (b'{"response":{}}', True),
    ],
)
def test_a_line_is_answered_or_failed(line: bytes, failed: bool):
    """A status of 400 or more, an error, or no response make a failed line, in whichever file it is."""
    want = (0, 2) if failed else (2, 0)
    got = totals(line, line + b"\n")

    assert (got.lines_ok, got.lines_failed, got.lines) == (*want, 2)


def test_usage_is_added_up_over_both_files():
    """Input, cached, output and reasoning tokens of all lines are summed, failed ones too."""
    output = a_result(a_chat_usage(100, 50, cached=20, reasoning=30)) + b"\n" + a_result(a_chat_usage(7, 3))
    got = totals(output, a_result(a_chat_usage(1000, 0), status=500))

    assert got.usage == Usage(
        input_tokens=1107, cached_input_tokens=20, output_tokens=53, reasoning_tokens=30, total_tokens=1160
    )
    # 1,107 at 1 + 53 at 2 = 1,213 millionths.
    assert got.cost.amount == "0.001213"


@pytest.mark.parametrize(
    ("usage", "want"),
    [
        (a_chat_usage(10, 5, cached=4, reasoning=3), (Tokens(10, 4, 0, 5), 3)),
        (
            {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 3},
                "total_tokens": 15,
            },
            (Tokens(10, 4, 2, 5), 3),
        ),
        ({"prompt_tokens": 8, "total_tokens": 8}, (Tokens(8), 0)),
        ({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}, (Tokens(8, output=2), 0)),
        ({"prompt_tokens": 8, "prompt_tokens_details": None, "completion_tokens_details": []}, (Tokens(8), 0)),
        (
            {"prompt_tokens": 8, "prompt_tokens_details": {"audio_tokens": 3, "image_tokens": 2}},
            (Tokens(8, other=5), 0),
        ),
        (a_chat_usage(10, 5, cached=11, reasoning=6), (Tokens(10, 10, 0, 5), 5)),
        (a_chat_usage(-1, -5, cached=-2), (Tokens(), 0)),
        (a_chat_usage(1.0, "5", cached=True), (Tokens(), 0)),
        (a_chat_usage(None, [], cached={}), (Tokens(), 0)),
        (a_chat_usage(10**9, 10**9 + 1), (Tokens(10**9), 0)),
        (a_chat_usage(10**5000 // 7, 1), (Tokens(output=1), 0)),
        (None, (Tokens(), 0)),
        ([1], (Tokens(), 0)),
        ("text", (Tokens(), 0)),
        ({}, (Tokens(), 0)),
    ],
    ids=lambda value: None,
)
def test_usage_of_every_endpoint_is_understood(usage: Any, want: tuple[Tokens, int]):
    """Chat, responses, embeddings and completions; what can't be is 0, and a part is at most its whole."""
    assert tokens_of(usage) == want


@pytest.mark.parametrize(
    "body",
    [
        b'{"usage":{"prompt_tokens":' + b"9" * 400 + b',"completion_tokens":1}}',
        b'{"usage":{"prompt_tokens":1e999,"completion_tokens":1}}',
        b'{"usage":7,"model":7}',
        b"[1]",
        b"null",
        b'"\\u0000"',
    ],
)
def test_odd_bodies_count_as_answered(body: bytes):
    """A body that is not understood is still an answer, and its line does not stop the collection."""
    got = totals(b'{"response":{"status_code":200,"body":' + body + b'},"error":null}')

    assert (got.lines_ok, got.lines_failed, got.usage.input_tokens) == (1, 0, 0)


@pytest.mark.parametrize("bad", [a_result()[:-1], b"secret", b"[]", b"1", b'{"a":NaN}', b'{"a":' + b"[" * 100_000])
@pytest.mark.parametrize("name", ["output", "error"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_cut_file_is_not_taken_for_all_of_it(bad: bytes, name: str, end: bytes):
    """A line that is no whole object is an error that names file and line, says no content, and can be tried again."""
    data = a_result() + b"\n\n" + bad + end
    with pytest.raises(BadAnswer) as caught:
        totals(*((data,) if name == "output" else (b"", data)))

    assert f"line 3 of the {name} file" in caught.value.message
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert caught.value.retryable


def test_every_cut_of_a_file_is_noticed_but_between_lines():
    """Wherever a download ends inside a line, it is noticed."""
    line = a_result(a_chat_usage(1, 1))
    for at in range(1, len(line)):
        with pytest.raises(BadAnswer):
            totals(line[:at])


def test_more_results_than_requests_are_not_read():
    """A provider that sends lines without end is stopped, in whichever file they come; blank lines do not count."""
    counter = ResultCounter(PriceBook(PRICING, "openai", NOW), max_lines=3)
    counter.feed_output(b"{}\n\n{}\n")
    counter.feed_errors(b"{}\n")

    with pytest.raises(BadAnswer, match="more than 3 lines"):
        counter.feed_errors(b"{}\n")


@pytest.mark.parametrize(
    ("long", "want"),
    [
        (b'"status_code":200,"body":{"model":"m","usage":{"prompt_tokens":5,"x":[%s]}}', (1, 0)),
        (b'"status_code":200,"body":{"usage":{"prompt_tokens":5},"model":{"x":[%s]}}', (1, 5)),
        (b'"status_code":[%s],"body":{"usage":{"prompt_tokens":5}}', (0, 5)),
    ],
)
def test_values_that_are_too_long_are_not_decoded(long: bytes, want: tuple[int, int]):
    """What is decoded of a line is small, however much a provider puts there; the rest of the line still counts."""
    line = b'{"response":{' + long % (b"{}," * 10_000 + b"{}") + b"}}"

    found = totals(line)

    assert (found.lines_ok, found.usage.input_tokens) == want


def test_an_empty_file_is_no_error():
    """Azure makes an error file of 0 bytes for a batch in which all went well."""
    got = totals(a_result(), b"")

    assert (got.lines_ok, got.lines_failed) == (1, 0)
    assert totals(b"", b"").lines == 0


@given(st.lists(st.sampled_from([a_result(a_chat_usage(3, 2)), an_unanswered(), b"", b" \r"])), st.integers(1, 50))
def test_pieces_make_no_difference(lines: list[bytes], step: int):
    """Wherever the chunks are cut, and with either line ending, the totals are the same."""
    data = b"\n".join(lines)
    whole = totals(data, data)

    assert totals(data, data, step=step) == whole
    assert totals(data.replace(b"\n", b"\r\n"), data) == whole
    assert whole.lines == 2 * sum(1 for line in lines if line.strip())


@settings(max_examples=30)
@given(st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_no_value_anywhere_makes_it_fail(value: Any):
    """Whatever a provider puts in place of a response, a body, a model or usage, its lines are counted."""
    lines = [
        {"response": value},
        {"response": {"status_code": value, "body": value}},
        {"response": {"status_code": 200, "body": {"model": value, "usage": value}}},
        {"response": {"status_code": 200, "body": {"usage": {"prompt_tokens": value, "prompt_tokens_details": value}}}},
        {"error": value},
    ]
    got = totals(b"\n".join(json.dumps(line).encode() for line in lines))

    assert got.lines == 5
    assert got.lines_ok >= 2
