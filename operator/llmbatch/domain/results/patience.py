"""Reading a result line that strict JSON refuses, as a person would: what came home was paid for."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

LONGEST = 8 * 1024 * 1024
"""Bytes of a line that is looked at a second time: of text that takes 100 ms, of a million numbers a second."""

_READ = json.JSONDecoder(strict=False)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_patiently(line: bytes) -> dict[str, Any]:
    """The object that a result line holds, also where strict JSON refuses it.

    Seen from providers: half of a surrogate pair as an escape (read as ``?``), ``NaN`` and ``Infinity`` in log
    probabilities, control characters in texts, bytes of NUL, bytes that are no UTF-8. Raises ValueError where nobody
    understands it; the message holds nothing of the line.
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
        found = _parsed(text)
        if _SURROGATE.search(text):
            # Half of a pair fits into no UTF-8, and so into no output of ours.
            found = _parsed(json.dumps(found, ensure_ascii=False).encode(errors="replace").decode())
    except (ValueError, RecursionError):
        raise ValueError("this result line is not valid JSON") from None
    return found


def _parsed(text: str) -> Any:
    found, end = _READ.raw_decode(text)
    if end != len(text):
        raise ValueError("more than one JSON value")
    return found
