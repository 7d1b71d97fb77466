"""Puts a deployment's own model name and URL into each line; every other byte stays what the user wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import msgspec

from llmbatch.domain.lines import BLANK, Lines
from llmbatch.domain.requests.endpoint import address_of
from llmbatch.domain.requests.json_members import Span, members, string
from llmbatch.domain.requests.plain import plain
from llmbatch.domain.requests.validation import MAX_LINE_BYTES, InputReport

LineURL = Callable[[str], str]


def translated_size(report: InputReport, model: str, line_url: LineURL) -> int:
    """Bytes that a Translation makes of the valid input that ``report`` is about, exactly."""
    url = 0 if report.endpoint is None else len(_json(line_url(report.endpoint)))
    size = report.payload_bytes + report.requests + report.requests * url - report.url_bytes
    name = len(_json(model))
    if report.model is not None:
        return size + report.requests * name - report.model_bytes
    return size + report.requests * (len(b'"model":') + name + len(b",")) - report.empty_bodies


class Translation:
    """Translates a validated input as it streams by.

    ``model`` is the deployment's name for it, ``line_url`` writes an endpoint as its provider has it. The byte order
    mark and blank lines are dropped, and every line ends with a line feed. Input that was not validated raises
    ValueError, in which no content is told.
    """

    def __init__(self, model: str, line_url: LineURL, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._model = _json(model)
        self._line_url = line_url
        self._urls: dict[bytes, bytes] = {}
        self._lines = Lines(max_line_bytes)
        self._sha256 = hashlib.sha256()
        self.requests = 0
        """Lines made so far."""
        self.bytes = 0
        """Bytes made so far."""

    @property
    def sha256(self) -> str:
        """Hash of what was fed; another one than at validation means that the content has changed."""
        return self._sha256.hexdigest()

    def feed(self, chunk: bytes) -> bytes:
        """The translations of the lines that end in this chunk."""
        self._sha256.update(chunk)
        return self._translated(self._lines.feed(chunk))

    def finish(self) -> bytes:
        """The translation of a last line that has no line feed."""
        return self._translated(self._lines.finish())

    def _translated(self, lines: Iterator[bytes | None]) -> bytes:
        made: list[bytes] = []
        for line in lines:
            if line is None:
                raise ValueError(f"request {self.requests + 1} is too long; the input must be validated first")
            if not line.strip(BLANK):
                continue
            try:
                self._translate(line, made)
            except (ValueError, RecursionError):
                # The cause may quote the line.
                raise ValueError(
                    f"request {self.requests + 1} is malformed; the input must be validated first"
                ) from None
            self.requests += 1
        text = b"".join(made)
        self.bytes += len(text)
        return text

    def _translate(self, line: bytes, made: list[bytes]) -> None:
        """Adds the pieces of the translated line to ``made``."""
        url, body, model = _places(line)
        edits = [(url, self._url(line[url.start : url.end]))]
        if model:
            edits.append((model, self._model))
        else:
            inside = body.start + 1
            comma = b"," if line[inside : body.end - 1].strip(BLANK) else b""
            edits.append((Span(inside, inside), b'"model":' + self._model + comma))
        at = 0
        for span, text in sorted(edits):
            made += (line[at : span.start], text)
            at = span.end
        made += (line[at:], b"\n")

    def _url(self, token: bytes) -> bytes:
        """The provider's form of a URL, both as JSON. A file has one URL, in very few spellings."""
        known = self._urls.get(token)
        if known is None:
            address = address_of(string(token) or "")
            if address is None:
                raise ValueError("url is no endpoint")
            known = self._urls[token] = _json(self._line_url(address.endpoint))
        return known


def _json(text: str) -> bytes:
    return msgspec.json.encode(text)


def _places(line: bytes) -> tuple[Span, Span, Span | None]:
    """Where the line's url, body and body's model are."""
    if found := plain(line):
        return found.url_span, found.body_span, found.model_span
    outer = members(line)
    url, body = outer.spans.get("url"), outer.spans.get("body")
    if url is None or body is None or outer.duplicates & {"url", "body"}:
        raise ValueError("url or body is missing or doubled")
    inner = members(line, body.start, body.end)
    if "model" in inner.duplicates:
        raise ValueError("model is doubled")
    return url, body, inner.spans.get("model")
