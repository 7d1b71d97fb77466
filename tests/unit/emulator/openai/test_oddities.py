"""Odd result lines on demand."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from llmbatch.emulator.openai.processing.oddities import Oddity, odd


def an_answer() -> dict[str, Any]:
    """A good line."""
    usage = {"prompt_tokens": 9, "completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 3}}
    return {"custom_id": "a", "response": {"status_code": 200, "body": {"usage": usage}}, "error": None}


@pytest.mark.parametrize("oddity", get_args(Oddity))
def test_every_oddity_is_one(oddity: Oddity):
    """It differs from the good line, and is as many lines as it says."""
    written = odd(an_answer(), oddity)

    assert written.count(b"\n") == (2 if oddity == "twice" else 1)
    assert written != json.dumps(an_answer(), separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(("oddity", "usage"), [("float_usage", (9.0, 8.0)), ("reasoning_beside", (9, 5))])
def test_odd_usage_is_of_the_same_tokens(oddity: Oddity, usage: tuple[float, float]):
    """Written otherwise, or with the reasoning left out of the completion."""
    found = json.loads(odd(an_answer(), oddity))["response"]["body"]["usage"]

    assert (found["prompt_tokens"], found["completion_tokens"]) == usage
    assert isinstance(found["prompt_tokens"], type(usage[0]))
