"""Counts, usage and cost of a batch, added up from its result lines as they stream by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from llmbatch.api.batchjob import Cost, Usage
from llmbatch.domain.errors import BadAnswer
from llmbatch.domain.lines import BLANK, Lines, Seen
from llmbatch.domain.results.cost import Bill, PriceBook, Tokens
from llmbatch.domain.results.patience import read_patiently

MAX_LINE_TOKENS = 1_000_000_000
"""A line that claims more is not believed, so that no total overflows 64 bits."""
RESULT_LINE_BYTES = 32 * 1024 * 1024
"""Of one result: room for images."""
VALUE_BYTES = 16 * 1024
"""Of a value that is decoded; a longer one is taken for one of another kind."""

_TOKENS = ("input_tokens", "prompt_tokens", "output_tokens", "completion_tokens")

T = TypeVar("T")
_NULL = msgspec.Raw(b"null")


class _Response(msgspec.Struct, gc=False):
    status_code: msgspec.Raw = _NULL
    body: msgspec.Raw = _NULL


class _Line(msgspec.Struct, gc=False):
    custom_id: msgspec.Raw = _NULL
    response: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Body(msgspec.Struct, gc=False):
    model: msgspec.Raw = _NULL
    usage: msgspec.Raw = _NULL
    results: msgspec.Raw = _NULL
    """Of moderations, which are free."""


_LINE = msgspec.json.Decoder(_Line)
_RESPONSE = msgspec.json.Decoder(_Response)
_BODY = msgspec.json.Decoder(_Body)
NO_ERROR = frozenset({b"null", b"{}", b'""', b"[]", b"false"})
"""How providers write that there is none; Groq writes an empty object where OpenAI has null."""


@dataclass(frozen=True, slots=True)
class Totals:
    """All result lines of a batch together."""

    lines_ok: int = 0
    lines_failed: int = 0
    unreadable: int = 0
    """Part of ``lines_failed``: lines that nobody understands."""
    repeated: int = 0
    """Lines of requests that have a result already; counted nowhere else."""
    nameless: int = 0
    """Part of ``lines``: those without an id, which name no request. Unreadable ones are not among them."""
    custom_id_digest: str = ""
    """Digest of the ids, as that of the input."""
    foreign: int | None = 0
    """Part of ``lines``: those whose id is not of the input; None where nobody knows how many there are."""
    failed_in: frozenset[str] = frozenset()
    """Which of the files, ``output`` and ``error``, the failed lines are in."""
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=lambda: Cost(source="unknown"))

    @property
    def lines(self) -> int:
        """Requests that have a result."""
        return self.lines_ok + self.lines_failed

    @property
    def unmatched(self) -> int:
        """Lines that belong to no request of the input; at least so many, where ``foreign`` is None."""
        return max(1, self.nameless) if self.foreign is None else self.nameless + self.foreign

    def is_suspicious(self, custom_id_digest: str | None, requests: int) -> bool:
        """Whether lines may belong to no request of an input of so many requests, with this digest of their ids."""
        whole = custom_id_digest is not None and not self.unreadable and self.lines >= requests
        return bool(self.nameless) or (whole and self.custom_id_digest != custom_id_digest)


class ResultCounter:
    """Adds up the output and the error file of a batch, fed in any pieces and in any order of the two.

    A line that strict JSON refuses is read with patience; one that nobody understands counts as failed. More than
    ``max_lines`` of both files together raise BadAnswer. Memory is that of the longest line, and 25 bytes for each
    custom_id. Short lines take up to 1 µs a byte: 16 KiB at a time hold the loop for at most 20 ms.
    """

    def __init__(self, prices: PriceBook, max_lines: int | None = None) -> None:
        self._bill = Bill(prices)
        self._max_lines = max_lines
        self._files = {"output": Lines(RESULT_LINE_BYTES), "error": Lines(RESULT_LINE_BYTES)}
        self._digests = {"output": hashlib.sha256(), "error": hashlib.sha256()}
        self._seen = Seen()
        self._named = 0
        self._nameless = 0
        self._input_lines = Lines(RESULT_LINE_BYTES)
        self._matched = 0
        self._ok = 0
        self._failed = {"output": 0, "error": 0}
        self._unreadable = 0
        self._repeated = 0
        self._input = 0
        self._cached = 0
        self._output = 0
        self._reasoning = 0

    def feed_output(self, chunk: bytes) -> None:
        """The next bytes of the output file."""
        self._feed("output", chunk)

    def feed_errors(self, chunk: bytes) -> None:
        """The next bytes of the error file."""
        self._feed("error", chunk)

    @property
    def digest(self) -> str:
        """Of all that was fed: two readings of the same files have the same."""
        return "".join(digest.hexdigest() for digest in self._digests.values())

    def feed_input(self, chunk: bytes) -> None:
        """The next bytes of the requests, after ``finish``: which of the results' ids are theirs."""
        for line in self._input_lines.feed(chunk):
            self._match(line)

    def foreign(self) -> int:
        """How many ids are not of the requests, once all of them were fed."""
        for line in self._input_lines.finish():
            self._match(line)
        return self._named - self._matched

    def finish(self) -> Totals:
        """The totals, once both files were fed to their ends."""
        for name, lines in self._files.items():
            self._take(name, lines.finish())
        return Totals(
            lines_ok=self._ok,
            lines_failed=sum(self._failed.values()),
            unreadable=self._unreadable,
            repeated=self._repeated,
            nameless=self._nameless,
            custom_id_digest=self._seen.digest,
            failed_in=frozenset(name for name, failed in self._failed.items() if failed),
            usage=Usage(
                input_tokens=self._input,
                cached_input_tokens=self._cached,
                output_tokens=self._output,
                reasoning_tokens=self._reasoning,
                total_tokens=self._input + self._output,
                requests_without=self._bill.without_usage or None,
            ),
            cost=self._bill.cost(),
        )

    def _feed(self, name: str, chunk: bytes) -> None:
        self._digests[name].update(chunk)
        self._take(name, self._files[name].feed(chunk))

    def _take(self, name: str, lines: Iterable[bytes | None]) -> None:
        for line in lines:
            if line is None or line.strip(BLANK):
                self._count(name, line)

    def _count(self, name: str, text: bytes | None) -> None:
        read = self._ok + sum(self._failed.values()) + self._repeated
        if self._max_lines is not None and read >= self._max_lines:
            raise BadAnswer(f"the result files have more than {self._max_lines} lines, which are more than were asked")
        try:
            line = _read(text)
        except ValueError:
            self._unreadable += 1
            self._failed[name] += 1
            return
        custom_id = _value(line.custom_id)
        if not isinstance(custom_id, str) or not custom_id:
            self._nameless += 1
        elif self._seen.add(custom_id):
            self._named += 1
        else:
            self._repeated += 1
            return
        self._add(name, line)

    def _match(self, text: bytes | None) -> None:
        """An id of the input that no result has is taken in too: nothing is asked of ``_seen`` any more."""
        if text and text.strip(BLANK):
            custom_id = _value(_read(text).custom_id)
            self._matched += isinstance(custom_id, str) and not self._seen.add(custom_id)

    def _add(self, name: str, line: _Line) -> None:
        response = _decoded(_RESPONSE, line.response)
        status = whole_number(_value(response.status_code)) if response else None
        failed = bytes(line.error) not in NO_ERROR or status is None or status >= 400
        self._failed[name] += failed
        self._ok += not failed
        body = _decoded(_BODY, response.body) if response else None
        model = _value(body.model) if body else None
        usage = _value(body.usage) if body else None
        tokens, reasoning = tokens_of(usage)
        self._input += tokens.input
        self._cached += tokens.cached
        self._output += tokens.output
        self._reasoning += reasoning
        self._bill.add(model if isinstance(model, str) else None, tokens)
        if not failed and not _is_told(usage):
            self._bill.add_without_usage(free=body is not None and bytes(body.results)[:1] == b"[")


