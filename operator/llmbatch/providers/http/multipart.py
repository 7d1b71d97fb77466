"""The form of an upload (RFC 7578), streamed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping

PIECE = 64 * 1024
"""Bytes that are gathered before they are sent on: a write for each line would cost more than the lines."""


class Form:
    """Some fields and one file, whose content comes last and is never held.

    ``size`` is the content's length in bytes where it is known; ``sent`` is told the bytes of content in each piece.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        *,
        name: str,
        content: AsyncIterator[bytes],
        size: int | None,
        sent: Callable[[int], None],
    ) -> None:
        boundary = secrets.token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        self._head = "".join(parts).encode("ascii")
        self._tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        self._content = content
        self._sent = sent
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.length = None if size is None else len(self._head) + size + len(self._tail)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pending = bytearray(self._head)
        async for line in self._content:
            self._sent(len(line))
            pending += line
            if len(pending) >= PIECE:
                yield bytes(pending)
                pending.clear()
        pending += self._tail
        yield bytes(pending)
