"""The life of a file: what one reconcile must do next with its copies, and what becomes of their entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from llmbatch.api.batchfile import BatchFile, CopyState, FileDeployment, ProviderFile
from llmbatch.api.reasons import Reason
from llmbatch.domain.backoff import UPLOAD
from llmbatch.domain.remote import FileState, RemoteFile
from llmbatch.domain.requests.validation import InputLimits

LEFT_AT_LEAST = timedelta(hours=48)
"""A copy that the provider deletes sooner is made again before a job relies on it: a batch may take 24 hours."""
SOONEST_CHECK, LATEST_CHECK = timedelta(seconds=2), timedelta(seconds=30)
"""A provider is asked whether it has processed a copy after a tenth more of the time that it took so far, within
these bounds."""
DROP_AGAIN = timedelta(seconds=10)
"""How soon the deletion of a copy on a deployment that no longer is the file's is tried again."""


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment that the file goes to. ``unusable`` says why it cannot take it just now."""

    route: str
    model_name: str
    form: str
    """What lines are translated to: the provider's model and the beginning of its URLs."""
    limits: InputLimits
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
            times.append(now + _check_wait(entry, now))
        elif route not in targets and route not in seen.in_use:
            times.append(now + DROP_AGAIN)
    return min(times, default=None)


def _check_wait(entry: FileDeployment, now: datetime) -> timedelta:
    uploaded = entry.files[0].upload_time if entry.files else None
    age = now - uploaded if uploaded else timedelta(0)
    return min(max(age / 10, SOONEST_CHECK), LATEST_CHECK)


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


def _limit(file: BatchFile, target: Target) -> tuple[Reason, str] | None:
    """Why this deployment can never take the file."""
    limits, requests, endpoint = target.limits, file.status.requests or 0, file.status.endpoint
    if limits.max_requests is not None and requests > limits.max_requests:
        return Reason.LIMIT_EXCEEDED, f"{requests} requests, but it takes {limits.max_requests}; divide the file"
    if limits.max_bytes is not None and target.size > limits.max_bytes:
        return Reason.LIMIT_EXCEEDED, f"{target.size} bytes, but it takes {limits.max_bytes}; divide the file"
    if limits.endpoints is not None and endpoint and endpoint not in limits.endpoints:
        known = ", ".join(sorted(limits.endpoints))
        return Reason.ENDPOINT_MISMATCH, f"the lines' URL is {endpoint}, but it has batches for {known} only"
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
        odd = f"its state at the provider is not known here: {remote.unknown_state}" if remote.unknown_state else None
        return before.model_copy(update={"error": odd})
    copy = before.files[0]
    if remote.state is FileState.ERROR:
        bad = copy.model_copy(update={"state": CopyState.FAILED})
        return refused(target, before.model_copy(update={"files": [bad]}), now)
    good = copy.model_copy(update={"state": CopyState.PROCESSED, "expiry_time": remote.expires_at or copy.expiry_time})
    return before.model_copy(update={"state": CopyState.PROCESSED, "error": None, "files": [good]})


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
        return _blocked(target, *limit, CopyState.FAILED, entry)
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
