"""Finding the members of an object in its text, in the general way and in the quick one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbatch.domain.requests.json_members import SCAN_LIMIT, TooTangled, members, string
from llmbatch.domain.requests.plain import plain
from support.requests import a_body, a_line

NAMES = st.text(max_size=3) | st.sampled_from(["url", "body", "model", "a", "\\", '"'])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=3), max_leaves=8)
SPACE = st.text(alphabet=" \t\r\n", max_size=2)


@st.composite
def objects(draw: st.DrawFn) -> tuple[list[tuple[str, str]], str]:
    """Names and values (as JSON) of an object in which names may come twice, and its text with spaces anywhere."""
    ascii_only = draw(st.booleans())
    pairs = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    written = [(name, json.dumps(value, ensure_ascii=ascii_only)) for name, value in pairs]
    parts = [
        draw(SPACE) + json.dumps(name, ensure_ascii=ascii_only) + draw(SPACE) + ":" + draw(SPACE) + value + draw(SPACE)
        for name, value in written
    ]
    return written, draw(SPACE) + "{" + (",".join(parts) or draw(SPACE)) + "}" + draw(SPACE)


@given(objects(), st.sampled_from([b"", b'{"x":1,"y":']))
def test_every_member_is_found_where_it_is(drawn: tuple[list[tuple[str, str]], str], before: bytes):
    """Spans are exactly the values' bytes, the last one's where a name comes twice; such names are told."""
    pairs, text = drawn
    inner = text.encode()
    outer = before + inner + b',"z":{"q":1}}' if before else inner

    found = members(outer, len(before), len(before) + len(inner)) if before else members(outer)

    last = dict(pairs)
    assert {name: outer[span.start : span.end].decode() for name, span in found.spans.items()} == last
    names = [name for name, _ in pairs]
    assert found.duplicates == {name for name in names if names.count(name) > 1}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (b'{"a":12,"a":1}', b"1"),
        (b'{"a":1,"a":12}', b"12"),
        (b'{"a":{},"a":1}', b"1"),
        (b'{"a":[{}],"a":12}', b"12"),
        (b'{"a":2,"a":2,"b":2}', b"2"),
        (b'{"a":{"z":1 ,"b":2},"a":[1,22]}', b"[1,22]"),
        (b'{"a":"}","\\u0061":true}', b"true"),
        (b'{"a":[[{"a":"]"}],{}],"a":"x"}', b'"x"'),
        (b'{"a":1.5e3,"a":-0}', b"-0"),
    ],
)
def test_a_name_that_comes_twice_is_noticed(text: bytes, want: bytes):
    """A value that looks like the beginning of the other one is not mistaken for it."""
    found = members(text)

    assert found.duplicates == {"a"}
    assert text[slice(*found.spans["a"])] == want


def test_long_objects_are_compared_in_pieces():
    """A value of many pieces is found, and the one after it."""
    long = b'{"a":"' + b"x" * 300_000 + b'y","b":[1,2]}'
    found = members(long)

    assert long[slice(*found.spans["b"])] == b"[1,2]"
    assert found.spans["a"].end - found.spans["a"].start == 300_003
    assert members(long.replace(b'"b"', b'"\\u0062"')).spans == {
        "a": found.spans["a"],
        "b": (found.spans["b"].start + 5, found.spans["b"].end + 5),
    }


def test_a_long_object_with_a_name_twice_is_too_tangled():
    """Such an object is refused rather than scanned for long; a shorter one is scanned."""
    text = b'{"a":1,"a":2,"x":"' + b"x" * SCAN_LIMIT + b'"}'
    with pytest.raises(TooTangled):
        members(text)

    short = text[: SCAN_LIMIT - 2] + b'"}'
    assert members(short).duplicates == {"a"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"[1]", msgspec.ValidationError),
        (b"1", msgspec.ValidationError),
        (b'{"a":1', msgspec.DecodeError),
        (b'{"a":1}}', msgspec.DecodeError),
        (b"", msgspec.DecodeError),
        (b'{"a":' + b"[" * 100_000, RecursionError),
    ],
)
def test_what_is_no_object_is_an_error(text: bytes, error: type[Exception]):
    """Other values and broken JSON are told apart."""
    with pytest.raises(error):
        members(text)


@pytest.mark.parametrize(
    ("token", "want"),
    [(b'"a"', "a"), (b'"\\u0061\\n"', "a\n"), (b'""', ""), (b"1", None), (b"null", None), (b"[]", None)],
)
def test_only_strings_have_a_text(token: bytes, want: str | None):
    """Escapes are resolved, and other values are none."""
    assert string(token) == want


@given(st.dictionaries(NAMES, VALUES, max_size=3), st.dictionaries(NAMES, VALUES, max_size=3), st.booleans())
def test_the_quick_way_finds_what_the_general_way_finds(extra: dict[str, Any], inner: dict[str, Any], named: bool):
    """Wherever the quick way has an answer, it is the general one's."""
    extra = {name: value for name, value in extra.items() if name not in ("url", "body")}
    body = a_body(**{"x": inner}) if named else {"x": inner, "stream": True}
    line = a_line("é", body=body, extra=extra)

    found = plain(line)

    if found is not None:
        outer = members(line)
        nested = members(line, *outer.spans["body"])
        assert (found.url_span, found.body_span) == (outer.spans["url"], outer.spans["body"])
        assert found.model_span == nested.spans.get("model")
        assert (found.custom_id, found.method, found.url) == ("é", "POST", "/v1/chat/completions")
        assert (found.model, found.stream) == (("gpt", False) if named else (None, True))


@pytest.mark.parametrize(
    "line",
    [
        a_line(),
        a_line(body={}),
        a_line("é \u0000"),
        a_line(body=a_body(text='say "hello" to /v1 \\u0065 url')).replace(b"\\\\u0065", b""),
    ],
)
def test_usual_lines_go_the_quick_way(line: bytes):
    """What people write takes the quick way."""
    assert plain(line) is not None


@pytest.mark.parametrize(
    "line",
    [
        a_line(body=a_body(x={"url": 1})),
        a_line(body=a_body(x={"model": 1})),
        a_line(body={"x": {"model": "gpt"}, "y": "model"}),
        a_line(x="body"),
        a_line()[:-1] + b',"b\\u006fdy":{}}',
        a_line()[:-1] + b',"_":1,"custom\\u005fid":2}',
        a_line()[:-1] + b',"\\u0075rl":2}',
        a_line(url="/v1/\n"),
        a_line(body=a_body('"')),
        a_line(body=a_body(7)),
        a_line(body=a_body(stream="true")),
        a_line(body=[]),
        a_line(7),
        b"{}",
        b"{",
        b'{"a":' + b"[" * 100_000,
        a_line(body=a_body(text="x" * 1024 * 1024)),
    ],
)
def test_whatever_is_unusual_goes_the_general_way(line: bytes):
    """Where a key could be meant by another text, or anything is wrong, the quick way gives no answer."""
    assert plain(line) is None
