"""A live table on a terminal that a shell takes back with Ctrl-Z, and gives again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_server import ApiServer
from support.plugin import Plugin
from support.terminal import Terminal

SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    os.tcsetpgrp(0, os.getpgrp())
    print("stopped", flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
"""
"""What a shell does with one job: waits for it, takes the terminal when it is stopped, and continues it on Enter."""


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A watch of a job that runs, started by a shell."""
    with ApiServer(tmp_path) as api:
        api.put("batchjobs", "run-1", spec={"inputFileRef": {"name": "q"}}, status={"phase": "InProgress"})
        plugin = Plugin(api.kubeconfig)
        command = [sys.executable, "-ISc", SHELL, *plugin.command("watch")]
        with Terminal(command, plugin.environ) as made:
            yield made


def test_ctrl_z_gives_the_terminal_back_and_fg_draws_again(terminal: Terminal):
    """The shell gets its screen and its cursor; once the program goes on, the table is there as if nothing had been."""
    terminal.wait(lambda text: "InProgress" in text)
    terminal.type("\x1a")

    assert "InProgress" not in terminal.wait(lambda text: "stopped" in text)
    assert (terminal.screen.alternate, terminal.screen.cursor_hidden) == (False, False)

    terminal.type("\n")
    terminal.wait(lambda text: "InProgress" in text)
    assert (terminal.screen.alternate, terminal.screen.cursor_hidden) == (True, True)

    terminal.type("\x03")
    assert terminal.exit_code() == 130
    assert not terminal.screen.alternate


def test_a_window_that_is_closed_ends_the_watch(terminal: Terminal):
    """Its SIGHUP is Ctrl-C's end, with the terminal as it was."""
    terminal.wait(lambda text: "InProgress" in text)
    terminal.signal_job(signal.SIGHUP)

    assert terminal.exit_code() == 130
    assert (terminal.screen.alternate, terminal.screen.cursor_hidden) == (False, False)
