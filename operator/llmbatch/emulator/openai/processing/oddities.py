"""Result lines as careless providers have been seen to write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import orjson

Oddity = Literal[
    "cut", "half_pair", "not_a_number", "nul", "deep",
    "without_usage", "float_usage", "reasoning_beside", "text_status",
    "twice", "null_id", "without_id", "foreign_id",
]  # fmt: skip
DEPTH = 700
"""Levels of nesting of ``deep``: what most readers can just bear."""


def odd(line: dict[str, Any], oddity: Oddity) -> bytes:
    """One answered line with one thing odd about it, and its line feed."""
    if change := _CHANGES.get(oddity):
        change(line)
    written = orjson.dumps(line)
    if oddity == "cut":
        written = written[: len(written) // 2]
    if inserted := _INSERTED.get(oddity):
        written = written[:-1] + b',"odd":' + inserted + b"}"
    return (written + b"\n") * (2 if oddity == "twice" else 1)


def _usage(line: dict[str, Any]) -> dict[str, Any]:
    usage: dict[str, Any] = line["response"]["body"]["usage"]
    return usage


def _float_usage(line: dict[str, Any]) -> None:
    usage = _usage(line)
    usage.update({name: float(value) for name, value in usage.items() if isinstance(value, int)})


def _reasoning_beside(line: dict[str, Any]) -> None:
    """The total counts reasoning beside ``completion_tokens``, which lacks it."""
    usage = _usage(line)
    usage["completion_tokens"] -= usage["completion_tokens_details"]["reasoning_tokens"]


_CHANGES: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "without_usage": lambda line: line["response"]["body"].pop("usage"),
    "float_usage": _float_usage,
    "reasoning_beside": _reasoning_beside,
    "text_status": lambda line: line["response"].update(status_code=str(line["response"]["status_code"])),
    "null_id": lambda line: line.update(custom_id=None),
    "without_id": lambda line: line.pop("custom_id"),
    "foreign_id": lambda line: line.update(custom_id="of-nobody"),
}
_INSERTED: Mapping[str, bytes] = {
    "half_pair": rb'"\ud83d"',
    "not_a_number": b"NaN",
    "nul": b'"\x00"',
    "deep": b"[" * DEPTH + b"NaN" + b"]" * DEPTH,
}
