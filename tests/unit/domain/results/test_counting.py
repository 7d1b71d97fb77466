"""Counting results and usage as result lines stream by."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbatch.api.batchjob import Usage
from llmbatch.api.modeldeployment import Pricing
from llmbatch.domain.errors import BadAnswer
from llmbatch.domain.requests.validation import InputCheck
from llmbatch.domain.results.cost import PriceBook, Tokens
from llmbatch.domain.results.counting import RESULT_LINE_BYTES, ResultCounter, Totals, tokens_of
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
        (b'{"response":{"status_code":"200"}}', False),
        (b'{"response":{"status_code":200.0}}', False),
        (b'{"response":{"status_code":"400"}}', True),
        (b'{"response":{"status_code":"good"}}', True),
        (b'{"response":{"status_code":200},"error":{}}', False),
        (b'{"response":{"status_code":200},"error":""}', False),
        (b'{"response":{"status_code":true}}', True),
        (b'{"response":{}}', True),
    ],
)
def test_a_line_is_answered_or_failed(line: bytes, failed: bool):
    """A status of 400 or more, an error, or no response make a failed line, in whichever file it is."""
    for got in (totals(line), totals(b"", line + b"\n")):
        assert (got.lines_ok, got.lines_failed) == ((0, 1) if failed else (1, 0))


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
        (a_chat_usage(1.0, "5", cached=True), (Tokens(1, output=5), 0)),
        (a_chat_usage(1.5, "five"), (Tokens(), 0)),
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


@pytest.mark.parametrize("bad", [a_result()[:-1], b"secret", b"[]", b"1", b"\x00\x00", b'{"a":' + b"[" * 100_000])
@pytest.mark.parametrize("name", ["output", "error"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_nobody_understands_takes_nothing_from_the_others(bad: bytes, name: str, end: bytes):
    """It counts as failed, in its file, and all other lines as what they are."""
    data = a_result() + b"\n\n" + bad + end
    got = totals(*((data,) if name == "output" else (b"", data)))

    assert (got.lines_ok, got.lines_failed, got.unreadable) == (1, 1, 1)
    assert got.failed_in == {name}


def test_a_line_beyond_all_bounds_counts_as_unreadable():
    """It is not held; those around it count."""
    long = b'{"a":"' + b"x" * RESULT_LINE_BYTES + b'"}'
    got = totals(a_result() + b"\n" + long + b"\n" + a_result(), step=1024 * 1024)

    assert (got.lines_ok, got.unreadable) == (2, 1)


@pytest.mark.parametrize(
    ("written", "want"),
    [
        (b'"text \\ud83d"', "half of a pair"),
        (b"NaN", "not a number"),
        (b"-Infinity", "infinite"),
        (b'"a\x00b"', "NUL"),
        (b'"a\x1bb"', "a control character"),
        (b'"\xff"', "no UTF-8"),
    ],
)
def test_what_strict_json_refuses_is_read_with_patience(written: bytes, want: str):
    """The line is counted as what it is, with its usage."""
    usage = b'"usage":{"prompt_tokens":100,"completion_tokens":50}'
    line = b'{"custom_id":"1","response":{"status_code":200,"body":{"x":' + written + b"," + usage + b'}},"error":null}'
    got = totals(line)

    assert (got.lines_ok, got.unreadable, got.usage.input_tokens, got.usage.output_tokens) == (1, 0, 100, 50), want


@pytest.mark.parametrize("depth", [*range(100, 1000, 100), *range(960, 1000), 100_000])
@pytest.mark.parametrize("odd", [b"NaN", b'"\\ud83d"', b"7"])
def test_no_depth_of_nesting_takes_results_from_the_others(depth: int, odd: bytes):
    """A line that needs patience and is nested deep is understood, or it is one that nobody understands."""
    deep = b'{"response":{"status_code":200,"body":{"x":' + odd + b',"y":' + b"[" * depth + b"]" * depth + b"}}}"
    got = totals(deep + b"\n" + a_result())

    assert got.lines_ok == 2 - got.unreadable
    assert got.unreadable == (depth == 100_000) or depth > 900


CASES = Path(__file__).resolve().parents[3] / "support" / "cases" / "results"


@pytest.mark.parametrize(
    ("name", "ok", "failed", "unreadable", "repeated", "tokens"),
    [
        ("lone-surrogate", 3, 0, 0, 0, (300, 150)),
        ("not-a-number", 3, 0, 0, 0, (300, 150)),
        ("cut-line", 2, 1, 1, 0, (200, 100)),
        ("usage-missing", 3, 0, 0, 0, (200, 100)),
        ("usage-floats", 1, 0, 0, 0, (100, 50)),
        ("status-string", 1, 0, 0, 0, (100, 50)),
        ("same-custom-id", 3, 0, 0, 1, (300, 150)),
        ("embeddings", 1, 0, 0, 0, (1_000_000, 0)),
        ("reasoning-beside-the-completion", 2, 0, 0, 0, (2000, 2000)),
        ("no-error-as-an-empty-object", 3, 0, 0, 0, (300, 150)),
        ("refused-among-the-answers", 1, 2, 0, 0, (100, 50)),
        ("answers-without-their-ids", 4, 0, 0, 0, (400, 200)),
    ],
)
def test_results_as_providers_have_been_seen_to_write_them(
    name: str, ok: int, failed: int, unreadable: int, repeated: int, tokens: tuple[int, int]
):
    """Each oddity is counted as what it is."""
    got = totals((CASES / f"{name}.jsonl").read_bytes())

    assert (got.lines_ok, got.lines_failed, got.unreadable, got.repeated) == (ok, failed, unreadable, repeated)
    assert (got.usage.input_tokens, got.usage.output_tokens) == tokens


def an_input(*custom_ids: str) -> bytes:
    """Request lines with these ids."""
    body = {"model": "gpt", "messages": []}
    lines = ({"custom_id": id_, "method": "POST", "url": "/v1/chat/completions", "body": body} for id_ in custom_ids)
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def digest_of(requests: bytes) -> str | None:
    """The digest of the ids, as the validation of the file makes it."""
    check = InputCheck(None)
    check.feed(requests)
    return check.finish().custom_id_digest


@pytest.mark.parametrize(
    ("results", "nameless", "suspicious", "foreign"),
    [
        ([{"custom_id": "b"}, {"custom_id": "a"}, {"custom_id": "é"}], 0, False, 0),
        ([{"custom_id": "b"}, {"custom_id": "a"}, {"custom_id": "z"}], 0, True, 1),
        ([{"custom_id": "b"}, {"custom_id": None}, {"custom_id": "é"}], 1, True, 0),
        ([{}, {"custom_id": 7}, {"custom_id": ""}], 3, True, 0),
        ([{"custom_id": "a"}, {"custom_id": None}, {"custom_id": "z"}, {}], 2, True, 1),
        ([{"custom_id": "a"}], 0, False, 0),
    ],
)
def test_results_of_no_request_are_noticed(results: list[Any], nameless: int, suspicious: bool, foreign: int):
    """By the digest of the ids, in any order and however they are escaped; the input itself tells how many."""
    requests = an_input("a", "b", "é")
    counter = ResultCounter(PriceBook(PRICING, "openai", NOW))
    counter.feed_output(b"\n".join(json.dumps(line).encode() for line in results))
    got = counter.finish()
    counter.feed_input(requests)

    assert (got.nameless, got.is_suspicious(digest_of(requests), 3)) == (nameless, suspicious)
    assert counter.foreign() == foreign


def test_usage_that_is_missing_is_counted():
    """One line without usage among three makes the cost unknown, and says how many there are."""
    got = totals((CASES / "usage-missing.jsonl").read_bytes())

    assert (got.cost.source, got.cost.reason, got.usage.requests_without) == ("unknown", "UsageMissing", 1)


def test_two_readings_of_the_same_files_have_the_same_digest():
    """In whatever pieces; another byte makes another one."""
    data, digests = a_result() + b"\n" + a_result(), []
    for pieces in ([data], [data[:7], data[7:]], [data + b" "]):
        counter = ResultCounter(PriceBook(PRICING, "openai", NOW))
        for piece in pieces:
            counter.feed_output(piece)
        digests.append(counter.digest)

    assert digests[0] == digests[1] != digests[2]


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
    assert whole.lines == len({line for line in lines if line.strip()})
    assert whole.lines + whole.repeated == 2 * sum(1 for line in lines if line.strip())


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
