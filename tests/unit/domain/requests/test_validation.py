"""Validation of whole inputs, line by line."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbatch.domain.lines import Lines, Seen
from llmbatch.domain.requests.validation import ENOUGH_ERRORS, InputCheck, InputLimits, InputReport
from support.requests import ABSENT, a_body, a_file, a_line

PREFIX = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":'


def check(data: bytes, *, targets: tuple[str, ...] = ("gpt",), step: int | None = None, **limits: Any) -> InputReport:
    """The report on ``data``, fed whole or in steps."""
    checked = InputCheck(targets, InputLimits(**limits))
    step = step or max(1, len(data))
    for at in range(0, len(data), step):
        checked.feed(data[at : at + step])
    return checked.finish()


def codes(report: InputReport) -> list[tuple[int | None, str]]:
    """Line and code of each error."""
    return [(error.line, error.code) for error in report.errors]


def test_a_valid_file_is_measured():
    """Requests, bytes, hash, tokens, endpoint and model are those of the input as it was read."""
    lines = [a_line(str(n), body=a_body(temperature=0.5)) for n in range(3)]
    data = b"\xef\xbb\xbf" + lines[0] + b"\r\n\n \t\r\n" + lines[1] + b"\n" + lines[2]

    report = check(data)

    assert report.valid
    assert report.errors == ()
    assert (report.requests, report.bytes, report.sha256) == (3, len(data), hashlib.sha256(data).hexdigest())
    assert report.estimated_input_tokens == 3 * len(json.dumps(a_body(temperature=0.5))) // 4
    assert (report.endpoint, report.model) == ("/v1/chat/completions", "gpt")
    assert report.max_line_bytes == len(lines[0]) + 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", "invalid_json"),
        (b"not json", "invalid_json"),
        (PREFIX + b'{"n":NaN}}', "invalid_json"),
        (PREFIX + b'{"n":-Infinity}}', "invalid_json"),
        (PREFIX + b'{"n":01}}', "invalid_json"),
        (PREFIX + b'{"t":"\\ud800"}}', "half_a_character"),
        (PREFIX + b'{"t":"\x00"}}', "invalid_json"),
        (a_line() + b" x", "invalid_json"),
        (a_line() + b"\x00", "invalid_json"),
        (a_line() + a_line("b"), "invalid_json"),
        (a_line() + b"\xe2\x80\xa8", "invalid_json"),
        (b"\xef\xbb\xbf" + a_line(), "invalid_json"),
        (b"\x0c" + a_line(), "invalid_json"),
        (PREFIX + b'{"t":"\xff"}}', "invalid_utf8"),
        (PREFIX + b'{"t":"\xed\xa0\x80"}}', "invalid_utf8"),
        (b"[1]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (PREFIX + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested_too_deep"),
        (b"[" * 100_000, "not_an_object"),
        (a_line(ABSENT), "missing_custom_id"),
        (a_line(""), "invalid_custom_id"),
        (a_line(7), "invalid_custom_id"),
        (a_line(None), "invalid_custom_id"),
        (a_line("x" * 513), "custom_id_too_long"),
        (a_line("first"), "duplicate_custom_id"),
        (a_line().replace(b'"a"', b'"\\u0066irst"'), "duplicate_custom_id"),
        (a_line(method=ABSENT), "missing_method"),
        (a_line(method="GET"), "invalid_method"),
        (a_line(method="post"), "invalid_method"),
        (a_line(url=ABSENT), "missing_url"),
        (a_line(url=3), "invalid_url"),
        (a_line(url="https://example.com/v1/x"), "invalid_url"),
        (a_line(url="/v1"), "invalid_url"),
        (a_line(url="/v1/../files"), "invalid_url"),
        (a_line(url="/v1/chat/completions\n"), "invalid_url"),
        (a_line(url="/v1/embeddings"), "mixed_urls"),
        (PREFIX[:-8] + b"}", "missing_body"),
        (a_line(body=[]), "invalid_body"),
        (a_line(body="text"), "invalid_body"),
        (PREFIX + b"null}", "invalid_body"),
        (a_line(body=a_body("other")), "foreign_model"),
        (a_line(body=a_body(5)), "invalid_model"),
        (a_line(body=a_body(None)), "invalid_model"),
        (a_line(body=a_body("gpt-two")), "mixed_models"),
        (a_line(body=a_body(ABSENT)), "mixed_models"),
        (a_line(body=a_body(stream=True)), "stream_not_supported"),
        (a_line()[:-1] + b',"custom_id":"b"}', "duplicate_key"),
        (a_line()[:-1] + b',"method":"POST"}', "duplicate_key"),
        (a_line()[:-1] + b',"\\u0075rl":"/v1/chat/completions"}', "duplicate_key"),
        (a_line()[:-1] + b',"body":{}}', "duplicate_key"),
        (PREFIX + b'{"model":"gpt","model":"gpt"}}', "duplicate_key"),
        (PREFIX + b'{"mod\\u0065l":"gpt","x":1,"model":"gpt"}}', "duplicate_key"),
    ],
)
@pytest.mark.parametrize("step", [None, 7919], ids=["whole", "pieces"])
def test_a_bad_line_is_named_by_its_number(line: bytes, code: str, step: int | None):
    """Each kind of bad line is refused under its own code, with its number among all lines, and the others pass."""
    data = a_file(a_line("first"), b"", line, a_line("last"))

    report = check(data, targets=("gpt", "gpt-two"), step=step)

    assert codes(report) == [(3, code)]
    assert report.error_count == 1
    assert not report.valid
    assert report.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("line", [a_line("secret-id", url="/secret-url!", body=a_body("secret-model")), b"{secret"])
def test_messages_hold_no_content(line: bytes):
    """What a bad line says stands in no part of the report, as the source may be a Secret."""
    report = check(a_file(line))

    assert report.error_count
    assert "secret" not in repr(report)


def test_every_fault_of_a_line_is_told():
    """One run names all that is wrong with a line, so that the user mends it once."""
    report = check(a_file(b'{"method":"GET","url":1,"body":[]}'))

    assert codes(report) == [
        (1, "missing_custom_id"),
        (1, "invalid_method"),
        (1, "invalid_url"),
        (1, "invalid_body"),
    ]
    assert [error.key for error in report.errors] == ["custom_id", "method", "url", "body"]


@pytest.mark.parametrize(
    "line",
    [
        PREFIX + b'{"model":"gpt","n":1e99999,"i":' + b"9" * 5000 + b"}}",
        PREFIX + b'{"model":"gpt","x":1,"x":[2]}}',
        a_line()[:-1] + b',"x":12,"x":1}',
        a_line()[:-1] + b',"x":"a","x":{"url":"b"}}',
        a_line(body=a_body(stream=False)),
        a_line(body=a_body(stream=None)),
        a_line(body=a_body(tools=[{"model": 1, "url": "x", "body": None}])),
        a_line(body=a_body(text='\u2028 \u00e9 \U0001f600 \\ " /')),
        a_line(extra={"custom_id": "b", "method": "GET"}),
        a_line(url="/chat/completions"),
        a_line().replace(b"/", b"\\/"),
        a_line().replace(b'"method"', b'"m\\u0065thod"'),
        b" " + a_line().replace(b":", b" :\t").replace(b",", b"\r,") + b" \r",
        a_line("é" * 512),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_odd_but_valid_lines_pass(line: bytes, first: bool):
    """Spacing, escapes, unknown and doubled foreign keys, big numbers and both forms of the URL are the user's own."""
    lines = [line, a_line("other")] if first else [a_line("other"), line]

    report = check(a_file(*lines))

    assert codes(report) == []
    assert (report.requests, report.endpoint, report.model) == (2, "/v1/chat/completions", "gpt")