def _read(text: bytes | None) -> _Line:
    """A line's parts. Raises ValueError where nobody understands it."""
    if text is None:
        raise ValueError("the line is too long")
    try:
        return _LINE.decode(text)
    except (msgspec.DecodeError, RecursionError):
        found = read_patiently(text)
    try:
        return _LINE.decode(msgspec.json.encode(found))
    except RecursionError:
        raise ValueError("the line is nested too deep") from None


def tokens_of(usage: Any) -> tuple[Tokens, int]:
    """Tokens and reasoning tokens of one answer: chat, completions, embeddings (prompt_…) or responses (input_…).

    What is missing, null, negative, no whole number or beyond belief is 0; a part is never more than its whole.
    Reasoning that the total counts beside ``completion_tokens`` is output too (seen from providers that call
    themselves compatible).
    """
    whole = _mapping(usage)
    into = _mapping(whole.get("input_tokens_details") or whole.get("prompt_tokens_details"))
    out = _mapping(whole.get("output_tokens_details") or whole.get("completion_tokens_details"))
    read = _count(whole.get("input_tokens")) or _count(whole.get("prompt_tokens"))
    made = _count(whole.get("output_tokens")) or _count(whole.get("completion_tokens"))
    reasoning = _count(out.get("reasoning_tokens"))
    if reasoning and _count(whole.get("total_tokens")) == read + made + reasoning:
        made += reasoning
    cached = min(_count(into.get("cached_tokens")), read)
    tokens = Tokens(
        input=read,
        cached=cached,
        written=min(_count(into.get("cache_write_tokens")), read - cached),
        output=made,
        other=sum(_count(part.get(kind)) for part in (into, out) for kind in ("audio_tokens", "image_tokens")),
    )
    return tokens, min(reasoning, made)


def _is_told(usage: Any) -> bool:
    """Whether a usage says anything of tokens, if only that there were none (an answer from a cache)."""
    whole = _mapping(usage)
    return any(whole_number(whole.get(key)) is not None for key in _TOKENS)


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
    count = whole_number(value)
    return count if count is not None and 0 < count <= MAX_LINE_TOKENS else 0


def whole_number(value: Any) -> int | None:
    """A whole number, also one that is written as a float or as a text; None for all else."""
    if isinstance(value, str) and len(value) <= 19 and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None
