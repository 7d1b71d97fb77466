"""What a file's status says: of its content, of its copies, and of what its deletion waits for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from llmbatch.api.batchfile import BatchFile, BatchFileStatus, CopyState, FileDeployment
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import ConditionSet, holds
from llmbatch.domain.errors import LLMBatchError
from llmbatch.domain.file.rules import route_of
from llmbatch.domain.requests.validation import InputReport


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
            "custom_id_digest": report.custom_id_digest,
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
    return file.status.model_copy(
        update={"conditions": conditions.list(), "observed_generation": file.metadata.generation}
    )


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