def test_the_model_may_be_absent_in_all_lines():
    """Lines without a model are fine as long as none has one; an empty body is such a line."""
    report = check(a_file(a_line("a", body=a_body(ABSENT)), a_line("b", body={}), a_line("c", body={})))

    assert report.valid
    assert report.model is None
    assert report.empty_bodies == 2


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\n\r\n \t\n"])
def test_an_input_without_requests_is_refused(data: bytes):
    """Nothing, a byte order mark alone (or half of one) and blank lines are no input."""
    report = check(data)

    assert report.requests == (1 if data == b"\xef\xbb" else 0)
    assert codes(report) == [(1, "invalid_utf8")] if report.requests else [(None, "empty_file")]


def test_too_many_requests_are_refused():
    """The limit is on requests, not on lines; the rest is still hashed, and the caller may stop."""
    data = a_file(a_line("1"), b"", a_line("2"), a_line("3"), b"not json")
    checked = InputCheck(["gpt"], InputLimits(2))
    checked.feed(data)

    assert checked.refused
    report = checked.finish()
    assert codes(report) == [(None, "too_many_requests")]
    assert report.sha256 == hashlib.sha256(data).hexdigest()
    assert check(a_file(a_line("1"), a_line("2")), max_requests=2).valid


def test_too_many_bytes_are_refused():
    """An input over the limit is refused once, and one of exactly the limit passes."""
    data = a_file(a_line("1"), a_line("2"))

    assert codes(check(data, max_bytes=len(data) - 1, step=10)) == [(None, "file_too_large")]
    assert check(data, max_bytes=len(data)).valid


