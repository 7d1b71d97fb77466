"""Where the members of a JSON object lie in its text, so that one value can be replaced and no other byte changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY = re.compile(rb"[ \t\r\n,]*+(" + _STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+", re.DOTALL)
_CLOSE = re.compile(rb"[ \t\r\n]*+\}")
_SCALAR = re.compile(_STRING + rb"|[^ \t\r\n,\]}]++", re.DOTALL)
_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+([{}\[\]])", re.DOTALL)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_PIECE = 64 * 1024

SCAN_LIMIT = 64 * 1024
"""Bytes of an object that may be scanned bracket by bracket: about 300 ns each, so at most 20 ms of held loop."""
MOST_QUOTES = 200_000
MOST_COMMAS = 1_000_000
"""What a text may have of them, so that finding its members holds the loop for at most 50 ms at 12 MiB.

Every name and string begins with a quote, which never follows a backslash; quotes inside of strings always do, so
that text in a text is not counted. Every other value but one follows a comma.
"""
MOST_MEMBERS = 1000
MOST_NAME_CHARACTERS = 64 * 1024
"""Of one object's names together. No API's object comes near either; a name takes 6 µs to find."""


class Span(NamedTuple):
    """Offsets of a value in the text: first byte, and one past the last."""

    start: int
    end: int


class Members(NamedTuple):
    """The members of one object by name, and the names that occur more than once (their span is the last one's)."""

    spans: dict[str, Span]
    duplicates: frozenset[str]


class TooTangled(ValueError):
    """The object is longer than SCAN_LIMIT and has a name twice."""


class TooComplex(ValueError):
    """The text has more structure than any request needs: reading it would hold the loop."""


def members(text: bytes, at: int = 0, end: int | None = None) -> Members:
    """The members of the JSON object that is ``text[at:end]``.

    Raises msgspec.DecodeError (of which ValidationError: valid JSON, but no object) and RecursionError as msgspec
    does, TooTangled and TooComplex. UTF-8 is not checked. A part of a text (with ``end``) is asked for after the
    whole, and not counted again.
    """
    if end is None and _is_complex(text):
        raise TooComplex("the text has too many names and values")
    values = _OBJECT.decode(text if at == 0 and end is None else memoryview(text)[at:end])
    if len(values) > MOST_MEMBERS or sum(map(len, values)) > MOST_NAME_CHARACTERS:
        raise TooComplex("an object has too many names, or too long ones")
    opening = text.index(b"{", at) + 1
    if spans := _walk(text, opening, values):
        return Members(spans, frozenset())
    if (len(text) if end is None else end) - at > SCAN_LIMIT:
        raise TooTangled("an object has a name twice")
    return _scan(text, opening) if values else Members({}, frozenset())


def _is_complex(text: bytes) -> bool:
    quotes = text.count(b'"')
    if quotes > MOST_QUOTES:
        quotes -= text.count(b'\\"')
    return quotes > MOST_QUOTES or text.count(b",") > MOST_COMMAS


def string(token: bytes) -> str | None:
    """The value of a JSON string, or None where the token is another kind of value.

    The token is valid JSON, its UTF-8 included.
    """
    if token[:1] != b'"':
        return None
    return _TEXT.decode(token) if b"\\" in token else token[1:-1].decode()


def _walk(text: bytes, pos: int, values: Mapping[str, msgspec.Raw]) -> dict[str, Span] | None:
    """Steps from name to name by the lengths of the decoded values; None where a name occurs twice.

    A decoded object keeps one value a name, in the order of the names. Each step finds a name followed by exactly the
    expected value, so it goes from one member to the next: a complete string, array or object is never the beginning
    of another value, and a number or word that goes on fails the next step. As the last value is followed by the
    closing brace, there are as many members as names.
    """
    spans: dict[str, Span] = {}
    match = _KEY.match
    for name, raw in values.items():
        key = match(text, pos)
        if key is None:
            return None
        start = key.end()
        pos = start + memoryview(raw).nbytes
        if not _same(text, start, raw):
            return None
        spans[name] = Span(start, pos)
    return spans if _CLOSE.match(text, pos) else None


def _same(text: bytes, start: int, raw: msgspec.Raw) -> bool:
    """Whether the value stands at ``start``; compared in pieces, as a copy of 60 MB would hold the loop for 20 ms."""
    value = memoryview(raw)
    if value.nbytes <= _PIECE:
        return text.startswith(bytes(value), start)
    pieces = range(0, value.nbytes, _PIECE)
    return all(text.startswith(value[at : at + _PIECE].tobytes(), start + at) for at in pieces)


def _scan(text: bytes, pos: int) -> Members:
    """Finds every member, one after the other."""
    spans: dict[str, Span] = {}
    duplicates: set[str] = set()
    found = 0
    while key := _KEY.match(text, pos):
        found += 1
        if found > MOST_MEMBERS:
            raise TooComplex("an object has too many names")
        name = string(key[1]) or ""
        if name in spans:
            duplicates.add(name)
        pos = _value_end(text, key.end())
        spans[name] = Span(key.end(), pos)
    return Members(spans, frozenset(duplicates))


def _value_end(text: bytes, pos: int) -> int:
    """One past the last byte of the value that begins at ``pos``."""
    if text[pos] not in b"{[":
        scalar = _SCALAR.match(text, pos)
        return scalar.end() if scalar else pos
    depth = 0
    while bracket := _BRACKET.match(text, pos):
        pos = bracket.end()
        depth += 1 if bracket[1] in b"{[" else -1
        if not depth:
            break
    return pos
