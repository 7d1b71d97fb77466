"""Jobs and files as the others need to know them: small, so that tens of thousands fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from llmbatch.api import BatchFile
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
