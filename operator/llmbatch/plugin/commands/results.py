"""``kubectl llmbatch results``: the results of a job, from wherever they are."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Annotated, Protocol

import typer

from llmbatch.api import BatchJob
from llmbatch.domain.errors import SourceNotFound
from llmbatch.plugin.connection import connected
from llmbatch.plugin.exits import Exit, Stop, run, say
from llmbatch.plugin.options import Context, JobName, Kubeconfig, Namespace, Where, job_name
from llmbatch.plugin.outputs.collected import results_of
from llmbatch.plugin.terminal.printing import Shown
from llmbatch.storage.sink import ERRORS, OUTPUT, SUMMARY, File

STDOUT = "-"


def results(
    job: JobName,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write to a file, whole or not at all.", show_default=False
        ),
    ] = STDOUT,
    errors: Annotated[bool, typer.Option("--errors", help="The failed requests, errors.jsonl, instead.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Counts, usage and cost, summary.json, instead.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Fetch the results of a job.

    They come as JSON lines from the job's ConfigMap, Secret or bucket, or else from the provider, and are streamed:
    a bucket's with the job's Secret if you may read it, a provider's with the deployment's key likewise. Exit code 1:
    the job is not finished, or has no such results.
    """
    if errors and summary:
        raise typer.BadParameter("choose one of --errors and --summary")
    if not output or output.endswith("/"):
        raise typer.BadParameter("-o names a file, or - for standard output")
    file = ERRORS if errors else SUMMARY if summary else OUTPUT
    run(_results(job_name(job), file, output, Where(namespace, context, kubeconfig)))


async def _results(name: str, file: File, path: str, where: Where) -> Exit:
    async with connected(where) as connection:
        job = await connection.kube.get(BatchJob, connection.namespace, name)
        counts = job.status.request_counts if job else None
        found = await results_of(connection, name, job)
        size = newlines = 0
        try:
            with written(path) as target:
                async for chunk in found.chunks(file):
                    target.write(chunk)
                    size += len(chunk)
                    newlines += chunk.count(b"\n")
        except SourceNotFound:
            raise Stop(absent(name, file, found.place, counts.failed if counts else None)) from None
    if path != STDOUT:
        say(f"{path}: {newlines} lines, {size} bytes, from {found.place}")
    return Exit.DONE


def absent(name: str, file: File, place: str, failed: int | None) -> str:
    """Why there is no such file. Some providers put refused requests among the answers; ``failed`` is None where nobody
    counted."""
    if file == ERRORS and failed == 0:
        return f"BatchJob {name} has no {file} at {place}: no request failed"
    if file == ERRORS and failed is None:
        return f"there is no {file} of BatchJob {name} at {place}; requests that failed, if any, are in {OUTPUT}"
    if file == ERRORS:
        where = f"the {failed} requests that failed are in {OUTPUT}; see: kubectl llmbatch errors {name}"
        return f"BatchJob {name} has no {file} at {place}: {where}"
    return f"BatchJob {name} has no {file} at {place}: no request was answered; see: kubectl llmbatch errors {name}"


class Target(Protocol):
    """Takes the bytes of a file."""

    def write(self, piece: bytes, /) -> object:
        """Take the next of them."""
        ...


@contextlib.contextmanager
def written(path: str) -> Iterator[Target]:
    """Standard output for ``-``, else a file that appears under its name once all of it is there.

    On a terminal there is nothing that it would obey; a pipe and a file have each byte as it is.
    """
    if path == STDOUT:
        stream = sys.stdout
        yield Shown(stream.buffer, stream.encoding) if stream.isatty() else stream.buffer
        stream.buffer.flush()
    elif os.path.exists(path) and not os.path.isfile(path):
        with _in_place(path) as target:
            yield target
    else:
        with _whole(path) as target:
            yield target


@contextlib.contextmanager
def _in_place(path: str) -> Iterator[Target]:
    """A device or a pipe, which cannot be replaced; a directory is refused by this."""
    try:
        with open(path, "wb") as target:
            yield target
    except BrokenPipeError:
        raise Stop(f"{path}: its reader left before all was written") from None


@contextlib.contextmanager
def _whole(path: str) -> Iterator[Target]:
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    # Of a name of its own: with the file's, one of the longest allowed would become too long.
    handle, unfinished = tempfile.mkstemp(prefix=".llmbatch-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        os.chmod(unfinished, _mode(path))
        os.replace(unfinished, os.path.realpath(path))
    except BaseException:
        os.unlink(unfinished)
        raise


def _mode(path: str) -> int:
    """The permissions that the file has, or that a new one would get here."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(path).st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
