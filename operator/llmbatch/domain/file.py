"""The life of a file: what one reconcile must do next with its copies, and what its status says of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from llmbatch.api.batchfile import BatchFile, BatchFileStatus, CopyState, FileDeployment, ProviderFile
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.backoff import UPLOAD
from llmbatch.domain.conditions import ConditionSet, holds
from llmbatch.domain.errors import LLMBatchError
from llmbatch.domain.lines import InputReport
from llmbatch.domain.remote import FileState, RemoteFile

LEFT_AT_LEAST = timedelta(hours=48)
"""A copy that the provider deletes sooner is made again before a job relies on it: a batch may take 24 hours."""
PROCESSING_CHECK = timedelta(seconds=2)
"""How often a provider is asked whether it has processed a copy."""
DROP_AGAIN = timedelta(seconds=10)
"""How soon the deletion of a copy on a deployment that no longer is the file's is tried again."""


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment that the file goes to. ``unusable`` says why it cannot take it just now."""

    route: str
    model_name: str
    form: str
    """What lines are translated to: the provider's model and the beginning of its URLs."""
    max_requests: int
    max_bytes: int
    size: int
    """Bytes of the file in this deployment's form."""
    unusable: tuple[Reason, str] | None = None


@dataclass(frozen=True, slots=True)
class FileSeen:
    """What is known besides the file's own record. Routes are ``namespace/name``."""

    targets: Sequence[Target] = ()
    uploading: Collection[str] = ()
    needed: bool = False
    """A job waits to be run on this file."""
    in_use: Collection[str] = ()
    """Deployments on which a batch of this file runs."""
    suspects: Mapping[str, str] | None = None
    """Copies that the provider no longer seems to have: route to file id."""
    unreadable: tuple[Reason, str] | None = None
    """Why the source cannot be read again, so that nothing can be uploaded."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now: upload to, ask about and delete from these deployments."""

    upload: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


def lasts(uploaded: datetime | None, expires: datetime | None, now: datetime) -> bool:
    """Whether the provider keeps a copy for long enough that a job may rely on it.

    A copy that was never meant to live long may live out half of its time, or it would be made again for ever.
    """
    if expires is None:
        return True
    needed = LEFT_AT_LEAST if uploaded is None else min(LEFT_AT_LEAST, (expires - uploaded) / 2)
    return expires - now >= needed


def route_of(entry: FileDeployment) -> str:
    """``namespace/name`` of an entry's deployment."""
    return f"{entry.namespace}/{entry.name}"


def plan(file: BatchFile, seen: FileSeen, now: datetime) -> Plan:
    """What a validated file needs. Every deployment has its own entry and its own retries."""
    entries = {route_of(entry): entry for entry in file.status.deployments}
    targets = {target.route: target for target in seen.targets}
    upload, check = [], []
    for route, target in targets.items():
        entry = entries.get(route)
        if route in seen.uploading or target.unusable or _limit(file, target):
            continue
        if entry is not None and entry.state is CopyState.PROCESSING:
            check.append(route)
        elif not seen.unreadable and _needs_upload(entry, target, seen, now):
            upload.append(route)
    drop = [route for route in entries if route not in targets and route not in seen.in_use]
    return Plan(tuple(upload), tuple(check), tuple(drop))


def next_look(
    made: Sequence[FileDeployment], seen: FileSeen, under_way: Collection[str], now: datetime
) -> datetime | None:
    """When a file with these entries must be looked at again by itself; None where nothing is due.

    An upload that ends and a deployment that becomes Ready wake the file themselves.
    """
    targets = {target.route for target in seen.targets}
    open_ = {target.route for target in seen.targets if not target.unusable}.difference(under_way)
    times = []
    for entry in made:
        route = route_of(entry)
        if route in open_ and entry.retry_time:
            times.append(entry.retry_time)
        elif route in open_ and entry.state is CopyState.PROCESSING:
            times.append(now + PROCESSING_CHECK)
        elif route not in targets and route not in seen.in_use:
            times.append(now + DROP_AGAIN)
    return min(times, default=None)


