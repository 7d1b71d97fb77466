"""One line of progress for a long build: redrawn on a terminal, a new line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

REDRAW_SECONDS = 0.2
LINE_SECONDS = 20.0


class ProgressLine:
    """Says what is going on and for how many seconds; `show` is cheap and may be called for every event."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._interval = REDRAW_SECONDS if self._terminal else LINE_SECONDS
        self._begun = self._clock()
        self._shown = float("-inf")
        self._drawn = False

    def show(self, text: str) -> None:
        """Draw `text` unless the last drawing is too recent."""
        now = self._clock()
        if now - self._shown < self._interval:
            return
        self._shown = now
        line = f"{text} ({now - self._begun:.0f} s)"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[2K{line[:width]}")
            self._drawn = True
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Write `text` as a line that stays."""
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._drawn = False
        self._stream.write(f"{text}\n")
        self._stream.flush()
        self._shown = float("-inf") if self._terminal else self._clock()
