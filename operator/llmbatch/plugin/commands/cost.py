"""``kubectl llmbatch cost``: what the jobs that are still there have cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from llmbatch.api import BatchJob
from llmbatch.api.base import rfc3339
from llmbatch.plugin.connection import connected, left_out
from llmbatch.plugin.exits import Exit, run, say
from llmbatch.plugin.jobs.spending import GROUPS, Spending, by_group, ended_since, total
from llmbatch.plugin.options import (
    AllNamespaces,
    Context,
    Format,
    Kubeconfig,
    Namespace,
    Output,
    Selector,
    Where,
    duration,
)
from llmbatch.plugin.terminal.printing import NONE, Cell, Column, Table, show


class By(StrEnum):
    """What costs are grouped by."""

    MODEL = "model"
    NAMESPACE = "namespace"
    DEPLOYMENT = "deployment"


Since = Annotated[
    timedelta | None,
    typer.Option(
        "--since",
        parser=duration,
        metavar="DURATION",
        help="Only jobs that ended this long ago or later, such as 7d. Default: all that are still there.",
        show_default=False,
    ),
]


def cost(
    by: Annotated[By, typer.Option("--by", help="What to group by.")] = By.MODEL,
    since: Since = None,
    all_namespaces: AllNamespaces = False,
    selector: Selector = "",
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Add up what jobs have cost and used.

    Jobs that were deleted, by hand or by their time to live, are not in it: for a long view use the operator's
    metrics. A cost that is not known is counted, and never a nought.
    """
    run(_cost(Where(namespace, context, kubeconfig), by, since, all_namespaces, selector, output))


async def _cost(
    where: Where, by: By, since: timedelta | None, all_namespaces: bool, selector: str, form: Format
) -> Exit:
    begin = None if since is None else datetime.now(UTC) - since
    async with connected(where) as connection:
        namespace = None if all_namespaces else connection.namespace
        unreadable = list[str]()
        listed = connection.kube.list(
            BatchJob, namespace, label_selector=selector, on_unreadable=lambda error: unreadable.append(error.name)
        )
        groups = by_group([job async for job in listed if ended_since(job, begin)], GROUPS[by])
    whole = total(groups.values())
    show(
        form,
        lambda: data(by, begin, groups, whole),
        lambda: table(by, groups, whole),
        empty=f"no jobs{'' if all_namespaces else f' in namespace {namespace}'}",
    )
    if form is Format.TABLE and whole.unknown:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(whole.unknown.items()))
        say(f"the cost of {whole.unknown.total()} of {whole.jobs} jobs is not known and in no sum ({reasons})")
    if unreadable:
        say(f"error: {left_out(unreadable, 'jobs')}; they are in no sum")
    return Exit.NO if unreadable else Exit.DONE


def data(by: By, since: datetime | None, groups: Mapping[str, Spending], whole: Spending) -> dict[str, Any]:
    """The sums for programs."""
    return {
        "by": by.value,
        "since": rfc3339(since) if since else None,
        "items": [{by.value: name, **spent.data()} for name, spent in groups.items()],
        "total": whole.data(),
    }


def table(by: By, groups: Mapping[str, Spending], whole: Spending) -> Table:
    """A row a group, and the sum below where there are several."""
    columns = [
        Column(by.value.upper(), least=12),
        Column("JOBS", right=True, rank=3),
        Column("REQUESTS", right=True, rank=2),
        Column("FAILED", right=True, rank=4),
        Column("INPUT TOKENS", right=True, rank=5),
        Column("CACHED", right=True, rank=6),
        Column("OUTPUT TOKENS", right=True, rank=5),
        Column("COST USD", right=True),
        Column("UNKNOWN", right=True, rank=1),
    ]
    rows = [_row(name, spent) for name, spent in groups.items()]
    if len(rows) > 1:
        rows.append(_row("total", whole))
    return Table(columns, rows)


def _row(name: str, spent: Spending) -> list[str | Cell]:
    usage = spent.usage
    return [
        name,
        str(spent.jobs),
        f"{spent.requests:,}",
        f"{spent.failed:,}",
        f"{usage['inputTokens']:,}",
        f"{usage['cachedInputTokens']:,}",
        f"{usage['outputTokens']:,}",
        Cell(f"{spent.amount:,.6f}", "bold") if spent.priced else "unknown" if spent.unknown else NONE,
        Cell(str(spent.unknown.total()), "yellow") if spent.unknown else NONE,
    ]
