"""Reading a result line that strict JSON refuses, as a person would: what came home was paid for."""

from __future__ import annotations

import json
from typing import Any

import msgspec

LONGEST = 8 * 1024 * 1024
"""Bytes of a line that is looked at a second time: reading it holds the loop for about 100 ms."""

_READ = json.JSONDecoder(strict=False)


def read_patiently(line: bytes) -> dict[str, Any]:
    """The object that a result line holds, also where strict JSON refuses it.

    Seen from providers: half of a surrogate pair as an escape, ``NaN`` and ``Infinity`` in log probabilities, control
    characters in texts, bytes of NUL, bytes that are no UTF-8. Raises ValueError where nobody understands it; the
    message holds nothing of the line.
    """
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        found = _again(line)
    if not isinstance(found, dict):
        raise ValueError("this result line is no JSON object")
    return found


def _again(line: bytes) -> Any:
    if len(line) > LONGEST:
        raise ValueError(f"this result line is not valid JSON, and too long ({len(line)} bytes) to be mended")
    text = line.replace(b"\x00", b"").decode(errors="replace").strip()
    try:
        found, end = _READ.raw_decode(text)
    except (ValueError, RecursionError):
        raise ValueError("this result line is not valid JSON") from None
    if end != len(text):
        raise ValueError("this result line is more than one JSON value")
    return found
