"""What the models answer: one output line for a request, with the usage that goes with its kind of endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from llmbatch.emulator.openai.objects import Kind, Usage
from llmbatch.emulator.openai.processing.validation import Body, Line, prompt_tokens

REMEMBERED = 200
"""How many characters of the question come back in the answer."""
DEEPEST = 8
MOST_DIMENSIONS = 3072
"""OpenAI: the largest embedding has so many."""


@dataclass(frozen=True)
class Model:
    """The model that answers. `cached` is the share of the input that was cached, `reasoning` is tokens a line."""

    name: str
    kind: Kind
    cached: float = 0.0
    reasoning: int = 0


def answer(line: Line, body: Body, model: Model, *, created: int, number: str) -> tuple[dict[str, Any], Usage]:
    """The body of a good response, and its tokens: four bytes of the answer are one."""
    text = _reply(body)
    usage = Usage(input=prompt_tokens(body), reasoning=model.reasoning)
    usage.cached = int(usage.input * model.cached)
    usage.output = -(-len(text.encode()) // 4) + model.reasoning
    match model.kind:
        case "chat":
            return _chat(text, model.name, usage, created, number), usage
        case "completions":
            return _completion(text, model.name, usage, created, number), usage
        case "responses":
            return _response(text, model.name, usage, created, number), usage
        case "embeddings":
            usage = Usage(input=usage.input)
            return _embedding(body, model.name, usage), usage


def refused(number: str) -> dict[str, Any]:
    """The body of the response that a failed line carries."""
    return {
        "error": {
            "message": f"The emulator was asked to fail this request (request {number}).",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_request",
        }
    }


def missing_parameter(body: Body, kind: Kind) -> str | None:
    """The parameter without which the endpoint can't answer, if this body lacks it."""
    given = {"chat": body.messages, "completions": body.prompt}.get(kind, body.input)
    name = {"chat": "messages", "completions": "prompt"}.get(kind, "input")
    return None if bytes(given) else name


def _reply(body: Body) -> str:
    """A text that shows which request it belongs to."""
    raw = bytes(body.messages) or bytes(body.input) or bytes(body.prompt)
    question = _last_text(_loads(raw), DEEPEST)
    return f"The emulator read: {question[:REMEMBERED]}"


def _loads(raw: bytes) -> Any:
    """The value in JSON, or none for what only a lenient reader takes, such as half a surrogate pair."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _last_text(value: Any, depth: int) -> str:
    """The last piece of text in messages, an input or a prompt, down to a depth at which no text belongs any more."""
    if isinstance(value, str):
        return value
    if depth == 0:
        return ""
    if isinstance(value, dict):
        return _last_text(value.get("content", value.get("text", "")), depth - 1)
    if isinstance(value, list):
        return next((text for item in reversed(value) if (text := _last_text(item, depth - 1))), "")
    return ""


def _chat(text: str, model: str, usage: Usage, created: int, number: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
            "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_emulator",
    }


def _completion(text: str, model: str, usage: Usage, created: int, number: str) -> dict[str, Any]:
    return {
        "id": f"cmpl-{number}",
        "object": "text_completion",
        "created": created,
        "model": model,
        "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
        },
    }


def _response(text: str, model: str, usage: Usage, created: int, number: str) -> dict[str, Any]:
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": created,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": model,
        "output": [
            {
                "id": f"msg_{number}",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input + usage.output,
        },
    }


def _embedding(body: Body, model: str, usage: Usage) -> dict[str, Any]:
    given = _loads(bytes(body.input))
    inputs = given if isinstance(given, list) and given and isinstance(given[0], (str, list)) else [given]
    dimensions = min(body.dimensions or 8, MOST_DIMENSIONS)
    return {
        "object": "list",
        "model": model,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": [((index + place) % 7 - 3) / 16 for place in range(dimensions)],
            }
            for index in range(len(inputs))
        ],
        "usage": {"prompt_tokens": usage.input, "total_tokens": usage.input},
    }
