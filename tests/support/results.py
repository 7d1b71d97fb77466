"""Builds result lines as the providers write them."""

from __future__ import annotations

import itertools
import json
from typing import Any

_NUMBERS = itertools.count()


def an_id() -> str:
    """A custom_id that no other line has."""
    return f"secret id {next(_NUMBERS)}"


def a_chat_usage(input: Any = 0, output: Any = 0, *, cached: Any = 0, reasoning: Any = 0) -> dict[str, Any]:
    """The usage of a chat completion."""
    return {
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": None},
    }


def a_result(
    usage: Any = None, *, model: Any = "gpt-4o-mini-2024-07-18", status: Any = 200, error: Any = None
) -> bytes:
    """One line of an output or error file, without a line feed."""
    body = {"id": "chatcmpl-1", "choices": [{"message": {"content": "secret answer"}}], "model": model, "usage": usage}
    response = {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "batch_req_1", "custom_id": an_id(), "response": response, "error": error}).encode()


def an_unanswered(code: str = "batch_cancelled") -> bytes:
    """The line of a request that was never run."""
    error = {"code": code, "message": "secret message"}
    return json.dumps({"id": "batch_req_2", "custom_id": an_id(), "response": None, "error": error}).encode()
