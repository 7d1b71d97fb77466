"""Checks the requests of a file as they stream by: memory stays small, and nothing is decoded that need not be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from llmbatch.api.batchfile import FileError
from llmbatch.domain.lines import BLANK, Lines, Seen
from llmbatch.domain.requests.endpoint import address_of
from llmbatch.domain.requests.json_members import Members, Span, TooComplex, TooTangled, members, string
from llmbatch.domain.requests.plain import plain

MAX_LINE_BYTES = 12 * 1024 * 1024
"""Of a request: room for images, and 10 to 50 ms of held loop."""
MAX_CUSTOM_ID_CHARACTERS = 512
KEPT_ERRORS = 20
ENOUGH_ERRORS = 1000
"""After so many errors the rest is hashed and counted in bytes, but not looked into."""

KEYS = ("custom_id", "method", "url", "body")
EMBEDDINGS = "/v1/embeddings"
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_HALF_A_PAIR = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)


@dataclass(frozen=True, slots=True)
class InputLimits:
    """What an input may be where it is to go. None: whatever the provider takes."""

    max_requests: int | None = None
    max_bytes: int | None = None
    endpoints: frozenset[str] | None = None
    max_embedding_inputs: int | None = None
    streams: bool = False
    """Whether lines may ask for a stream, which is for APIs to say that are only compatible."""
    max_line_bytes: int = MAX_LINE_BYTES


@dataclass(frozen=True, slots=True)
class InputReport:
    """What the whole input is, and what is wrong with it.

    ``sha256`` and ``bytes`` are of the input as read, byte order mark and blank lines included. ``model`` is the
    lines' own, None where they name none. ``payload_bytes`` are the request lines without their line feeds,
    ``url_bytes`` and ``model_bytes`` the part of them that translation replaces, as JSON with quotes;
    ``empty_bodies`` are the bodies without any member, ``custom_id_digest`` is of all ids. ``error_count`` is at least
    what it says: counting ends at ENOUGH_ERRORS.
    """

    requests: int
    bytes: int
    sha256: str
    estimated_input_tokens: int
    endpoint: str | None
    model: str | None
    errors: tuple[FileError, ...]
    error_count: int
    max_line_bytes: int
    payload_bytes: int = 0
    url_bytes: int = 0
    model_bytes: int = 0
    empty_bodies: int = 0
    custom_id_digest: str | None = None
    embedding_inputs: int = 0
    """Texts to embed, of which a line may have many."""

    @property
    def valid(self) -> bool:
        """Whether every line may be sent."""
        return not self.error_count


class _Bad(Exception):
    """A line that is not looked into further."""

    def __init__(self, code: str, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.key = key
        self.message = message


class InputCheck:
    """Validates a whole input, chunk by chunk; ``finish`` tells the result.

    ``targets`` are the names that a line's model may have; None: any, the same in all lines. The rest of an input that
    is too large is hashed but not looked into. The first ``kept_errors`` are told.
    """

    def __init__(
        self, targets: Sequence[str] | None, limits: InputLimits | None = None, *, kept_errors: int = KEPT_ERRORS
    ) -> None:
        self._targets = None if targets is None else frozenset(targets)
        self._kept_errors = kept_errors
        self._limits = limits or InputLimits()
        self._lines = Lines(self._limits.max_line_bytes)
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._seen = Seen()
        self._line = 0
        self._requests = 0
        self._longest = 0
        self._payload = 0
        self._body_bytes = 0
        self._url_bytes = 0
        self._model_bytes = 0
        self._empty_bodies = 0
        self._endpoint: str | None = None
        self._deployment: str | None = None
        self._embedding_inputs = 0
        self._model: str | None = None
        self._models_known = False
        self._errors: list[FileError] = []
        self._error_count = 0
        self._over = False

    @property
    def refused(self) -> bool:
        """Whether nothing that follows can be accepted, so that reading on only completes the hash."""
        return self._over

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; about 10 µs a line; 64 KiB at a time hold the loop for at most 30 ms."""
        self._sha256.update(chunk)
        self._bytes += len(chunk)
        most = self._limits.max_bytes
        if most is not None and self._bytes > most and not self._over:
            self._end(_Bad("file_too_large", f"the input is over {most} bytes; split it"))
        if self._over:
            return
        for line in self._lines.feed(chunk):
            self._take(line)

    def finish(self) -> InputReport:
        """The report on everything that was fed."""
        if not self._over:
            for line in self._lines.finish():
                self._take(line)
        if not self._requests and not self._error_count:
            self._error(None, _Bad("empty_file", "the input has no requests; write one JSON object a line"))
        return InputReport(
            requests=self._requests,
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            estimated_input_tokens=self._body_bytes // 4,
            endpoint=self._endpoint,
            model=self._model,
            errors=tuple(self._errors),
            error_count=self._error_count,
            max_line_bytes=self._longest,
            payload_bytes=self._payload,
            url_bytes=self._url_bytes,
            model_bytes=self._model_bytes,
            empty_bodies=self._empty_bodies,
            custom_id_digest=self._seen.digest,
            embedding_inputs=self._embedding_inputs,
        )

    def _end(self, bad: _Bad) -> None:
        """What is wrong with the whole; nothing that follows can mend it."""
        self._error(None, bad)
        self._over = True

    def _error(self, line: int | None, bad: _Bad) -> None:
        self._error_count += 1
        if len(self._errors) < self._kept_errors:
            self._errors.append(FileError(line=line, code=bad.code, key=bad.key, message=bad.message))
        if self._error_count >= ENOUGH_ERRORS:
            self._over = True

    def _take(self, line: bytes | None) -> None:
        if self._over:
            return
        self._line += 1
        if line is not None and not line.strip(BLANK):
            return
        self._requests += 1
        most = self._limits.max_requests
        if most is not None and self._requests > most:
            self._end(_Bad("too_many_requests", f"the input has over {most} requests; split it"))
            return
        try:
            if line is None:
                raise _Bad("line_too_long", f"the line is over {self._limits.max_line_bytes} bytes; make it shorter")
            self._longest = max(self._longest, len(line))
            self._payload += len(line)
            if not line.isascii():
                line.decode()
            if not self._plain(line):
                self._request(line, _object(line))
        except UnicodeDecodeError:
            self._error(self._line, _Bad("invalid_utf8", "the line is not UTF-8; save the file as UTF-8"))
        except _Bad as bad:
            self._error(self._line, bad)

    def _plain(self, line: bytes) -> bool:
        """Takes a line that is like those before it; False leaves it to the closer look, which tells what is wrong."""
        found = plain(line) if self._endpoint is not None and self._models_known else None
        if (
            found is None
            or found.method != "POST"
            or found.model != self._model
            or (found.stream and not self._limits.streams)
            or not 0 < len(found.custom_id) <= MAX_CUSTOM_ID_CHARACTERS
            or address_of(found.url) not in ((self._endpoint, None), (self._endpoint, self._deployment))
        ):
            return False
        self._unique(found.custom_id)
        self._body_bytes += found.body_span.end - found.body_span.start
        self._url_bytes += found.url_span.end - found.url_span.start
        if found.model_span:
            self._model_bytes += found.model_span.end - found.model_span.start
        else:
            self._empty_bodies += not line[found.body_span.start + 1 : found.body_span.end - 1].strip(BLANK)
        self._count_inputs(found.input)
        return True

    def _request(self, line: bytes, found: Members) -> None:
        """Every key is looked at, so that one run tells of all that is wrong."""
        for check in (self._custom_id, self._method, self._url, self._body):
            try:
                check(line, found)
            except _Bad as bad:
                self._error(self._line, bad)

    def _custom_id(self, line: bytes, found: Members) -> None:
        span = _required(found, "custom_id")
        text = string(line[span.start : span.end])
        if not text:
            raise _Bad("invalid_custom_id", "custom_id must be a string that is not empty", "custom_id")
        if len(text) > MAX_CUSTOM_ID_CHARACTERS:
            advice = f"custom_id is over {MAX_CUSTOM_ID_CHARACTERS} characters; make it shorter"
            raise _Bad("custom_id_too_long", advice, "custom_id")
        self._unique(text)

    def _unique(self, custom_id: str) -> None:
        if not self._seen.add(custom_id):
            raise _Bad("duplicate_custom_id", "an earlier line has the same custom_id; make each unique", "custom_id")

    def _method(self, line: bytes, found: Members) -> None:
        span = _required(found, "method")
        if string(line[span.start : span.end]) != "POST":
            raise _Bad("invalid_method", 'method must be "POST"', "method")

    def _url(self, line: bytes, found: Members) -> None:
        span = _required(found, "url")
        text = string(line[span.start : span.end])
        address = None if text is None else address_of(text)
        if address is None:
            more = ", without scheme and host" if text and "://" in text else ""
            raise _Bad("invalid_url", f"url must be the path of an endpoint, such as /v1/chat/completions{more}", "url")
        self._url_bytes += span.end - span.start
        if self._endpoint is None:
            self._endpoint = address.endpoint
            self._supported(address.endpoint)
        elif self._endpoint != address.endpoint:
            raise _Bad("mixed_urls", "url differs from that of an earlier line; use one endpoint a file", "url")
        self._deployment = self._deployment or address.deployment
        if address.deployment not in (None, self._deployment):
            raise _Bad("mixed_urls", "url names another deployment than an earlier line; use one a file", "url")

    def _supported(self, endpoint: str) -> None:
        known = self._limits.endpoints
        if known is not None and endpoint not in known:
            advice = f"no deployment of the file's models has batches for this url, only for {', '.join(sorted(known))}"
            raise _Bad("unsupported_endpoint", advice, "url")

    def _body(self, line: bytes, found: Members) -> None:
        span = _required(found, "body")
        if line[span.start] != 0x7B:
            raise _Bad("invalid_body", "body must be a JSON object", "body")
        self._body_bytes += span.end - span.start
        inner = _object(line, span, key="body")
        self._empty_bodies += not inner.spans
        if "model" in inner.duplicates:
            raise _Bad("duplicate_key", "body has model twice; keep one", "model")
        streamed = inner.spans.get("stream")
        if streamed and line[streamed.start : streamed.end] == b"true" and not self._limits.streams:
            raise _Bad("stream_not_supported", "a batch cannot stream; remove stream from body", "stream")
        if given := inner.spans.get("input"):
            self._count_inputs(line[given.start : given.end])
        self._body_model(line, inner.spans.get("model"))

    def _count_inputs(self, given: bytes | msgspec.Raw) -> None:
        """OpenAI bounds the texts of a file of embeddings, of which a line may have many."""
        if self._endpoint != EMBEDDINGS:
            return
        self._embedding_inputs += _texts_in(given)
        most = self._limits.max_embedding_inputs
        if most is not None and self._embedding_inputs > most:
            self._end(_Bad("too_many_inputs", f"the input has over {most} texts to embed; split it"))

    def _body_model(self, line: bytes, span: Span | None) -> None:
        model: str | None = None
        if span:
            model = string(line[span.start : span.end])
            if model is None:
                raise _Bad("invalid_model", "model must be a string", "model")
            if self._targets is not None and model not in self._targets:
                raise _Bad("foreign_model", "model is not among targetModelNames; use one of them or none", "model")
            self._model_bytes += span.end - span.start
        if not self._models_known:
            self._model, self._models_known = model, True
        elif self._model != model:
            raise _Bad("mixed_models", "model differs from that of an earlier line; use one, or none, a file", "model")


