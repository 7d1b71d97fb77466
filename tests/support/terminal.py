"""A terminal for programs that draw: a pseudo-terminal with a screen that can be read."""

from __future__ import annotations

import copy
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import pyte

ALTERNATE = 1049
READ_BYTES = 65_536
LOOK_SECONDS = 0.05
EXIT_SECONDS = 30.0
TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Makes standard input the controlling terminal, from which Ctrl-C comes, and becomes the program.

Signals do there what they do in a new window: of a test run in the background some are ignored.
"""


class TwoScreens(pyte.Screen):
    """A screen with an alternate one, which pyte leaves out; on leaving that, the first is as it was (xterm)."""

    def __init__(self, columns: int, lines: int) -> None:
        self._first: tuple[Any, Any] | None = None
        super().__init__(columns, lines)

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen is shown."""
        return self._first is not None

    @property
    def cursor_hidden(self) -> bool:
        """Whether the cursor is hidden."""
        return self.cursor.hidden

    def set_mode(self, *modes: int, private: bool = False, **options: Any) -> None:
        """As pyte, and the alternate screen."""
        if private and ALTERNATE in modes and self._first is None:
            self._first = copy.deepcopy(self.buffer), copy.copy(self.cursor)
            self.erase_in_display(2)
        super().set_mode(*modes, private=private, **options)

    def reset_mode(self, *modes: int, private: bool = False, **options: Any) -> None:
        """As pyte, and back from the alternate screen."""
        super().reset_mode(*modes, private=private, **options)
        if private and ALTERNATE in modes and self._first is not None:
            hidden = self.cursor.hidden
            self.buffer, self.cursor = self._first
            self.cursor.hidden = hidden
            self._first = None
            self.dirty.update(range(self.lines))


class Terminal:
    """A program on a terminal of its own; use it in a ``with``, at whose end the program is killed if it still runs."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, columns: int = 100, lines: int = 24
    ) -> None:
        self.screen = TwoScreens(columns, lines)
        self.output = bytearray()
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        _set_size(theirs, columns, lines)
        base = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._process = subprocess.Popen(
            [sys.executable, "-ISc", TAKE_TERMINAL, *command],
            env={**base, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **environment},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)

    @property
    def text(self) -> str:
        """What can be seen, without the blanks at the ends of lines."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def read(self, seconds: float = 0.0) -> bool:
        """Take in what the program wrote, waiting for its first byte so long; whether there was any."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        try:
            chunk = os.read(self._ours, READ_BYTES)
        except OSError:  # Linux: the program has ended, and everybody else who had the terminal open
            return False
        self.output += chunk
        self._stream.feed(chunk)
        return bool(chunk)

    def wait(self, reached: Callable[[str], object], *, timeout: float = 30.0) -> str:
        """The text on the screen once it is as wanted; AssertionError with the screen at the deadline."""
        deadline = time.monotonic() + timeout
        while not reached(self.text):
            ended = self._process.poll() is not None and not self.read()
            if (ended and not reached(self.text)) or time.monotonic() > deadline:
                why = f"the program ended with {self._process.returncode}" if ended else f"not within {timeout} s"
                raise AssertionError(f"{why}; the screen:\n{self.text}")
            self.read(LOOK_SECONDS)
        return self.text

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size; the program is told by SIGWINCH, as by any terminal."""
        self.screen.resize(lines, columns)
        _set_size(self._ours, columns, lines)

    def type(self, text: str) -> None:
        """Press keys; Ctrl-C is ``\\x03``."""
        os.write(self._ours, text.encode())

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self._process.send_signal(number)

    def signal_job(self, number: signal.Signals) -> None:
        """Send a signal to the programs that have the terminal, which a shell may have started."""
        os.killpg(os.tcgetpgrp(self._ours), number)

    def exit_code(self, *, timeout: float = EXIT_SECONDS) -> int:
        """How the program ended, with all that it wrote taken in; AssertionError if it does not end in time."""
        deadline = time.monotonic() + timeout
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"the program did not end within {timeout} s; the screen:\n{self.text}")
            self.read(LOOK_SECONDS)
        while self.read(LOOK_SECONDS):
            pass
        return self._process.returncode


def _set_size(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
