"""Counts, usage and cost of a batch, added up from its result lines as they stream by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from llmbatch.api.batchjob import Cost, Usage
from llmbatch.domain.errors import BadAnswer
from llmbatch.domain.requests.validation import BLANK, Lines
from llmbatch.domain.results.cost import Bill, PriceBook, Tokens

MAX_LINE_TOKENS = 1_000_000_000
"""A line that claims more is not believed, so that no total overflows 64 bits."""
RESULT_LINE_BYTES = 32 * 1024 * 1024
"""Of one result: room for images."""
VALUE_BYTES = 16 * 1024
"""Of a value that is decoded; a longer one is taken for one of another kind."""

T = TypeVar("T")
_NULL = msgspec.Raw(b"null")


class _Response(msgspec.Struct, gc=False):
    status_code: msgspec.Raw = _NULL
    body: msgspec.Raw = _NULL


class _Line(msgspec.Struct, gc=False):
    response: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Body(msgspec.Struct, gc=False):
    model: msgspec.Raw = _NULL
    usage: msgspec.Raw = _NULL


_LINE = msgspec.json.Decoder(_Line)
_RESPONSE = msgspec.json.Decoder(_Response)
_BODY = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Totals:
    """All result lines of a batch together."""

    lines_ok: int = 0
    lines_failed: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=lambda: Cost(source="unknown"))

    @property
    def lines(self) -> int:
        """Requests that have a result."""
        return self.lines_ok + self.lines_failed


class ResultCounter:
    """Adds up the output and the error file of a batch, fed in any pieces and in any order of the two.

    A line that is not a whole JSON object raises BadAnswer (its number is told, no content), so that a download that
    was cut is not taken for all of it; so do more than ``max_lines`` of both files together. Memory is that of the
    longest line. Short lines take up to 1 µs a byte: 16 KiB at a time hold the loop for at most 20 ms.
    """

    def __init__(self, prices: PriceBook, max_lines: int | None = None) -> None:
        self._bill = Bill(prices)
        self._max_lines = max_lines
        self._files = {"output": Lines(RESULT_LINE_BYTES), "error": Lines(RESULT_LINE_BYTES)}
        self._read = {"output": 0, "error": 0}
        self._ok = 0
        self._failed = 0
        self._input = 0
        self._cached = 0
        self._output = 0
        self._reasoning = 0

    def feed_output(self, chunk: bytes) -> None:
        """The next bytes of the output file."""
        self._take("output", self._files["output"].feed(chunk))

    def feed_errors(self, chunk: bytes) -> None:
        """The next bytes of the error file."""
        self._take("error", self._files["error"].feed(chunk))

    def finish(self) -> Totals:
        """The totals, once both files were fed to their ends."""
        for name, lines in self._files.items():
            self._take(name, lines.finish())
        return Totals(
            lines_ok=self._ok,
            lines_failed=self._failed,
            usage=Usage(
                input_tokens=self._input,
                cached_input_tokens=self._cached,
                output_tokens=self._output,
                reasoning_tokens=self._reasoning,
                total_tokens=self._input + self._output,
            ),
            cost=self._bill.cost(),
        )

    def _take(self, name: str, lines: Iterable[bytes | None]) -> None:
        for line in lines:
            self._read[name] += 1
            if line is None or line.strip(BLANK):
                try:
                    self._add(line)
                except (ValueError, RecursionError):
                    # The cause may quote the line.
                    where = f"line {self._read[name]} of the {name} file"
                    raise BadAnswer(f"{where} is not a whole JSON object; the file is read again") from None

    def _add(self, text: bytes | None) -> None:
        if text is None:
            raise ValueError("the line is too long")
        if self._max_lines is not None and self._ok + self._failed >= self._max_lines:
            raise BadAnswer(f"the result files have more than {self._max_lines} lines, which are more than were asked")
        line = _LINE.decode(text)
        response = _decoded(_RESPONSE, line.response)
        status = _value(response.status_code) if response else None
        failed = bytes(line.error) != b"null" or type(status) is not int or status >= 400
        self._failed += failed
        self._ok += not failed
        body = _decoded(_BODY, response.body) if response else None
        if body:
            model = _value(body.model)
            self._use(model if isinstance(model, str) else None, _value(body.usage))

    def _use(self, model: str | None, usage: Any) -> None:
        tokens, reasoning = tokens_of(usage)
        self._input += tokens.input
        self._cached += tokens.cached
        self._output += tokens.output
        self._reasoning += reasoning
        self._bill.add(model, tokens)


def tokens_of(usage: Any) -> tuple[Tokens, int]:
    """Tokens and reasoning tokens of one answer: chat, completions, embeddings (prompt_…) or responses (input_…).

    What is missing, null, negative, no integer or beyond belief is 0; a part is never more than its whole.
    """
    whole = _mapping(usage)
    into = _mapping(whole.get("input_tokens_details") or whole.get("prompt_tokens_details"))
    out = _mapping(whole.get("output_tokens_details") or whole.get("completion_tokens_details"))
    read = _count(whole.get("input_tokens")) or _count(whole.get("prompt_tokens"))
    made = _count(whole.get("output_tokens")) or _count(whole.get("completion_tokens"))
    cached = min(_count(into.get("cached_tokens")), read)
    tokens = Tokens(
        input=read,
        cached=cached,
        written=min(_count(into.get("cache_write_tokens")), read - cached),
        output=made,
        other=sum(_count(part.get(kind)) for part in (into, out) for kind in ("audio_tokens", "image_tokens")),
    )
    return tokens, min(_count(out.get("reasoning_tokens")), made)


def _decoded(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw) -> T | None:
    """What the value says, or None where it is of another kind; the line as a whole is valid JSON already."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        return None


def _value(raw: msgspec.Raw) -> Any:
    """A small value, or None; also where it cannot be held, such as the number 1e999."""
    if memoryview(raw).nbytes > VALUE_BYTES:
        return None
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value <= MAX_LINE_TOKENS else 0