def _needs_upload(entry: FileDeployment | None, target: Target, seen: FileSeen, now: datetime) -> bool:
    return entry is None or _is_due(entry, now) or _is_lost(entry, target, seen, now)


def _is_due(entry: FileDeployment, now: datetime) -> bool:
    if entry.state in (CopyState.PENDING, CopyState.UPLOADING):
        return True
    return entry.state is CopyState.FAILED and (entry.retry_time is None or entry.retry_time <= now)


def _is_lost(entry: FileDeployment, target: Target, seen: FileSeen, now: datetime) -> bool:
    if entry.state is not CopyState.PROCESSED or not entry.files:
        return False
    copy = entry.files[0]
    if entry.form != target.form:
        return True
    if seen.suspects and seen.suspects.get(route_of(entry)) == copy.file_id:
        return True
    return seen.needed and not lasts(copy.upload_time, copy.expiry_time, now)


def _limit(file: BatchFile, target: Target) -> str | None:
    if (file.status.requests or 0) > target.max_requests:
        return f"{file.status.requests} requests, but it takes {target.max_requests}; divide the file"
    if target.size > target.max_bytes:
        return f"{target.size} bytes, but it takes {target.max_bytes}; divide the file"
    return None


# --- entries ------------------------------------------------------------------------------------------------------


def uploaded(target: Target, remote: RemoteFile, requests: int, now: datetime) -> FileDeployment:
    """The entry for a copy that a provider has taken."""
    namespace, name = target.route.split("/", 1)
    state = {FileState.PROCESSED: CopyState.PROCESSED, FileState.PROCESSING: CopyState.PROCESSING}.get(
        remote.state, CopyState.FAILED
    )
    copy = ProviderFile(
        shard=0,
        file_id=remote.id,
        state=state,
        requests=requests,
        bytes=remote.bytes or target.size,
        upload_time=remote.created_at or now,
        expiry_time=remote.expires_at,
    )
    entry = FileDeployment(
        namespace=namespace, name=name, model_name=target.model_name, form=target.form, state=state, files=[copy]
    )
    return refused(target, entry, now) if state is CopyState.FAILED else entry


def checked(target: Target, before: FileDeployment, remote: RemoteFile, now: datetime) -> FileDeployment:
    """The entry after the provider was asked whether it has processed the copy."""
    if remote.state is FileState.PROCESSING:
        return before
    copy = before.files[0]
    if remote.state is FileState.ERROR:
        bad = copy.model_copy(update={"state": CopyState.FAILED})
        return refused(target, before.model_copy(update={"files": [bad]}), now)
    good = copy.model_copy(update={"state": CopyState.PROCESSED, "expiry_time": remote.expires_at or copy.expiry_time})
    return before.model_copy(update={"state": CopyState.PROCESSED, "files": [good]})


def refused(target: Target, before: FileDeployment, now: datetime) -> FileDeployment:
    """The entry for a copy that the provider could not process; another one takes its place later."""
    message = "the provider could not process the file; it is uploaded again"
    return failed(target, before, Reason.UPLOAD_FAILED, message, now)


def failed(
    target: Target,
    before: FileDeployment | None,
    reason: Reason,
    message: str,
    now: datetime,
    *,
    wait: timedelta = timedelta(0),
) -> FileDeployment:
    """The entry after an upload failed; it is tried again with backoff, but not before ``wait`` is over."""
    failures = (before.failures or 0 if before else 0) + 1
    entry = _blocked(target, reason, message, CopyState.FAILED)
    return entry.model_copy(
        update={
            "form": before.form if before else None,
            "failures": failures,
            "retry_time": now + max(wait, UPLOAD.wait(failures)),
            "files": before.files if before else [],
        }
    )


