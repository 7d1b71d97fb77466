"""Files and batches as their provider shows them."""

from __future__ import annotations

from typing import Any

from llmbatch.emulator.openai.dialects import Dialect
from llmbatch.emulator.openai.objects import Batch, StoredFile
from llmbatch.emulator.openai.processing.lifecycle import processed
from llmbatch.emulator.settings import BatchState, Behaviour

STAMPS: tuple[tuple[str, BatchState], ...] = (
    ("in_progress_at", "in_progress"),
    ("finalizing_at", "finalizing"),
    ("completed_at", "completed"),
    ("failed_at", "failed"),
    ("expired_at", "expired"),
    ("cancelling_at", "cancelling"),
    ("cancelled_at", "cancelled"),
)


def file_view(file: StoredFile, dialect: Dialect, behaviour: Behaviour, now: float) -> dict[str, Any]:
    """A file; times in whole seconds, with the account's skew."""
    skew = behaviour.clock_skew_seconds
    status, details = dialect.file_status(file, now)
    return {
        "object": "file",
        "id": file.id,
        "purpose": file.purpose,
        "filename": file.filename,
        "bytes": file.size,
        "created_at": int(file.created + skew),
        "expires_at": None if file.expires is None else int(file.expires + skew),
        "status": _state(status, behaviour),
        "status_details": details,
    }


def batch_view(batch: Batch, dialect: Dialect, behaviour: Behaviour, now: float) -> dict[str, Any]:
    """A batch; times in whole seconds, with the account's skew, absent files in the provider's way."""
    skew = behaviour.clock_skew_seconds
    quirk = behaviour.nulls_as_empty_strings
    absent = "" if (dialect.provider == "azure" if quirk is None else quirk) else None
    failed = batch.state == "failed"
    errors = [dialect.line_error(error, batch.endpoint).view() for error in batch.faults] if failed else []
    view = {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.window,
        "status": _state(batch.state, behaviour),
        "output_file_id": (batch.outcome and batch.outcome.output) or absent,
        "error_file_id": (batch.outcome and batch.outcome.errors) or absent,
        "created_at": int(batch.created + skew),
        "expires_at": int(batch.created + behaviour.expire_after_seconds + skew),
        "request_counts": _counts(batch, behaviour, now, uncounted=0 if absent is None else None),
        "metadata": batch.metadata,
    }
    for name, state in STAMPS:
        at = batch.entered.get(state)
        view[name] = None if at is None else int(at + skew)
    return dialect.finish_batch(view, batch)


def _counts(batch: Batch, behaviour: Behaviour, now: float, *, uncounted: int | None) -> dict[str, int | None]:
    """How many requests went how; before there is anything to count Microsoft's example has null."""
    if batch.state in ("validating", "failed") or "in_progress" not in batch.entered:
        return {"total": 0, "completed": uncounted, "failed": uncounted}
    if batch.outcome is not None:
        return {"total": batch.requests, "completed": batch.outcome.completed, "failed": batch.outcome.failed}
    if batch.foreign:
        return {"total": batch.requests, "completed": batch.requests, "failed": 0}
    so_far = batch.done if batch.done is not None else processed(batch, behaviour, now)
    fails = behaviour.fail_lines
    share = 1.0 if fails == "all" else fails if isinstance(fails, float) else 0.0
    failed = int(so_far * share + 1e-9)
    return {"total": batch.requests, "completed": so_far - failed, "failed": failed}


def _state(name: str, behaviour: Behaviour) -> str:
    """A state's name; Azure has been seen to write `Completed`, `InProgress`."""
    return "".join(word.capitalize() for word in name.split("_")) if behaviour.capitalised_states else name