def _required(found: Members, key: str) -> Span:
    if key in found.duplicates:
        raise _Bad("duplicate_key", f"the line has {key} twice; keep one", key)
    span = found.spans.get(key)
    if span is None:
        raise _Bad(f"missing_{key}", f"the line has no {key}; add it", key)
    return span


def _object(line: bytes, span: Span | None = None, *, key: str | None = None) -> Members:
    """The members of a line, or of the object inside it that ``span`` names."""
    try:
        if span:
            return members(line, span.start, span.end)
        return members(line)
    except msgspec.ValidationError:
        raise _Bad("not_an_object", "the line must be one JSON object") from None
    except msgspec.DecodeError:
        if _HALF_A_PAIR.search(line):
            advice = "the line has half of a surrogate pair as an escape: a character that was cut; write it whole"
            raise _Bad("half_a_character", advice) from None
        raise _Bad("invalid_json", "the line is not valid JSON; write one JSON object a line") from None
    except RecursionError:
        raise _Bad("nested_too_deep", "the line is nested too deep; make it flatter", key) from None
    except TooComplex:
        raise _Bad("too_complex", "the line has more keys and values than any request needs", key) from None
    except TooTangled:
        raise _Bad("duplicate_key", "a key appears twice in a long object; keep one", key) from None


def _texts_in(given: bytes | msgspec.Raw) -> int:
    """How many texts an ``input`` holds: it is one, a list of them, or lists of tokens."""
    try:
        found = _RAWS.decode(given)
    except (msgspec.DecodeError, RecursionError):
        return 1
    return len(found) if found and bytes(found[0])[:1] in (b'"', b"[") else 1
