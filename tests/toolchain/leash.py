"""Run a command that ends when its parent ends, however the parent ended.

Linux: `PR_SET_PDEATHSIG` (prctl(2)) survives the exec, so the command needs to know nothing of it. The signal comes
when the *thread* that started the command ends: start it from one that lives as long as the process. Elsewhere the
command is run as it is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def leashed(command: Sequence[str], on_parent_death: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command line that runs `command` in a process which gets `on_parent_death` when the caller ends."""
    return [sys.executable, "-I", "-S", __file__, str(int(on_parent_death)), str(os.getpid()), *command]


def main(arguments: Sequence[str]) -> None:
    """Bind this process to its parent, then become the command. Arguments: signal number, parent's pid, command…"""
    number, parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != int(parent):  # the parent ended before the kernel was told
            sys.exit(1)
    for inherited in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):  # ignored ones would stay ignored
        signal.signal(inherited, signal.SIG_DFL)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
