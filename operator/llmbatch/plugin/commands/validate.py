"""``kubectl llmbatch validate``: the operator's own validation, offline."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from llmbatch.domain.requests.validation import ENOUGH_ERRORS, KEPT_ERRORS, InputLimits, InputReport
from llmbatch.plugin.exits import Exit, leave, say, unread_is_well
from llmbatch.plugin.options import Format, Output
from llmbatch.plugin.submitting.requests import checked, errors_table, how_many, opened, title
from llmbatch.plugin.terminal.printing import Column, Table, show

Requests = Annotated[
    str, typer.Argument(metavar="FILE", help="JSON lines; - reads standard input.", show_default=False)
]


def validate(
    file: Requests,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A name that the lines' model may have; repeatable. Default: any one.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help=f"Show up to {ENOUGH_ERRORS} errors. Default: the first {KEPT_ERRORS}.")
    ] = False,
    compatible: Annotated[
        bool,
        typer.Option("--compatible", help="For an API that is only compatible: any endpoint, and streams."),
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Check a file of requests, without a cluster.

    These are the checks that the operator makes before it uploads anything. Exit code 1: the file is invalid.
    """
    limits = InputLimits(streams=True) if compatible else _of_openai()
    leave(lambda: _validate(file, model, limits, output, kept_errors=ENOUGH_ERRORS if every else KEPT_ERRORS))


def _of_openai() -> InputLimits:
    """What OpenAI, and of it Azure OpenAI, have batches for."""
    from llmbatch.providers.openai import CAPABILITIES

    return InputLimits(endpoints=CAPABILITIES.endpoints, max_embedding_inputs=CAPABILITIES.max_embedding_inputs)


def _validate(file: str, models: list[str] | None, limits: InputLimits, output: Format, *, kept_errors: int) -> Exit:
    with opened(file) as stream:
        report = checked(stream, models, limits, kept_errors=kept_errors)
    with unread_is_well(sys.stdout):
        show(output, lambda: _data(file, report), lambda: _table(report))
    if not report.valid:
        hidden = report.error_count - len(report.errors)
        say(
            f"error: {title(file)}: {how_many(report)}" + (f", {hidden} of them not shown; see --all" if hidden else "")
        )
        return Exit.NO
    for note in notes(report):
        say(f"note: {note}")
    return Exit.DONE


def notes(report: InputReport) -> list[str]:
    """What is valid, and yet more than providers take by default."""
    from llmbatch.providers.openai import CAPABILITIES

    found = list[str]()
    if report.requests > CAPABILITIES.max_requests_per_file:
        found.append(
            f"OpenAI and Azure OpenAI take at most {CAPABILITIES.max_requests_per_file} requests a file; split it"
        )
    if report.bytes > CAPABILITIES.max_file_bytes:
        found.append(f"OpenAI and Azure OpenAI take at most {CAPABILITIES.max_file_bytes} bytes a file; split it")
    return found


def _data(file: str, report: InputReport) -> dict[str, Any]:
    return {
        "file": file,
        "valid": report.valid,
        "requests": report.requests,
        "bytes": report.bytes,
        "sha256": report.sha256,
        "endpoint": report.endpoint,
        "model": report.model,
        "estimatedInputTokens": report.estimated_input_tokens,
        "errorCount": report.error_count,
        "errors": [error.wire() for error in report.errors],
    }


def _table(report: InputReport) -> Table:
    if not report.valid:
        return errors_table(report.errors)
    titles = ("REQUESTS", "BYTES", "INPUT TOKENS", "ENDPOINT", "MODEL")
    estimate = f"~{report.estimated_input_tokens}"
    row = (str(report.requests), str(report.bytes), estimate, report.endpoint or "-", report.model or "-")
    return Table([Column(title, right=at < 3) for at, title in enumerate(titles)], [row])