def test_a_line_that_is_too_long_is_refused_and_not_kept():
    """A long line is dropped as it comes, and the lines after it are looked into."""
    long, fine = a_line(body=a_body(text="x" * 5000)), a_line("b")
    data = a_file(long, fine, b"{")
    for step in (None, 100, 1):
        report = check(data, max_line_bytes=1000, step=step)
        assert codes(report) == [(1, "line_too_long"), (3, "invalid_json")]

    lines = Lines(1000)
    for _ in range(100):
        assert list(lines.feed(b"x" * 999)) == []
        assert sum(map(len, lines._parts)) <= 1000
    assert list(lines.finish()) == [None]


@pytest.mark.parametrize("step", [None, 1])
def test_a_line_of_exactly_the_limit_passes(step: int | None):
    """The limit is the longest line that is taken, its line feed not counted; one byte more is refused."""
    data = a_file(a_line("a"), a_line("bb"))
    size = len(a_line("bb"))

    assert check(data, max_line_bytes=size, step=step).max_line_bytes == size
    assert codes(check(data, max_line_bytes=size, step=step)) == []
    assert codes(check(data, max_line_bytes=size - 1, step=step)) == [(2, "line_too_long")]


def test_only_the_first_errors_are_kept_and_the_others_counted():
    """Twenty errors go to the status; the count goes on."""
    report = check(a_file(*[b"{"] * 50))

    assert codes(report) == [(n, "invalid_json") for n in range(1, 21)]
    assert report.error_count == 50


def test_a_hopeless_file_is_only_hashed_on():
    """After a thousand errors no more lines are looked into, but hash and size are those of the whole."""
    data = a_file(*[b"{"] * 5000)
    report = check(data, step=100)

    assert report.error_count == ENOUGH_ERRORS
    assert (report.bytes, report.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_doubled_foreign_keys_in_a_huge_object_are_refused():
    """Finding members among doubled keys is slow, so it is not done for long objects."""
    line = PREFIX + b'{"x":1,"x":2,"y":[' + b"[]," * 50_000 + b"0]}}"

    assert codes(check(line)) == [(1, "duplicate_key")]


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join(b'"%x":1' % n for n in range(1001)) + b"}",
        b"{" + b",".join(b'"%x":1' % n for n in range(110_000)) + b"}",
        b'{"a":[' + b'{"":{}},' * 200_001 + b"1]}",
        b'{"a":[' + b"1," * 1_000_001 + b"1]}",
        b'{"a":[' + b"[]," * 1_000_001 + b"1]}",
        b'{"' + b"n" * 70_000 + b'":1}',
        b'{"a":1,' + b'"":1,' * 1001 + b'"a":1}',
    ],
    ids=["keys", "more keys than are decoded", "objects", "numbers", "arrays", "a long name", "doubled keys"],
)
def test_a_line_that_would_hold_the_loop_is_refused(body: bytes):
    """What a line costs is bounded by its structure as well as by its length."""
    assert codes(check(PREFIX + body + b"}")) == [(1, "too_complex")]


@pytest.mark.parametrize(
    "text",
    [b"A" * 10_000_000, b'\\"key\\": [1], ' * 100_000],
    ids=["an image", "JSON in a prompt"],
)
def test_long_texts_pass(text: bytes):
    """Content inside of strings is no structure: neither an image of 10 MB nor a prompt full of quotes is refused."""
    assert check(PREFIX + b'{"model":"gpt","text":"' + text + b'"}}', step=65_536).valid


@given(st.lists(st.sampled_from([*b'{}[]",:\\\n\r \xef\xbb\xbf\xc3au1']), max_size=60), st.integers(1, 9))
def test_noise_is_refused_in_the_same_way_in_any_pieces(noise: list[int], step: int):
    """No input makes the check fail in itself, and where the chunks are cut makes no difference."""
    data = bytes(noise) + b"\n" + PREFIX + bytes(noise) + b"}"

    assert check(data, step=step) == check(data)


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(1, 9))
def test_valid_lines_are_found_in_any_pieces(left: bytes, right: bytes, step: int):
    """Chunks may be cut anywhere, inside a byte order mark or a character too."""
    ids = {left.hex() or "0", "é" + right.hex()}
    data = b"\xef\xbb\xbf" + b"\r\n".join(
        json.dumps(json.loads(a_line(custom_id)), ensure_ascii=False).encode() for custom_id in ids
    )

    report = check(data, step=step)

    assert (codes(report), report.requests) == ([], 2)


