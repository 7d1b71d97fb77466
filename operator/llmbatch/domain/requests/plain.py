"""Reads a request line in 4 to 12 µs, a third of the general way, where its keys are written in the usual manner."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from llmbatch.domain.requests.json_members import Span

PLAIN_LIMIT = 1024 * 1024
"""Bytes of a line that are looked through once more for each key; a longer line goes the general way."""

_URL = re.compile(rb'"url"[ \t\r\n]*+:[ \t\r\n]*+("[^"\\]*+")')
_BODY = re.compile(rb'"body"[ \t\r\n]*+:[ \t\r\n]*+(\{)')
_MODEL = re.compile(rb'"model"[ \t\r\n]*+:[ \t\r\n]*+("[^"\\]*+")')
_LETTERS = (b"\\u005", b"\\u006", b"\\u007")
_TOP_LEVEL = (b'"custom_id"', b'"method"', b'"url"', b'"body"')


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct, gc=False):
    model: str | msgspec.UnsetType = msgspec.UNSET
    stream: bool | msgspec.UnsetType = msgspec.UNSET
    input: msgspec.Raw = msgspec.Raw(b"null")


_LINE = msgspec.json.Decoder(_Line)
_INNER = msgspec.json.Decoder(_Body)


class Request(NamedTuple):
    """What a line says, and where in its text the replaceable values are. ``model`` is None where body has none."""

    custom_id: str
    method: str
    url: str
    model: str | None
    stream: bool
    input: msgspec.Raw
    url_span: Span
    body_span: Span
    model_span: Span | None


def plain(line: bytes) -> Request | None:
    """The request in a line, or None where it must be read the general way: it is wrong, long, or out of the ordinary.

    Each key that matters stands in the text exactly once, letter for letter (so it is not in a nested object as well),
    and no escape could spell it in another way (``_`` and small letters are ``\\u005f`` to ``\\u007a``). So the only
    occurrence is the key itself, and no key comes twice.
    """
    if len(line) > PLAIN_LIMIT or (b"\\u00" in line and any(escape in line for escape in _LETTERS)):
        return None
    try:
        top = _LINE.decode(line)
        inner = _INNER.decode(top.body)
    except (msgspec.DecodeError, RecursionError):
        return None
    if any(line.count(key) != 1 for key in _TOP_LEVEL) or line.count(b'"model"') > 1:
        return None
    url, body = _URL.search(line), _BODY.search(line)
    if url is None or body is None:
        return None
    body_span = Span(body.start(1), body.start(1) + memoryview(top.body).nbytes)
    model_span = None
    if inner.model is not msgspec.UNSET:
        model = _MODEL.search(line, body_span.start, body_span.end)
        if model is None:
            return None
        model_span = Span(*model.span(1))
    return Request(
        custom_id=top.custom_id,
        method=top.method,
        url=top.url,
        model=None if inner.model is msgspec.UNSET else inner.model,
        stream=inner.stream is True,
        input=inner.input,
        url_span=Span(*url.span(1)),
        body_span=body_span,
        model_span=model_span,
    )
