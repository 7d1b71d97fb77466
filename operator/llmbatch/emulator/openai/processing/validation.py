"""Validation of a batch's input, line by line while it comes in, as the providers do it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from llmbatch.emulator.refusals import LineError, Verdict

MAX_ERRORS = 50


class Line(msgspec.Struct):
    """A request; its body stays as it was written."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class Body(msgspec.Struct):
    """What of a request's body matters here, the parts that hold text as they were written."""

    model: str | msgspec.UnsetType = msgspec.UNSET
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    dimensions: int | None = None


def prompt_tokens(body: Body) -> int:
    """The tokens of a request: the bytes of its text by four, rounded up. A deployment's name is no part of it."""
    return max(1, -(-len(bytes(body.messages) + bytes(body.input) + bytes(body.prompt)) // 4))


class Validator:
    """Takes an input in pieces of any length, ends in a Verdict. Memory grows with the number of requests only."""

    def __init__(self, *, max_requests: int) -> None:
        self._max_requests = max_requests
        self._line = msgspec.json.Decoder(Line)
        self._body = msgspec.json.Decoder(Body)
        self._rest = bytearray()
        self._number = 0
        self._seen: set[str] = set()
        self._verdict = Verdict()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        if b"\n" not in piece:
            self._rest += piece
            return
        lines = (bytes(self._rest) + piece).split(b"\n")
        self._rest = bytearray(lines.pop())
        for line in lines:
            self._check(line)

    def finish(self) -> Verdict:
        """The verdict, once everything was fed."""
        if self._rest:
            self._check(bytes(self._rest))
            self._rest.clear()
        verdict = self._verdict
        if verdict.requests == 0 and not verdict.malformed:
            verdict.malformed.append(
                LineError(
                    "empty_file",
                    "The input file is empty. Please ensure that the batch contains at least one request.",
                )
            )
        if verdict.requests > self._max_requests:
            verdict.errors.insert(
                0,
                LineError(
                    "too_many_tasks",
                    f"The number of requests in the input file exceeds the maximum allowed value of "
                    f"{self._max_requests:,}.",
                ),
            )
        return verdict

    def _check(self, raw: bytes) -> None:
        self._number += 1
        if not raw.strip():
            return
        self._verdict.requests += 1
        try:
            raw.decode("utf-8")
            line = self._line.decode(raw)
        except msgspec.ValidationError as error:
            self._note(self._verdict.malformed, "invalid_request", f"The request line is not valid: {_where(error)}.")
            return
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            self._note(self._verdict.malformed, "invalid_json_line", "This line is not parseable as valid JSON.")
            return
        self._check_line(line)

    def _check_line(self, line: Line) -> None:
        verdict = self._verdict
        try:
            body = self._body.decode(line.body)
        except (msgspec.MsgspecError, RecursionError) as error:
            self._note(verdict.malformed, "invalid_request", f"The request body is not valid: {_where(error)}.", "body")
            return
        verdict.tokens += prompt_tokens(body)
        if line.custom_id in self._seen:
            self._note(
                verdict.errors,
                "duplicate_custom_id",
                "The custom_id for this request is a duplicate of another request. "
                "The custom_id parameter must be unique for each request in a batch.",
                "custom_id",
            )
        self._seen.add(line.custom_id)
        if line.method != "POST":
            self._note(
                verdict.errors, "invalid_method", "Invalid value for 'method': only POST is supported.", "method"
            )
        model = "" if body.model is msgspec.UNSET else body.model
        _remember(verdict.models, model, lambda: self._mismatch("model"))
        _remember(verdict.urls, line.url, lambda: self._mismatch("url"))

    def _mismatch(self, param: str) -> None:
        """Note a line that has another model or URL than those before; the dialect gives it its code."""
        self._note(self._verdict.errors, f"mismatched_{param}", "", f"body.{param}" if param == "model" else param)

    def _note(self, errors: list[LineError], code: str, message: str, param: str | None = None) -> None:
        if len(errors) < MAX_ERRORS:
            errors.append(LineError(code, message, self._number, param))


def _remember(values: list[str], value: str, otherwise: Callable[[], None]) -> None:
    """Note the file's one value; of further ones keep the first, and say that there were others."""
    if not values:
        values.append(value)
    elif value != values[0]:
        if len(values) < 2:
            values.append(value)
        otherwise()


def _where(error: Exception) -> str:
    """A decoder's complaint, which names a field and a type but never content."""
    return str(error).rstrip(".")
