"""The terminal's other screen: drawn over and over, and gone without a trace at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TextIO

ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
LEAVE = "\x1b[?25h\x1b[?1049l"
# Synchronised output: terminals that know it show a frame when it is whole, the others ignore it.
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
UNKNOWN_SIZE = (80, 24)


def usable(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is a terminal that can be drawn on."""
    return stream.isatty() and environ.get("TERM", "") not in ("", "dumb")


class Screen:
    """The alternate screen of a terminal, for a ``with``; drawing the same again writes nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn: tuple[tuple[int, int], list[str]] | None = None
        self._entered = False

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows as they are now."""
        try:
            found = os.get_terminal_size(self._stream.fileno())
        except OSError:
            return UNKNOWN_SIZE
        return (found.columns, found.lines) if found.columns and found.lines else UNKNOWN_SIZE

    def __enter__(self) -> Screen:
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the terminal back as it was, for good or until the next drawing."""
        if self._entered:
            self._entered, self._drawn = False, None
            self._write(LEAVE)

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines from the top, and nothing else; there are fewer than rows, and none is too long.

        Nothing is shown while the shell has the terminal.
        """
        if not self._enter():
            return
        frame = (self.size, list(lines))
        if frame == self._drawn:
            return
        # Each line is cleared before it is written: clearing behind a full line would take its last letter.
        text = "".join(f"\x1b[2K{line}\r\n" for line in lines)
        self._write(f"{BEGIN}\x1b[H{text}\x1b[J{END}")
        self._drawn = frame

    def _enter(self) -> bool:
        """Whether the terminal is ours, and shows our screen."""
        if not self._entered and self._is_ours():
            self._entered = True
            self._write(ENTER)
        return self._entered

    def _is_ours(self) -> bool:
        try:
            return os.tcgetpgrp(self._stream.fileno()) == os.getpgrp()
        except OSError:  # it is not the one that jobs are controlled from
            return True

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
