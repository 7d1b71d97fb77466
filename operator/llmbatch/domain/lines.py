"""JSON lines as they stream by: cut out of chunks of any size, and their ids remembered in little memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"


class Lines:
    """Cuts chunks of any size into lines at line feeds alone; a leading byte order mark is dropped.

    Lines keep their carriage return. A line over ``max_line_bytes`` comes out as None and is not kept in memory.
    """

    def __init__(self, max_line_bytes: int) -> None:
        self._max = max_line_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._started = False

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """The lines that end in this chunk."""
        if not self._started:
            self._parts.append(chunk)
            chunk = b"".join(self._parts)
            self._parts.clear()
            if len(chunk) < len(BOM) and BOM.startswith(chunk):
                self._parts.append(chunk)
                return
            self._started = True
            chunk = chunk.removeprefix(BOM)
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            yield self._joined(line)
        self._keep(rest)

    def finish(self) -> Iterator[bytes | None]:
        """The last line, where it has no line feed."""
        if self._parts or self._size:
            yield self._joined(b"")

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max:
            self._parts.clear()
        elif part:
            self._parts.append(part)

    def _joined(self, last: bytes) -> bytes | None:
        if self._size + len(last) > self._max:
            line = None
        elif self._parts:
            line = b"".join([*self._parts, last])
        else:
            line = last
        self._parts.clear()
        self._size = 0
        return line


class Seen:
    """A set of texts of which a million takes 25 MB: 16 bytes each, in buckets.

    The bucket comes from Python's own salted hash, so no input can be made to fill a single one. ``digest`` is the same
    for the same texts in any order, in every process.
    """

    _SIZE = 16

    def __init__(self) -> None:
        self._buckets: dict[int, bytearray] = {}
        self._sum = 0

    @property
    def digest(self) -> str:
        """Of all texts together, 32 hexadecimal digits."""
        return f"{self._sum % 2 ** (8 * self._SIZE):032x}"

    def add(self, text: str) -> bool:
        """Whether the text was not there yet."""
        digest = hashlib.blake2b(text.encode(), digest_size=self._SIZE).digest()
        bucket = self._buckets.setdefault(hash(digest) & 0xFFFF, bytearray())
        at = bucket.find(digest)
        while at >= 0 and at % self._SIZE:
            at = bucket.find(digest, at + 1)
        if at < 0:
            bucket += digest
            self._sum += int.from_bytes(digest)
        return at < 0
