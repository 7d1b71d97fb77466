"""What `watch` shows of jobs fits its place and tells the truth."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from llmbatch.api import BatchJob
from llmbatch.plugin.jobs.board import Row, board, cost_text, data_of, deployment_of, news, state_of, summary
from llmbatch.plugin.terminal.printing import Look
from support.builders import NOW, a_job


def a_row(name: str, phase: str, *, done: int = 0, failed: int = 0, total: int = 0, **status: Any) -> Row:
    """A row of a job; cost and deployment come as in status."""
    if total:
        status["requestCounts"] = {"total": total, "completed": done, "failed": failed}
    job = a_job().with_status(phase=phase, **status).build()
    named = job.model_copy(update={"metadata": job.metadata.model_copy(update={"name": name})})
    return Row(named)


def told(type_: str, reason: str) -> dict[str, Any]:
    """A condition that holds."""
    return {"type": type_, "status": "True", "reason": reason, "lastTransitionTime": "2026-03-01T12:00:00Z"}


EAST = {"namespace": "team", "name": "east"}
RUNNING = Row(
    a_row("run-1", "InProgress", done=30, failed=2, total=64, deployment=EAST).job,
    rate=1.6,
    left=timedelta(seconds=20),
)
DONE = a_row("run-2", "Succeeded", done=64, total=64, deployment=EAST, cost={"amount": "0.012000", "source": "spec"})
WAITING = a_row("run-3", "Pending", conditions=[told("Reconciling", "InputFileNotFound")])


def test_a_wide_screen_shows_everything():
    """Progress, rate, time left, cost and place of each job, and the sum of all."""
    assert board([WAITING, DONE, RUNNING], Look(130, ascii=True), 24, namespaces=False) == [
        "JOB     STATE                         PROGRESS                               DONE    RATE   LEFT   COST USD   "
        "DEPLOYMENT",
        "run-1   InProgress                    ##############x...............  50%   32/64   1.6/s    20s          -   "
        "east",
        "run-2   Succeeded                     ############################## 100%   64/64       -      -   0.012000   "
        "east",
        "run-3   Pending (InputFileNotFound)   ..............................   0%       -       -      -          -   "
        "-",
        "1 running, 1 waiting, 1 succeeded; 96/128 requests; 1.6/s; 0.012000 USD",
    ]


@pytest.mark.parametrize("width", [130, 100, 80, 60, 40, 20, 5])
@pytest.mark.parametrize("colour", [True, False])
def test_a_board_never_breaks_its_screen(width: int, colour: bool):
    """However small the terminal, lines are not wider than it and not more than it has."""
    rows = [a_row(f"run-{at}", "InProgress", done=at, total=40) for at in range(40)]
    made = board(rows, Look(width, colour), 10, namespaces=True)

    assert len(made) < 10
    if not colour:
        assert max(cell_len(line) for line in made) <= width


@pytest.mark.parametrize(("height", "lines"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4)])
def test_a_screen_of_a_few_lines_is_not_scrolled(height: int, lines: int):
    """Of a board that is too high, the titles stay."""
    made = board([RUNNING, DONE, WAITING], Look(80, ascii=True), height, namespaces=False)

    assert (len(made), made[0].split()[0]) == (lines, "JOB")


def test_a_narrow_screen_keeps_name_state_and_progress():
    """What matters most goes last."""
    made = board([RUNNING], Look(44, ascii=True), 24, namespaces=False)

    assert made[:2] == ["JOB     STATE        PROGRESS      LEFT", "run-1   InProgress   ##x...  50%    20s"]


def test_of_too_many_jobs_those_that_run_are_shown():
    """Where not all jobs fit, those that have ended are left out first, and their number is told."""
    rows = [*(a_row(f"done-{at}", "Succeeded", done=1, total=1) for at in range(20)), WAITING, RUNNING]
    made = board(rows, Look(100), 8, namespaces=False)

    assert [line.split()[0] for line in made[1:5]] == ["done-0", "done-1", "run-1", "run-3"]
    assert made[5:] == ["and 18 more", "1 running, 1 waiting, 20 succeeded; 52/84 requests; 1.6/s"]


@pytest.mark.parametrize(
    ("phase", "condition", "text"),
    [
        ("Pending", told("Reconciling", "NoHeadroom"), "Pending (NoHeadroom)"),
        ("InProgress", told("Reconciling", "Running"), "InProgress"),
        ("InProgress", told("Reconciling", "Unreachable"), "InProgress (Unreachable)"),
        ("Failed", told("Finished", "BatchFailed"), "Failed (BatchFailed)"),
        ("Succeeded", told("Finished", "Completed"), "Succeeded"),
        ("Succeeded", told("Finished", "CompletedWithFailures"), "Succeeded (CompletedWithFailures)"),
        ("Cancelled", told("Finished", "Cancelled"), "Cancelled"),
    ],
)
def test_a_state_says_why_where_that_is_news(phase: str, condition: dict[str, Any], text: str):
    """A reason that only repeats the phase is left out."""
    assert state_of(a_job().with_status(phase=phase, conditions=[condition]).build()) == text


def test_an_unknown_cost_is_never_a_nought():
    """Costs that are not known are said to be so, in a row and in the sum."""
    unknown = a_row("run-4", "Succeeded", cost={"source": "unknown", "reason": "NoBatchPrice"})

    assert cost_text(unknown.job.status.cost) == "unknown"
    assert summary([unknown]) == "1 succeeded; cost unknown"
    assert summary([unknown, DONE]) == "2 succeeded; 64/64 requests; 0.012000 USD and 1 unknown"
    assert summary([]) == "no jobs"


def test_an_amount_that_is_none_is_unknown():
    """What somebody wrote into a status by hand is neither shown as money nor written out."""
    written = a_row("run-4", "Succeeded", cost={"amount": "1e999999", "source": "spec"})

    assert cost_text(written.job.status.cost) == "unknown"
    assert summary([written]) == "1 succeeded; cost unknown"
    assert news(written, NOW, namespaces=False).endswith("cost unknown")


def test_a_shared_deployment_is_told_with_its_namespace():
    """Two deployments of one name are told apart."""
    shared = a_job().with_status(deployment={"namespace": "platform", "name": "east"}).build()

    assert deployment_of(shared) == "platform/east"
    assert deployment_of(RUNNING.job) == "east"


def test_a_change_is_one_line():
    """In a pipe each change stands by itself, with its time."""
    assert news(RUNNING, NOW, namespaces=True) == (
        "2026-03-01T12:00:00Z  team/run-1  InProgress  32/64 (50%)  2 failed  1.6/s  20s left  on east"
    )
    assert news(DONE, NOW, namespaces=False) == (
        "2026-03-01T12:00:00Z  run-2  Succeeded  64/64 (100%)  0.012000 USD  on east"
    )


def test_programs_get_numbers_and_null():
    """The structured form holds numbers, and null for what is not known."""
    assert data_of(RUNNING) == {
        "namespace": "team",
        "name": "run-1",
        "phase": "InProgress",
        "state": "InProgress",
        "finished": False,
        "requests": {"total": 64, "completed": 30, "failed": 2},
        "requestsPerSecond": 1.6,
        "secondsLeft": 20,
        "cost": None,
        "deployment": "team/east",
    }


def test_a_hostile_state_does_not_reach_the_terminal():
    """A reason that somebody wrote into a status by hand is cleaned like any other text."""
    job: BatchJob = a_job().with_status(conditions=[told("Reconciling", "\x1b[2J")]).build()

    assert "\x1b" not in "".join(board([Row(job)], Look(100), 24, namespaces=False))
