"""What ``watch`` shows: a row a job, as lines that fit a screen, or as one line a change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from llmbatch.api import BatchJob
from llmbatch.api.base import rfc3339
from llmbatch.api.batchjob import Cost, Phase
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import condition, why
from llmbatch.plugin.jobs.progress import bar, left_text, rate_text
from llmbatch.plugin.jobs.spending import amount_of
from llmbatch.plugin.terminal.printing import NONE, Cell, Column, Look, Style, Table, fitted, lines, printable

STYLES: Mapping[Phase, Style] = {
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.EXPIRED: "red",
    Phase.CANCELLED: "yellow",
    Phase.CANCELLING: "yellow",
    Phase.SUSPENDED: "yellow",
    Phase.IN_PROGRESS: "cyan",
}
WAITING = (Phase.PENDING, Phase.SUSPENDED, Phase.SUBMITTING)
_EXPECTED = frozenset(
    {
        Reason.RUNNING, Reason.CREATING, Reason.COLLECTING, Reason.CANCELLING, Reason.SUSPENDED, Reason.COMPLETED,
        Reason.CANCELLED, Reason.EXPIRED,
    }
)  # fmt: skip
"""Reasons that say no more than the phase does."""
BAR_WIDTHS = ((130, 30), (100, 20), (80, 12), (0, 6))
"""From so many cells of a terminal on, the bar has so many."""


@dataclass(frozen=True, slots=True)
class Row:
    """A job as ``watch`` shows it. ``left`` counts from now."""

    job: BatchJob
    rate: float | None = None
    left: timedelta | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name, by which rows are sorted."""
        return self.job.metadata.namespace, self.job.metadata.name


def state_of(job: BatchJob) -> str:
    """The phase, with the reason where that says more."""
    phase = job.status.phase
    told = condition(job.status.conditions, ConditionType.FINISHED) if phase.finished else why(job.status.conditions)
    return phase.value if told is None or told.reason in _EXPECTED else f"{phase.value} ({told.reason})"


def deployment_of(job: BatchJob) -> str:
    """Where it runs; with the namespace where that is another one."""
    deployment = job.status.deployment
    if deployment is None:
        return NONE
    home = "" if deployment.namespace == job.metadata.namespace else f"{deployment.namespace}/"
    return home + deployment.name


def cost_text(cost: Cost | None) -> str:
    """USD; an unknown cost is never a nought."""
    if cost is None:
        return NONE
    amount = amount_of(cost)
    return "unknown" if amount is None else f"{amount:f}"


def counts_of(job: BatchJob) -> tuple[int, int, int]:
    """Requests that are answered, that failed, and in all."""
    counts = job.status.request_counts
    return (counts.completed, counts.failed, counts.total) if counts else (0, 0, 0)


def board(rows: Sequence[Row], look: Look, height: int, *, namespaces: bool) -> list[str]:
    """The screen: a line of titles, as many jobs as fit, and a summary. Of too many, those that ended are left out.

    At most ``height - 1`` lines: the cursor needs one of its own.
    """
    room = max(1, height - 3)
    chosen = rows if len(rows) <= room else sorted(rows, key=_relevance)[: max(1, room - 1)]
    made = lines(table(chosen, look, namespaces=namespaces), look)
    if hidden := len(rows) - len(chosen):
        made.append(fitted(f"and {hidden} more", look))
    return [*made, fitted(summary(rows), look)][: max(1, height - 1)]


def _relevance(row: Row) -> tuple[bool, bool, tuple[str, str]]:
    phase = row.job.status.phase
    return phase.finished, phase in WAITING, row.key


def table(rows: Sequence[Row], look: Look, *, namespaces: bool) -> Table:
    """A row a job, by name."""
    columns = [
        Column("JOB", least=10),
        Column("STATE", least=10),
        Column("PROGRESS"),
        Column("DONE", right=True, rank=3),
        Column("RATE", right=True, rank=4),
        Column("LEFT", right=True, rank=1),
        Column("COST USD", right=True, rank=2),
        Column("DEPLOYMENT", least=8, rank=5),
    ]
    if namespaces:
        columns.insert(0, Column("NAMESPACE", least=8, rank=1))
    return Table(columns, [_cells(row, look, namespaces=namespaces) for row in sorted(rows, key=lambda row: row.key)])


