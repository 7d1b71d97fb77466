"""``kubectl llmbatch retry``: the file of a job that has ended is run again, by a new job."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llmbatch.api import BatchFile, BatchJob
from llmbatch.kube.client import target_of
from llmbatch.kube.errors import AlreadyExists, Overloaded, Unreachable
from llmbatch.plugin.connection import Connection, Manifest, connected
from llmbatch.plugin.exits import Exit, Stop, run, say, unread_is_well
from llmbatch.plugin.options import Context, Format, JobName, Kubeconfig, Namespace, Output, Where, job_name
from llmbatch.plugin.submitting.repeating import manifest_of_retry, name_of_retry, run_again_by, why_not
from llmbatch.plugin.terminal.printing import json_text, yaml_text

TRIES = 20

Name = Annotated[
    str | None,
    typer.Option("--name", help="The new job's name. Default: the old one's with -retry-1, …", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Also where the job has not ended, or would fail again.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the new job and make nothing.")]


def retry(
    job: JobName,
    name: Name = None,
    force: Force = False,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Run the file of a job that has ended again, as a new job of the same spec: jobs cannot be changed.

    All requests of the file are run, also those that were answered. Results go beside those of the old job. The new
    job's name is printed on standard output, or with -o json or yaml the job.
    """
    run(_retry(Where(namespace, context, kubeconfig), job_name(job), name, output, force=force, dry_run=dry_run))


async def _retry(where: Where, old: str, name: str | None, form: Format, *, force: bool, dry_run: bool) -> Exit:
    async with connected(where) as connection:
        job = await connection.get(BatchJob, old)
        if not force and (why := why_not(job) or await _missing_file(connection, job)):
            raise Stop(f"BatchJob {old} {why} (or use --force)")
        stored = await connection.stored(target_of(BatchJob, connection.namespace, old))
        if dry_run:
            made = manifest_of_retry(stored, name or await _free_name(connection, old, force=force))
            sys.stdout.write(json_text(made) if form is Format.JSON else yaml_text(made))
            return Exit.DONE
        made = await _made(connection, stored, name, force=force)
    new = made["metadata"]["name"]
    texts = {Format.JSON: json_text, Format.YAML: yaml_text}
    with unread_is_well(sys.stdout):
        sys.stdout.write(texts[form](_readable(made)) if form in texts else f"{new}\n")
    file, home = job.spec.input_file_ref.name, made["metadata"]["namespace"]
    say(f"BatchJob {new} runs file {file} again; to follow it: kubectl llmbatch watch {new} -n {home}")
    return Exit.DONE


def _readable(made: Manifest) -> Manifest:
    """The object without the API server's own book-keeping, which kubectl leaves out too."""
    return {**made, "metadata": {key: value for key, value in made["metadata"].items() if key != "managedFields"}}


async def _missing_file(connection: Connection, job: BatchJob) -> str | None:
    file = job.spec.input_file_ref.name
    found = await connection.kube.get(BatchFile, connection.namespace, file)
    if found is None:
        return f"cannot run again: its BatchFile {file} does not exist any more; submit the file anew"
    if found.metadata.deletion_timestamp:
        return f"cannot run again: its BatchFile {file} is being deleted; submit the file anew when it is gone"
    return None


async def _free_name(connection: Connection, old: str, *, force: bool) -> str:
    """The next name that nobody has. Raises Stop where the job is being run again already."""
    target = target_of(BatchJob, connection.namespace)
    jobs = (await connection.stored_list(target))["items"]
    if not force and (running := run_again_by(jobs, old)):
        raise Stop(
            f"BatchJob {old} is being run again already: kubectl llmbatch watch {running} (or use --force,"
            " which pays for another run)"
        )
    return name_of_retry(old, {job["metadata"]["name"] for job in jobs}.__contains__)


async def _made(connection: Connection, stored: Manifest, name: str | None, *, force: bool) -> Manifest:
    """The new job as stored. A name that was chosen must be free; else the next is tried."""
    for _ in range(TRIES):
        free = await _free_name(connection, stored["metadata"]["name"], force=force)
        made = manifest_of_retry(stored, name or free)
        try:
            return await connection.create(made)
        except AlreadyExists:
            if name is not None:
                raise
        except (Unreachable, Overloaded) as error:
            new, home = made["metadata"]["name"], made["metadata"]["namespace"]
            raise Stop(
                f"{error.message}; it may have been made all the same, look before you repeat this:"
                f" kubectl get batchjob {new} -n {home}",
                Exit.UNREACHABLE,
            ) from None
    raise Stop("others take every name; choose one with --name")
