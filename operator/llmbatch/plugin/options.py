"""Options that commands share, with kubectl's meanings."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple

import typer

_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[dhms])+|[0-9]+")
_NAME = re.compile(r"[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?")
"""A DNS subdomain, as Kubernetes has it."""
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([dhms]?)")

LONGEST = timedelta(days=36_500)
"""No later or earlier than a date can be, wherever it is counted from."""


def duration(text: str) -> timedelta:
    """``90``, ``30s``, ``1h30m`` or ``7d``; for ``typer.Option(parser=duration, metavar="DURATION")``."""
    if not _DURATION.fullmatch(text):
        raise typer.BadParameter("a duration is written 90s, 30m, 1h30m or 7d")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds > LONGEST.total_seconds():
        raise typer.BadParameter(f"a duration is at most {LONGEST.days}d")
    return timedelta(seconds=seconds)


class Format(StrEnum):
    """How objects are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", metavar="NAME", help="The namespace. Default: the context's.", show_default=False
    ),
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")]
Context = Annotated[
    str | None,
    typer.Option("--context", metavar="NAME", help="The kubeconfig context to use.", show_default=False),
]
Kubeconfig = Annotated[
    str | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="The kubeconfig. Default: $KUBECONFIG, ~/.kube/config.",
        show_default=False,
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
Selector = Annotated[
    str,
    typer.Option(
        "--selector", "-l", metavar="LABELS", help="A label selector, such as team=search.", show_default=False
    ),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="The BatchJob's name.", show_default=False)]
JobNames = Annotated[list[str], typer.Argument(metavar="JOB...", help="BatchJobs, by name.", show_default=False)]
Timeout = Annotated[
    timedelta | None,
    typer.Option(
        "--timeout",
        parser=duration,
        metavar="DURATION",
        help="Give up waiting after this long, such as 30m; exit code 124.",
        show_default=False,
    ),
]


class Where(NamedTuple):
    """Which cluster and namespace a command is about, as the user said it."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


def job_name(text: str) -> str:
    """The name in what kubectl prints and people paste: ``batchjob.llmbatch.dev/run-1`` is ``run-1``.

    Raises BadParameter for what cannot be a name, and would mean something else in a path or a selector.
    """
    name = text.rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise typer.BadParameter(f"{text!r} is no name of a BatchJob")
    return name
