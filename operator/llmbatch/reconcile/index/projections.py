"""Jobs and files as the others need to know them: small, so that tens of thousands fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from sys import intern
from typing import Any, NamedTuple

from llmbatch.api import BatchFile, names
from llmbatch.api.batchfile import CopyState
from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.engine.queue import Key


@dataclass(frozen=True, slots=True)
class JobProjection:
    """A job, as far as others need to know it."""

    uid: str
    created: datetime
    file: Key
    model: str | None
    phase: Phase
    deleting: bool
    suspended: bool
    route: str | None
    batch_id: str | None
    since: datetime = field(compare=False)
    """When it came into its phase."""
    reason: Reason | None = field(compare=False)
    """Why it goes on or waits: for people to see, so that a change of it concerns nobody."""
    tokens: int = 0

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase.finished

    def uses(self, file: BatchFile) -> bool:
        """Whether it may still be run on this file, which is being deleted: one made later waits for another file of
        that name."""
        deleted = file.metadata.deletion_timestamp
        return not self.finished and (deleted is None or self.created <= deleted)

    @property
    def holds_room(self) -> bool:
        """Whether it takes up headroom on its deployment."""
        return not self.finished and self.route is not None


FINISHED: Mapping[str, Phase] = {phase.value: phase for phase in Phase if phase.finished}


class FinishedJob(NamedTuple):
    """A job that has ended, and when it is to delete itself."""

    job: JobProjection
    expiry: datetime | None


def finished_job(key: Key, body: Mapping[str, Any]) -> FinishedJob | None:
    """A job as the API server wrote it, if it has ended and nothing is left to do with it until its expiry; None where
    it has to be read whole.

    Most jobs have ended, and a start sees all of them: this takes a tenth of the time of reading one.
    """
    try:
        meta, spec, status = body["metadata"], body["spec"], body["status"]
        phase = FINISHED.get(status["phase"])
        if phase is None or "deletionTimestamp" in meta or status["observedGeneration"] != meta["generation"]:
            return None
        shards, record = status.get("shards") or [{}], meta.get("annotations") or {}
        first, batch_id = shards[0], record.get(names.ANNOTATION_BATCH_ID)
        home = first.get("deployment")
        route = f"{home['namespace']}/{home['name']}" if home else None
        if len(shards) != 1 or names.ANNOTATION_CREATE_PENDING in record or batch_id != first.get("batchID"):
            return None
        if batch_id and (record.get(names.ANNOTATION_DEPLOYMENT) != route or names.FINALIZER not in meta["finalizers"]):
            return None
        ended, ttl = status.get("completionTime"), spec.get("ttlSecondsAfterFinished")
        expiry = _time(ended) + timedelta(seconds=ttl) if ended and ttl is not None else None
        job = JobProjection(
            uid=meta["uid"],
            created=_time(meta["creationTimestamp"]),
            file=Key(BatchFile.KIND, key.namespace, intern(spec["inputFileRef"]["name"])),
            model=intern(status["modelName"]) if "modelName" in status else None,
            phase=phase,
            deleting=False,
            suspended=bool(spec.get("suspend")),
            route=intern(route) if batch_id and route else None,
            batch_id=batch_id,
            since=_time(status.get("phaseTime") or meta["creationTimestamp"]),
            reason=None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return FinishedJob(job, expiry)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


class FileState(StrEnum):
    """How far a file is, for people to see."""

    VALIDATING = "Validating"
    INVALID = "Invalid"
    UPLOADING = "Uploading"
    UPLOADED = "Uploaded"


@dataclass(frozen=True, slots=True)
class FileProjection:
    """A file, as far as others need to know it."""

    uid: str
    models: tuple[str, ...]
    valid: bool | None
    deleting: bool
    copies: tuple[tuple[str, str | None], ...]
    """Route and file id; the id only where it is processed."""
    tokens: int

    @property
    def state(self) -> FileState:
        """Uploaded is what every deployment with an entry holds."""
        if not self.valid:
            return FileState.VALIDATING if self.valid is None else FileState.INVALID
        return FileState.UPLOADED if self.copies and all(id_ for _, id_ in self.copies) else FileState.UPLOADING

    def routes(self) -> Iterator[str]:
        """Deployments with a copy or an entry for one."""
        return (route for route, _ in self.copies)


def file_projection(file: BatchFile) -> FileProjection:
    """The view of a file."""
    status = file.status
    validated = next((found for found in status.conditions if found.type == ConditionType.VALIDATED), None)
    return FileProjection(
        uid=file.metadata.uid,
        models=tuple(file.spec.target_model_names),
        valid=None if validated is None or validated.status == "Unknown" else validated.status == "True",
        deleting=file.metadata.deletion_timestamp is not None,
        copies=tuple(
            (
                f"{entry.namespace}/{entry.name}",
                entry.files[0].file_id if entry.state is CopyState.PROCESSED and entry.files else None,
            )
            for entry in status.deployments
        ),
        tokens=status.estimated_input_tokens or 0,
    )