def _cells(row: Row, look: Look, *, namespaces: bool) -> list[str | Cell]:
    job = row.job
    completed, failed, total = counts_of(job)
    cells: list[str | Cell] = [
        job.metadata.name,
        Cell(state_of(job), STYLES.get(job.status.phase, "")),
        _progress(completed, failed, total, look),
        f"{completed + failed}/{total}" if total else NONE,
        NONE if job.status.phase.finished else rate_text(row.rate),
        left_text(row.left),
        cost_text(job.status.cost),
        deployment_of(job),
    ]
    return [job.metadata.namespace, *cells] if namespaces else cells


def _progress(completed: int, failed: int, total: int, look: Look) -> Cell:
    width = next(cells for wide, cells in BAR_WIDTHS if look.width is None or look.width >= wide)
    good, bad, rest = bar(completed, failed, total, width, ascii=look.ascii)
    share = f" {_percent(completed + failed, total):>3}%"
    return Cell(good, "green", Cell(bad, "red", Cell(rest, "dim", Cell(share))))


def _percent(done: int, total: int) -> int:
    return min(done, total) * 100 // total if total else 0


def summary(rows: Sequence[Row]) -> str:
    """How many jobs are how far, what is done in all, and what it has cost."""
    phases = Counter(_group(row.job.status.phase) for row in rows)
    groups = ("running", "waiting", "succeeded", "failed", "cancelled")
    parts = [", ".join(f"{phases[group]} {group}" for group in groups if phases[group]) or "no jobs"]
    counts = [counts_of(row.job) for row in rows]
    if total := sum(count[2] for count in counts):
        parts.append(f"{sum(count[0] + count[1] for count in counts)}/{total} requests")
    rates = [row.rate for row in rows if row.rate is not None and row.job.status.phase is Phase.IN_PROGRESS]
    if rates:
        parts.append(rate_text(sum(rates)))
    costs = [row.job.status.cost for row in rows if row.job.status.cost]
    if costs:
        known = [amount for cost in costs if (amount := amount_of(cost)) is not None]
        unknown = f" and {len(costs) - len(known)} unknown" if len(known) < len(costs) else ""
        parts.append(f"{sum(known, Decimal(0)):f} USD{unknown}" if known else "cost unknown")
    return "; ".join(parts)


def _group(phase: Phase) -> str:
    if phase.finished:
        return {Phase.SUCCEEDED: "succeeded", Phase.CANCELLED: "cancelled"}.get(phase, "failed")
    return "waiting" if phase in WAITING else "running"


def data_of(row: Row) -> dict[str, object]:
    """A row for programs; what is not known is null."""
    job = row.job
    completed, failed, total = counts_of(job)
    deployment = job.status.deployment
    return {
        "namespace": job.metadata.namespace,
        "name": job.metadata.name,
        "phase": job.status.phase.value,
        "state": state_of(job),
        "finished": job.status.phase.finished,
        "requests": {"total": total, "completed": completed, "failed": failed},
        "requestsPerSecond": None if row.rate is None else round(row.rate, 3),
        "secondsLeft": None if row.left is None else max(0, round(row.left.total_seconds())),
        "cost": job.status.cost.wire() if job.status.cost else None,
        "deployment": f"{deployment.namespace}/{deployment.name}" if deployment else None,
    }


def news_key(job: BatchJob) -> tuple[object, ...]:
    """What makes a line of its own: mere estimates do not."""
    return state_of(job), counts_of(job), deployment_of(job), cost_text(job.status.cost)


def news(row: Row, now: datetime, *, namespaces: bool) -> str:
    """One change in one line, for a pipe or a log."""
    job = row.job
    completed, failed, total = counts_of(job)
    name = "/".join(row.key) if namespaces else row.key[1]
    parts = [rfc3339(now), name, state_of(job)]
    if total:
        parts.append(f"{completed + failed}/{total} ({_percent(completed + failed, total)}%)")
    if failed:
        parts.append(f"{failed} failed")
    if not job.status.phase.finished and row.rate is not None:
        parts.append(rate_text(row.rate))
    if row.left is not None:
        parts.append(f"{left_text(row.left)} left")
    if job.status.cost:
        known = amount_of(job.status.cost) is not None
        parts.append(f"{cost_text(job.status.cost)} USD" if known else "cost unknown")
    if job.status.deployment:
        parts.append(f"on {deployment_of(job)}")
    return printable("  ".join(parts))
