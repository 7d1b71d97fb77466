"""Building a resource's conditions as a value."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from llmbatch.api.base import Condition
from llmbatch.api.reasons import ConditionType, Reason

MESSAGE_LIMIT = 1024


class ConditionSet:
    """The conditions that a reconcile will write; a condition's time moves only when its status does."""

    def __init__(self, before: Iterable[Condition], *, generation: int, now: datetime) -> None:
        self._before = {condition.type: condition for condition in before}
        self._after: dict[str, Condition] = {}
        self._generation = generation
        self._now = now.replace(microsecond=0)

    def set(self, kind: ConditionType, holds: bool | None, reason: Reason, message: str = "") -> ConditionSet:
        """Set one condition; ``holds`` None is Unknown."""
        status = "Unknown" if holds is None else "True" if holds else "False"
        old = self._before.get(kind)
        self._after[kind] = Condition(
            type=kind.value,
            status=status,
            observed_generation=self._generation,
            last_transition_time=old.last_transition_time if old and old.status == status else self._now,
            reason=reason.value,
            message=message[:MESSAGE_LIMIT],
        )
        return self

    def list(self) -> list[Condition]:
        """Only what was set, in the order of ConditionType."""
        return [self._after[kind] for kind in ConditionType if kind in self._after]


def condition(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """One condition by its type."""
    return next((found for found in conditions if found.type == kind), None)


def why(conditions: Iterable[Condition]) -> Condition | None:
    """What says why something goes on, waits or has stalled."""
    found = list(conditions)
    return condition(found, ConditionType.RECONCILING) or condition(found, ConditionType.STALLED)


def holds(conditions: Iterable[Condition], kind: ConditionType) -> bool:
    """Whether a condition is there and True."""
    found = condition(conditions, kind)
    return found is not None and found.status == "True"