def entries(
    file: BatchFile, seen: FileSeen, results: Mapping[str, FileDeployment], dropped: Collection[str], now: datetime
) -> list[FileDeployment]:
    """The entries that status will hold."""
    before = {route_of(entry): entry for entry in file.status.deployments}
    made = {target.route: _entry(file, target, before.get(target.route), seen, results, now) for target in seen.targets}
    for route, entry in {**before, **results}.items():
        # A copy that came to be while its deployment went: the next look cleans it up.
        if route not in made and route not in dropped:
            made[route] = entry
    return list(made.values())


def _entry(
    file: BatchFile,
    target: Target,
    before: FileDeployment | None,
    seen: FileSeen,
    results: Mapping[str, FileDeployment],
    now: datetime,
) -> FileDeployment:
    entry = results.get(target.route, before)
    if limit := _limit(file, target):
        return _blocked(target, Reason.LIMIT_EXCEEDED, limit, CopyState.FAILED, entry)
    if target.route not in results and _needs_upload(entry, target, seen, now):
        if seen.unreadable:
            return _blocked(target, *seen.unreadable, CopyState.FAILED, entry)
        if target.unusable and (entry is None or entry.state is CopyState.PENDING):
            return _blocked(target, *target.unusable, CopyState.PENDING)
    if entry is None or entry.state is CopyState.PENDING:
        namespace, name = target.route.split("/", 1)
        entry = FileDeployment(
            namespace=namespace, name=name, model_name=target.model_name, state=CopyState.UPLOADING
        )  # fmt: skip
    return entry


def _blocked(
    target: Target, reason: Reason, message: str, state: CopyState, before: FileDeployment | None = None
) -> FileDeployment:
    namespace, name = target.route.split("/", 1)
    return FileDeployment(
        namespace=namespace,
        name=name,
        model_name=target.model_name,
        form=before.form if before else None,
        state=state,
        reason=reason.value,
        error=message[:1024],
        files=before.files if before else [],
    )


# --- status -------------------------------------------------------------------------------------------------------


def _conditions(file: BatchFile, now: datetime) -> ConditionSet:
    return ConditionSet(file.status.conditions, generation=file.metadata.generation, now=now)


def is_validated(file: BatchFile) -> bool:
    """Whether the content was read and bound."""
    return file.status.sha256 is not None


def is_valid(file: BatchFile) -> bool:
    """Whether the content may be uploaded."""
    return is_validated(file) and holds(file.status.conditions, ConditionType.VALIDATED)


def with_report(file: BatchFile, report: InputReport) -> BatchFile:
    """The file with what its validation found."""
    status = file.status.model_copy(
        update={
            "requests": report.requests,
            "bytes": report.bytes,
            "sha256": report.sha256,
            "estimated_input_tokens": report.estimated_input_tokens,
            "endpoint": report.endpoint,
            "errors": list(report.errors),
        }
    )
    return file.model_copy(update={"status": status})


def invalid(file: BatchFile, report: InputReport, now: datetime) -> BatchFileStatus:
    """The status of a file that was refused."""
    first = report.errors[0]
    where = f"line {first.line}: " if first.line is not None else ""
    more = f" (and {report.error_count - 1} more, see status.errors)" if report.error_count > 1 else ""
    message = f"{where}{first.message}{more}; mend it under a new name"
    conditions = (
        _conditions(file, now)
        .set(ConditionType.VALIDATED, False, Reason.INVALID_INPUT, message)
        .set(ConditionType.READY, False, Reason.INVALID_INPUT, message)
        .set(ConditionType.STALLED, True, Reason.INVALID_INPUT, message)
    )
    return with_report(file, report).status.model_copy(
        update={"conditions": conditions.list(), "observed_generation": file.metadata.generation}
    )


