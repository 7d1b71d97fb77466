"""How a batch's state follows from the time: nothing runs for a batch, its state is worked out when somebody looks."""

from __future__ import annotations

from llmbatch.emulator.openai.objects import Batch
from llmbatch.emulator.refusals import LineError
from llmbatch.emulator.settings import BatchState, Behaviour, Provider

PATHS: dict[BatchState, tuple[BatchState, ...]] = {
    "validating": (),
    "failed": (),
    "in_progress": ("in_progress",),
    "finalizing": ("in_progress", "finalizing"),
    "completed": ("in_progress", "finalizing"),
    "expired": ("in_progress",),
    "cancelling": ("cancelling",),
    "cancelled": ("cancelling",),
}
"""The states that a batch goes through on its way to one."""


def advance(batch: Batch, behaviour: Behaviour, provider: Provider, now: float) -> None:
    """Bring a batch to the state that it has at `now`, seconds since the epoch."""
    held = "in_progress" if behaviour.hold is True else behaviour.hold
    while not batch.is_over:
        if batch.state == held:
            batch.not_before = now
            return
        state, at = _next(batch, behaviour, provider)
        at = max(at, batch.not_before)
        if at > now:
            return
        if state == "failed" and not batch.faults:
            batch.faults = [_input_lost(batch)]
        if state == "expired":
            batch.done = int(batch.requests * behaviour.completed_fraction)
        batch.enter(state, at)


def cancel(batch: Batch, behaviour: Behaviour, now: float) -> None:
    """Begin to cancel a batch that is not over."""
    if batch.state != "finalizing":
        batch.done = processed(batch, behaviour, now)
    batch.enter("cancelling", now)


def force(batch: Batch, state: BatchState, behaviour: Behaviour, now: float, error: LineError | None = None) -> None:
    """Put a batch into a state at once, through those that lie before it."""
    if state in ("cancelling", "cancelled") and batch.state != "cancelling":
        batch.done = processed(batch, behaviour, now)
    if state == "expired":
        batch.done = int(batch.requests * behaviour.completed_fraction)
    if state == "failed":
        batch.faults = [error or LineError("server_error", "The batch failed for a reason of the service's own.")]
    for passed in PATHS[state]:
        if passed not in batch.entered:
            batch.enter(passed, now)
    batch.enter(state, now)


def processed(batch: Batch, behaviour: Behaviour, now: float) -> int:
    """How many requests of a running batch were processed so far."""
    if batch.state in ("finalizing", "completed"):
        return batch.requests
    started = batch.entered.get("in_progress")
    if started is None or batch.state in ("validating", "failed"):
        return 0
    duration = behaviour.pace.in_progress_seconds
    share = 1.0 if duration <= 0 else min(max((now - started) / duration, 0.0), 1.0)
    return int(batch.requests * share)


def _next(batch: Batch, behaviour: Behaviour, provider: Provider) -> tuple[BatchState, float]:
    """The state that comes next, and when."""
    pace = behaviour.pace
    match batch.state:
        case "validating":
            if batch.input is None:
                return "failed", batch.since + pace.missing_input_seconds
            at = batch.since + pace.validating_seconds
            sound = not batch.faults and batch.input.is_there(at)
            return ("in_progress" if sound else "failed"), at
        case "in_progress":
            end = batch.since + pace.in_progress_seconds
            if provider == "azure":
                # Microsoft: "we do not expire the jobs that take longer".
                return "finalizing", end
            if behaviour.expire:
                return "expired", end
            window = max(batch.created + behaviour.expire_after_seconds, batch.since)
            return ("expired", window) if window < end else ("finalizing", end)
        case "finalizing":
            return "completed", batch.since + pace.finalizing_seconds
        case _:
            return "cancelled", batch.since + pace.cancelling_seconds


def _input_lost(batch: Batch) -> LineError:
    message = f"The input file {batch.input_file_id} could not be read: it does not exist, expired or was deleted."
    return LineError("invalid_input_file", message, None, "input_file_id")
