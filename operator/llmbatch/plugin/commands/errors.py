"""``kubectl llmbatch errors``: the requests of a job that failed, and why the job itself did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmbatch.api import BatchFile, BatchJob
from llmbatch.api.batchfile import FileError
from llmbatch.domain.errors import SourceNotFound
from llmbatch.domain.lines import BLANK, Lines
from llmbatch.domain.results.counting import RESULT_LINE_BYTES, whole_number
from llmbatch.domain.results.patience import read_patiently
from llmbatch.plugin.connection import Connection, connected
from llmbatch.plugin.exits import Exit, Stop, run, say
from llmbatch.plugin.options import Context, Format, JobName, Kubeconfig, Namespace, Output, Where, job_name
from llmbatch.plugin.outputs.collected import Results, failure_of, results_for
from llmbatch.plugin.submitting.requests import errors_table
from llmbatch.plugin.terminal.printing import Column, Table, show
from llmbatch.storage.sink import ERRORS, OUTPUT, File

MESSAGE_CHARACTERS, WORD_CHARACTERS = 500, 100
"""What the table shows of a message, and of an id or code: a column is as wide as its widest row."""
_UNREADABLE = "unreadable_line"


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """One request that has no answer. ``code`` and ``message`` are the provider's; ``status`` is the HTTP status."""

    custom_id: str
    code: str
    status: int | None
    message: str


def errors(
    job: JobName,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List the requests of a job that failed, and why.

    Where the input was refused, its invalid lines are listed instead. Why the job itself failed is told on stderr,
    and in JSON and YAML. Exit code 1: the job is not finished.
    """
    run(_errors(job_name(job), output, Where(namespace, context, kubeconfig)))


async def _errors(name: str, output: Format, where: Where) -> Exit:
    async with connected(where) as connection:
        job = await connection.get(BatchJob, name)
        if not job.status.phase.finished:
            raise Stop(f"BatchJob {name} is not finished ({job.status.phase}): kubectl llmbatch watch {name}")
        failed = [request async for request in _failed_requests(connection, job)]
        lines = await _invalid_lines(connection, job)
    failure = failure_of(job)
    data = {
        "job": name,
        "phase": job.status.phase.value,
        "failure": {"reason": failure.reason, "message": failure.message} if failure else None,
        "requests": [_wire(request) for request in failed],
        "invalidLines": [line.wire() for line in lines],
    }
    show(output, lambda: data, lambda: errors_table(lines) if lines else table(failed), empty="no request failed")
    if failure:
        say(f"BatchJob {name} {job.status.phase} ({failure.reason}): {failure.message}")
    return Exit.DONE


async def _failed_requests(connection: Connection, job: BatchJob) -> AsyncIterator[FailedRequest]:
    counts = job.status.request_counts
    if counts is None or not counts.failed:
        return
    try:
        found = await results_for(connection, job)
    except Stop as stop:
        say(f"note: {stop.message}")
        return
    told = 0
    for file in (ERRORS, OUTPUT):
        async for line in _lines(found, file):
            if (request := failed_request(line)) is not None:
                told += 1
                yield request
        # Mostly all of them are in the error file, and the other need not be read.
        if told >= counts.failed:
            return


async def _lines(found: Results, file: File) -> AsyncIterator[bytes | None]:
    cut = Lines(RESULT_LINE_BYTES)
    try:
        async for chunk in found.chunks(file):
            for line in cut.feed(chunk):
                yield line
    except SourceNotFound:
        return
    for line in cut.finish():
        yield line


async def _invalid_lines(connection: Connection, job: BatchJob) -> list[FileError]:
    """What is wrong with the file, where a job never ran."""
    if job.status.shards:
        return []
    file = await connection.kube.get(BatchFile, job.metadata.namespace, job.spec.input_file_ref.name)
    return file.status.errors if file else []


def failed_request(line: bytes | None) -> FailedRequest | None:
    """What a result line says of a request that failed; None for one that was answered, and for a blank line."""
    if line is not None and not line.strip(BLANK):
        return None
    try:
        told = read_patiently(line or b"")
    except ValueError as error:
        return FailedRequest("-", _UNREADABLE, None, str(error))
    response = _mapping(told.get("response"))
    status = whole_number(response.get("status_code"))
    own, body = told.get("error") or None, _mapping(_mapping(response.get("body")).get("error"))
    if own is None and status is not None and status < 400:
        return None
    sources = (_mapping(own), body)
    code = _first(sources, "code") or _first(sources, "type") or (f"http_{status}" if status else "-")
    message = _first(sources, "message") or (own if isinstance(own, str) else "")
    return FailedRequest(str(told.get("custom_id") or "-"), code, status, message)


def _first(sources: Iterable[Mapping[str, Any]], key: str) -> str:
    return next((str(found[key]) for found in sources if found.get(key)), "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _wire(request: FailedRequest) -> dict[str, Any]:
    return {"custom_id": request.custom_id, "code": request.code, "status": request.status, "message": request.message}


def table(failed: list[FailedRequest]) -> Table:
    """A row a request, of a width that one long line cannot blow up."""
    columns = (Column("CUSTOM ID", least=12), Column("CODE"), Column("STATUS", right=True), Column("MESSAGE", least=20))
    return Table(columns, [_row(request) for request in failed])


def _row(request: FailedRequest) -> tuple[str, str, str, str]:
    custom_id, code = request.custom_id[:WORD_CHARACTERS], request.code[:WORD_CHARACTERS]
    return custom_id, code, str(request.status or "-"), request.message[:MESSAGE_CHARACTERS]
