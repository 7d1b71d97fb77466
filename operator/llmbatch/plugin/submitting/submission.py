"""What ``submit`` does: check the file, plan the objects, make them, and wait for the job where that is wanted."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import BinaryIO

from llmbatch.api import BatchJob
from llmbatch.api.reasons import ConditionType
from llmbatch.domain.conditions import holds
from llmbatch.domain.requests.validation import KEPT_ERRORS, InputLimits, InputReport
from llmbatch.kube.client import target_of
from llmbatch.kube.errors import AlreadyExists
from llmbatch.plugin.connection import Connection, connected
from llmbatch.plugin.exits import Exit, Stop, say, tell, unread_is_well
from llmbatch.plugin.jobs.waiting import finished, verdict
from llmbatch.plugin.options import Where
from llmbatch.plugin.submitting.manifests import OBJECT_BYTES, Manifest, Plan, Wish, planned
from llmbatch.plugin.submitting.placing import Placing, title_of
from llmbatch.plugin.submitting.requests import checked, errors_table, how_many, opened, title
from llmbatch.plugin.terminal.printing import Table, show

LIKELY_RESULT_BYTES = 2048
LIKELY_EMBEDDING_BYTES = 33_000
"""Of one text: 1,536 to 3,072 numbers as text."""
"""Of one answer, for a warning: a chat completion of some paragraphs."""


class Printed(StrEnum):
    """What is printed of what was made."""

    TABLE = "table"
    NAME = "name"
    JSON = "json"
    YAML = "yaml"


class DryRun(StrEnum):
    """Whether anything is made at all."""

    NONE = "none"
    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Ways:
    """How to go about it."""

    dry_run: DryRun
    printed: Printed
    wait: bool
    timeout: timedelta | None


async def submission(wish: Wish, where: Where, ways: Ways) -> Exit:
    """Submit a file as wished; the exit code. Raises Stop."""
    with opened(wish.file, again=True) as content:
        report = _checked(wish, content)
        wish = replace(wish, model=_model(wish, report))
        if ways.dry_run is DryRun.CLIENT:
            plan = _planned(wish, report, content)
            if plan.url:
                say(f"note: the requests are not uploaded: put {title(wish.file)} at {plan.url}")
            _print_all(plan.manifests, ways.printed)
            return Exit.DONE
        async with connected(where) as connection:
            plan = _planned(replace(wish, namespace=connection.namespace), report, content)
            if ways.dry_run is DryRun.SERVER:
                _print_all([await _rehearsed(connection, manifest) for manifest in plan.manifests], ways.printed)
                return Exit.DONE
            placing = Placing(connection, tell=sys.stdout if ways.printed is Printed.TABLE else sys.stderr)
            job = await placing.place(plan, content, report.bytes)
            return await _after(connection, job, ways, new=title_of(plan.job) in placing.made)


def _checked(wish: Wish, content: BinaryIO) -> InputReport:
    # What its providers take is for the operator to say, which knows them.
    anything = InputLimits(streams=True)
    report = checked(content, [wish.model] if wish.model else None, anything, kept_errors=KEPT_ERRORS)
    if not report.valid:
        with unread_is_well(sys.stderr):
            show("table", dict, lambda: errors_table(report.errors), to=sys.stderr)
        raise Stop(f"{title(wish.file)}: {how_many(report)}; nothing was submitted")
    content.seek(0)
    return report


def _model(wish: Wish, report: InputReport) -> str:
    model = wish.model or report.model
    if model is None:
        raise Stop("the lines name no model; name it with --model (kubectl llmbatch models lists them)", Exit.USAGE)
    return model


def _planned(wish: Wish, report: InputReport, content: BinaryIO) -> Plan:
    plan = planned(wish, report, content)
    output = plan.job["spec"].get("output", {})
    bounded = "configMap" in output or "secret" in output
    likely = report.embedding_inputs * LIKELY_EMBEDDING_BYTES or report.requests * LIKELY_RESULT_BYTES
    if bounded and likely > OBJECT_BYTES:
        say(
            f"note: the results of {report.requests} requests may not fit into 1 MiB, and the job would fail with"
            " OutputTooLarge; --output-to names a bucket, or none: they stay at the provider"
        )
    return plan


async def _rehearsed(connection: Connection, manifest: Manifest) -> Manifest:
    """What the API server would store."""
    try:
        return dict(await connection.create(manifest, dry_run=True))
    except AlreadyExists:
        say(f"{title_of(manifest)} exists already")
        return manifest


async def _after(connection: Connection, job: BatchJob, ways: Ways, *, new: bool) -> Exit:
    """Print the job, and follow it or say how that is done."""
    name, ended = job.metadata.name, holds(job.status.conditions, ConditionType.FINISHED)
    if ways.printed is Printed.NAME:
        tell(name, sys.stdout)
    if not new:
        say(f"note: BatchJob {name} was submitted before; for another run: kubectl llmbatch retry {name}, or --name")
    if ways.wait and not ended:
        job = await finished(connection, job, within=ways.timeout)
    elif not ended:
        say(f"follow it with: kubectl llmbatch watch {name}")
    if ways.printed in (Printed.JSON, Printed.YAML):
        stored = await connection.stored(target_of(BatchJob, job.metadata.namespace, name))
        with unread_is_well(sys.stdout):
            _print_all([dict(stored)], ways.printed)
    return verdict(job) if ended or ways.wait else Exit.DONE


def _print_all(objects: list[Manifest], printed: Printed) -> None:
    """Objects for a person, for a script, or for a repository; many as JSON are one List."""
    if printed in (Printed.TABLE, Printed.NAME):
        words = " (dry run)" if printed is Printed.TABLE else ""
        print(*(f"{title_of(made)}{words}" for made in objects), sep="\n")  # noqa: T201
        return
    whole = {"apiVersion": "v1", "kind": "List", "items": objects} if len(objects) > 1 else objects[0]
    show(printed, lambda: whole if printed is Printed.JSON else objects, lambda: Table((), ()))
