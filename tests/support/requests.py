"""Builds request lines that name only what matters."""

from __future__ import annotations

import json
from typing import Any

ABSENT: Any = object()
"""Leaves a key out."""


def a_body(model: Any = "gpt", **members: Any) -> dict[str, Any]:
    """A chat completion's body."""
    body = {"model": model, "messages": [{"role": "user", "content": "Say something."}], **members}
    return {key: value for key, value in body.items() if value is not ABSENT}


def a_line(
    custom_id: Any = "a",
    *,
    method: Any = "POST",
    url: Any = "/v1/chat/completions",
    body: Any = None,
    **members: Any,
) -> bytes:
    """One valid line without a line feed, but for what is given."""
    line = {"custom_id": custom_id, "method": method, "url": url, "body": a_body() if body is None else body, **members}
    return json.dumps({key: value for key, value in line.items() if value is not ABSENT}).encode()


def a_file(*lines: bytes) -> bytes:
    """The lines, each with a line feed."""
    return b"".join(line + b"\n" for line in lines)