def unread(file: BatchFile, error: LLMBatchError, now: datetime) -> BatchFileStatus:
    """The status of a file whose source could not be read; it is read again."""
    conditions = (
        _conditions(file, now)
        .set(ConditionType.VALIDATED, None, error.reason, error.message)
        .set(ConditionType.READY, False, error.reason, error.message)
        .set(ConditionType.RECONCILING, True, error.reason, error.message)
    )
    return file.status.model_copy(
        update={"conditions": conditions.list(), "observed_generation": file.metadata.generation}
    )


def still_invalid(file: BatchFile, now: datetime) -> BatchFileStatus:
    """The status of a file that was refused before: nothing but the generation that it describes."""
    return file.status.model_copy(
        update={"conditions": _kept(file, now).list(), "observed_generation": file.metadata.generation}
    )


def summary(file: BatchFile, made: Sequence[FileDeployment], now: datetime) -> BatchFileStatus:
    """The status of a valid file with these copies."""
    good = [entry for entry in made if entry.state is CopyState.PROCESSED]
    bad = sorted(
        (entry for entry in made if entry.state is not CopyState.PROCESSED), key=lambda entry: not entry.reason
    )
    conditions = _conditions(file, now)
    conditions.set(ConditionType.VALIDATED, True, Reason.VALID, f"{file.status.requests} requests")
    reason, message = _why_not_uploaded(file, good, bad)
    conditions.set(ConditionType.READY, bool(good), Reason.UPLOADED if good else reason, message)
    everywhere = bool(good) and not bad
    conditions.set(ConditionType.UPLOADED, everywhere, Reason.UPLOADED if everywhere else reason, message)
    if reason is Reason.SOURCE_CHANGED:
        conditions.set(ConditionType.STALLED, True, reason, message)
    elif not good:
        conditions.set(ConditionType.RECONCILING, True, reason, message)
    return file.status.model_copy(
        update={
            "conditions": conditions.list(),
            "observed_generation": file.metadata.generation,
            "deployments": list(made),
        }
    )


def _why_not_uploaded(
    file: BatchFile, good: Sequence[FileDeployment], bad: Sequence[FileDeployment]
) -> tuple[Reason, str]:
    if not good and not bad:
        models = ", ".join(file.spec.target_model_names)
        message = f"waits for a ModelDeployment with modelName {models} that admits this namespace; create one"
        return Reason.DEPLOYMENT_NOT_FOUND, message
    for entry in bad:
        if entry.reason == Reason.SOURCE_CHANGED:
            return Reason.SOURCE_CHANGED, entry.error or ""
    message = f"{len(good)} of {len(good) + len(bad)} deployments hold the file"
    if not bad:
        return Reason.UPLOADED, message
    why = "; ".join(f"{route_of(entry)}: {entry.error or entry.state.value}" for entry in bad[:3])
    return Reason.of(bad[0].reason) if bad[0].reason else Reason.UPLOADING, f"{message}; {why}"


def held(file: BatchFile, jobs: Sequence[str], now: datetime) -> BatchFileStatus:
    """The status of a file whose deletion waits for jobs."""
    return _deletion_waits(file, f"unfinished jobs: {_some(jobs)}; delete or cancel them", now)


def clinging(file: BatchFile, routes: Sequence[str], now: datetime) -> BatchFileStatus:
    """The status of a file whose copies could not be deleted yet."""
    return _deletion_waits(file, f"its copies on {_some(routes)} to be deleted there; see the log for what failed", now)


def _deletion_waits(file: BatchFile, what: str, now: datetime) -> BatchFileStatus:
    message = f"deletion waits for {what}"
    conditions = _kept(file, now).set(ConditionType.RECONCILING, True, Reason.DELETION_WAITS, message)
    return file.status.model_copy(update={"conditions": conditions.list()})


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _kept(file: BatchFile, now: datetime) -> ConditionSet:
    """The conditions as they were, for the present generation."""
    conditions = _conditions(file, now)
    for found in file.status.conditions:
        if found.type not in list(ConditionType):
            continue
        status = {"True": True, "False": False}.get(found.status)
        conditions.set(ConditionType(found.type), status, Reason.of(found.reason), found.message)
    return conditions
