"""Translation of validated lines into a deployment's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbatch.domain.requests.endpoint import path_of
from llmbatch.domain.requests.translation import Translation, translated_size
from llmbatch.domain.requests.validation import InputCheck
from support.requests import ABSENT, a_body, a_file, a_line

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
NAMES = st.text(max_size=5) | st.sampled_from(["url", "model", "body", "custom_id", "method", 'mo"del', "\\"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


def written(prefix: str) -> Callable[[str], str]:
    """How a provider writes URLs whose paths begin so."""
    return lambda endpoint: path_of(endpoint, prefix)


def translate(data: bytes, model: str = "own", prefix: str = "/v1", *, step: int | None = None) -> bytes:
    """``data`` translated, fed whole or in steps."""
    translation = Translation(model, written(prefix))
    step = step or max(1, len(data))
    made = b"".join(translation.feed(data[at : at + step]) for at in range(0, len(data), step))
    made += translation.finish()
    assert translation.bytes == len(made)
    assert translation.requests == made.count(b"\n")
    assert translation.sha256 == hashlib.sha256(data).hexdigest()
    return made


@pytest.mark.parametrize(
    ("line", "want"),
    [
        (
            b' { "custom_id" : "a",\t"method":"POST","url" : "/v1/embeddings", "body" : { "x":1.0,"model" : "m" } } \r',
            b' { "custom_id" : "a",\t"method":"POST","url" : "/embeddings", "body" : { "x":1.0,"model" : "own" } } \r',
        ),
        (
            b'{"body":{"n":1e99999,"n":2},"url":"/embeddings","t":"\\u00e9\\/"}',
            b'{"body":{"model":"own","n":1e99999,"n":2},"url":"/embeddings","t":"\\u00e9\\/"}',
        ),
        (
            b'{"url":"\\/v1\\/embeddings","body":{}}',
            b'{"url":"/embeddings","body":{"model":"own"}}',
        ),
        (
            b'{"url":"/v1/embeddings","body":{ }}',
            b'{"url":"/embeddings","body":{"model":"own" }}',
        ),
        (
            b'{"url":"/v1/embeddings","x":1,"x":[{"url":"/v1/a","body":{"model":"b"}}],"bod\\u0079":{"mod\\u0065l":"m"}}',
            b'{"url":"/embeddings","x":1,"x":[{"url":"/v1/a","body":{"model":"b"}}],"bod\\u0079":{"mod\\u0065l":"own"}}',
        ),
        (
            b'{"url":"/v1/embeddings","body":{"y":{"model":"in"},"input":"model \\"model\\":\\"m\\""}}',
            b'{"url":"/embeddings","body":{"model":"own","y":{"model":"in"},"input":"model \\"model\\":\\"m\\""}}',
        ),
        (
            b'{"custom_id":"model","method":"POST","url":"/v1/embeddings","body":{"a":["model"],"b":"url"}}',
            b'{"custom_id":"model","method":"POST","url":"/embeddings","body":{"model":"own","a":["model"],"b":"url"}}',
        ),
    ],
)
def test_only_two_values_change(line: bytes, want: bytes):
    """The model's value and the URL's are replaced (the model put first where there was none), and not a byte else."""
    assert translate(line, prefix="") == want + b"\n"


def test_the_model_name_is_written_as_json():
    """A deployment's name may hold what JSON must escape, and goes in as UTF-8 otherwise."""
    made = translate(a_line(), 'my "gpt" é')

    assert json.loads(made)["body"]["model"] == 'my "gpt" é'
    assert '"my \\"gpt\\" é"'.encode() in made


@pytest.mark.parametrize("url", ["/v1/responses", "/responses"])
@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_the_url_has_the_providers_form(url: str, prefix: str):
    """Whichever way the user wrote the URL, the provider gets its own."""
    assert json.loads(translate(a_line(url=url), prefix=prefix))["url"] == f"{prefix}/responses"


