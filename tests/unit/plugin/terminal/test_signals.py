"""Signals end a command in order, whatever it is doing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import typer

from llmbatch.plugin.commands.results import written
from llmbatch.plugin.exits import Exit, run

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def tell_us(number: signal.Signals) -> None:
    """Send this process the signal."""
    os.kill(os.getpid(), number)


@pytest.fixture(params=ENDING, ids=lambda number: number.name)
def number(request: pytest.FixtureRequest):
    """A signal; one that no command takes ends the test and not all tests."""

    def not_taken(number: int, frame: object) -> None:
        raise AssertionError("nobody took the signal")

    before = signal.signal(request.param, not_taken if request.param != signal.SIGINT else signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


async def never() -> None:
    """Wait for a signal alone."""
    async with asyncio.timeout(20):
        await asyncio.Event().wait()


def ended(work: Coroutine[Any, Any, Exit | None]) -> int:
    """The exit code of a command."""
    with pytest.raises(typer.Exit) as left:
        run(work)
    return left.value.exit_code


def test_a_download_that_is_told_to_end_leaves_no_part_of_a_file(tmp_path: Path, number: signal.Signals):
    """While it waits for more: 130, and the folder is as before."""

    async def download() -> None:
        with written(str(tmp_path / "answers.jsonl")) as target:
            target.write(b"half")
            asyncio.get_running_loop().call_soon(tell_us, number)
            await never()

    assert ended(download()) == 130
    assert os.listdir(tmp_path) == []


def test_a_command_that_writes_to_a_full_pipe_is_ended_too(tmp_path: Path, number: signal.Signals):
    """While it cannot go on, and nothing else could: here is where it would be written to for ever."""
    went_on = []

    async def stuck() -> None:
        with written(str(tmp_path / "answers.jsonl")):
            tell_us(number)
            went_on.append(True)

    assert ended(stuck()) == 130
    assert (went_on, os.listdir(tmp_path)) == ([], [])


def test_a_terminal_that_is_gone_while_a_command_ends_is_no_error(capsys, number: signal.Signals):
    """What is left to write when a window was closed fails, and nobody is there to be told."""

    async def drawing() -> None:
        asyncio.get_running_loop().call_soon(tell_us, number)
        try:
            await never()
        finally:
            raise OSError(5, "Input/output error")

    assert ended(drawing()) == 130
    assert capsys.readouterr().err == ""


def test_a_signal_that_is_ignored_stays_so(number: signal.Signals):
    """nohup's, which is to outlive its terminal."""
    signal.signal(number, signal.SIG_IGN)

    async def work() -> Exit:
        tell_us(number)
        await asyncio.sleep(0)
        return Exit.NO

    assert ended(work()) == 1
    assert signal.getsignal(number) is signal.SIG_IGN