@given(st.lists(st.text(alphabet="abc", max_size=4)))
def test_seen_is_a_set(texts: list[str]):
    """Each text is new exactly once."""
    seen, known = Seen(), set[str]()
    for text in texts:
        assert seen.add(text) == (text not in known)
        known.add(text)


def test_seen_is_small():
    """A hundred thousand ids stay within 32 bytes each, and the buckets are shared out."""
    seen = Seen()
    assert all(seen.add(f"request-{n}") for n in range(100_000))
    assert not any(seen.add(f"request-{n}") for n in range(0, 100_000, 997))

    buckets = seen._buckets.values()
    assert sum(map(len, buckets)) == 1_600_000
    assert max(map(len, buckets)) < 16 * 30


def with_urls(*urls: str, **body: object) -> bytes:
    """A line for each URL."""
    return a_file(*(a_line(str(n), url=url, body=a_body(**body)) for n, url in enumerate(urls)))


def test_a_file_may_write_its_one_url_in_several_ways():
    """All of them are the same endpoint."""
    report = check(
        with_urls("/v1/embeddings", "/embeddings", "/openai/deployments/own/embeddings?api-version=2024-10-21")
    )

    assert (report.valid, report.endpoint) == (True, "/v1/embeddings")


@pytest.mark.parametrize("first", ["/v1/embeddings", "/openai/deployments/own/embeddings"])
def test_urls_that_name_two_deployments_leave_a_doubt(first: str):
    """A file goes to one deployment, whatever Azure called those it was written for."""
    report = check(with_urls(first, "/openai/deployments/own/embeddings", "/openai/deployments/other/embeddings"))

    assert codes(report) == [(3, "mixed_urls")]
    assert "another deployment" in report.errors[0].message


def test_a_url_that_is_none_is_refused_with_the_form_to_write():
    """Another host's is no doubt that could be cleared."""
    report = check(with_urls("https://example.com/v1/chat/completions", "v1/chat/completions"))

    assert codes(report) == [(1, "invalid_url"), (2, "invalid_url")]
    assert [error.message.endswith("without scheme and host") for error in report.errors] == [True, False]


def test_an_endpoint_that_no_provider_of_the_file_has_is_refused_with_those_there_are():
    """Before anything is uploaded, once; where nobody knows the endpoints, any is taken, with its own version too."""
    known = frozenset({"/v1/embeddings", "/v1/responses"})
    report = check(with_urls("/v1/audio/speech", "/v1/audio/speech"), endpoints=known)

    assert codes(report) == [(1, "unsupported_endpoint")]
    assert "only for /v1/embeddings, /v1/responses" in report.errors[0].message
    assert check(with_urls("/v1/responses"), endpoints=known).valid
    assert check(with_urls("/v4/chat/completions")).endpoint == "/v4/chat/completions"


def test_a_stream_passes_where_the_api_is_only_compatible():
    """It says itself what it makes of it."""
    data = with_urls("/v1/responses", "/v1/responses", stream=True)

    assert codes(check(data)) == [(1, "stream_not_supported"), (2, "stream_not_supported")]
    assert check(data, streams=True).valid


@pytest.mark.parametrize(
    ("given", "count"),
    [("one", 1), (["one", "two"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1), (None, 1), (ABSENT, 1)],
)
def test_the_texts_of_a_file_of_embeddings_are_counted(given: object, count: int):
    """A line may have many, as texts or as tokens; two lines have twice as many."""
    data = with_urls("/v1/embeddings", "/v1/embeddings", input=given)

    assert check(data, max_embedding_inputs=2 * count).valid
    if given not in (None, ABSENT):
        assert codes(check(data, max_embedding_inputs=2 * count - 1)) == [(None, "too_many_inputs")]
    assert check(with_urls("/v1/responses", input=["x"] * 9), max_embedding_inputs=1).valid


@pytest.mark.parametrize("text", [r"cut \ud83d", r"\ud83d\ud83d\ude00", r"\ude00", r"\\\ud83d"])
def test_half_of_a_character_is_told_as_that(text: str):
    """The line is valid to many readers, so that `invalid JSON` would send people looking for a comma."""
    report = check(a_file(PREFIX + b'{"model":"gpt","x":"' + text.encode() + b'"}}'))

    assert codes(report) == [(1, "half_a_character")]
    assert check(a_file(PREFIX + rb'{"model":"gpt","x":"\ud83d\ude00 \\ud83d"}}')).valid