def test_marks_and_blank_lines_are_dropped():
    """Byte order mark and blank lines go; carriage returns stay; the last line gets its line feed."""
    data = b"\xef\xbb\xbf\n" + a_line("a") + b"\r\n \t\r\n" + a_line("b")

    assert translate(data, "gpt") == a_line("a") + b"\r\n" + a_line("b") + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"secret",
        b'["secret"]',
        b'{"secret":1}',
        b'{"url":"/v1/secret","body":1}',
        b'{"url":"secret","body":{}}',
        b'{"url":5,"body":{"a":"secret"}}',
        b'{"url":"/x","url":"/secret","body":{}}',
        b'{"url":"/x","body":{},"body":{"a":"secret"}}',
        b'{"url":"/x","body":{"model":"a","model":"secret"}}',
        b'{"url":"/x\xff","body":{"secret":1}}',
        b'{"url":"/x","body":{"secret":' + b"[" * 100_000,
    ],
)
def test_input_that_is_not_valid_is_an_error_without_content(line: bytes):
    """What was not validated is not translated, and the error names the request by its number alone."""
    with pytest.raises(ValueError, match=r"^request 2 is malformed") as caught:
        translate(a_file(a_line(), line))

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_other_content_has_another_hash():
    """A source that changed since its validation is noticed by the hash of what was fed."""
    one, other = Translation("own", str), Translation("own", str)
    one.feed(a_file(a_line("a")))
    other.feed(a_file(a_line("b")))

    assert one.sha256 != other.sha256


@st.composite
def files(draw: st.DrawFn) -> tuple[list[dict[str, Any]], bytes]:
    """Valid requests, and a text of them with keys in any order, extra members, and either way of writing."""
    with_model, count = draw(st.booleans()), draw(st.integers(1, 3))
    requests, lines = [], []
    for n in range(count):
        body = {**draw(OBJECTS), "stream": False}
        body.pop("model", None)
        if with_model:
            body["model"] = "gpt"
        if draw(st.booleans()):
            body = {key: body[key] for key in draw(st.permutations(list(body)))}
        request = {
            **draw(OBJECTS),
            "custom_id": f"{n}",
            "method": "POST",
            "url": draw(st.sampled_from(["/v1/x", "/x"])),
            "body": body,
        }
        request = {key: request[key] for key in draw(st.permutations(list(request)))}
        separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r: ")]))
        text = json.dumps(request, ensure_ascii=draw(st.booleans()), separators=separators)
        requests.append(request)
        lines.append(text.encode("utf-8", "surrogatepass"))
    return requests, draw(st.sampled_from([b"\n", b"\r\n", b"\n\n"])).join(lines)


@given(files(), st.sampled_from(["own", "a much longer name", 'quo"ted', ""]), st.sampled_from(["/v1", ""]))
def test_translation_is_the_original_with_two_substitutions(
    file: tuple[list[dict[str, Any]], bytes], model: str, prefix: str
):
    """Parsed, each line is the user's but for model and URL; and its size was known before."""
    requests, data = file
    checked = InputCheck(["gpt"])
    checked.feed(data)
    report = checked.finish()
    assert report.valid

    made = translate(data, model, prefix, step=7)

    want = [{**r, "url": f"{prefix}/x", "body": {**r["body"], "model": model}} for r in requests]
    assert [json.loads(line) for line in made.split(b"\n")[:-1]] == want
    assert len(made) == translated_size(report, model, written(prefix))


@given(files())
def test_what_is_not_substituted_stays_byte_for_byte(file: tuple[list[dict[str, Any]], bytes]):
    """Translating to the names that the lines have already changes no byte of them."""
    requests, data = file
    kept = [line for line in data.split(b"\n") if line]
    for request, line in zip(requests, kept, strict=True):
        if "model" in request["body"]:
            prefix = request["url"].removesuffix("/x")
            assert translate(line, "gpt", prefix) == line + b"\n"


def test_sizes_of_empty_and_named_bodies_are_known():
    """The size before translation counts what is inserted into bodies without a model, empty ones too."""
    for bodies in ([{}, {"a": 1}], [a_body(), a_body(x=ABSENT)]):
        data = b"\xef\xbb\xbf" + b"\n\r\n".join(a_line(str(n), body=body) for n, body in enumerate(bodies))
        checked = InputCheck(["gpt"])
        checked.feed(data)
        report = checked.finish()

        for prefix in ("/v1", ""):
            assert translated_size(report, "own", written(prefix)) == len(translate(data, "own", prefix))
