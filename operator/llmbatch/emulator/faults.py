"""Faults that were asked for: which call they hit, and what they do to it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from llmbatch.emulator.call_log import OPERATIONS

FaultKind = Literal[
    "latency",
    "status",
    "rate_limit",
    "hang_after_success",
    "close_after_success",
    "close_before",
    "cut_body",
    "file_error",
    "list_lag",
]
SECONDS: Mapping[FaultKind, float] = MappingProxyType({"hang_after_success": 3600.0, "latency": 1.0, "list_lag": 60.0})
ONLY_ON: Mapping[FaultKind, tuple[str, ...]] = MappingProxyType(
    {
        "cut_body": ("files.content",),
        "file_error": ("files.create",),
        "list_lag": ("batches.list", "files.list"),
    }
)


class Fault(BaseModel):
    """One fault. It hits the next `times` calls of its operation whose subject holds all of `match`.

    `match` is compared field by field: mappings in depth, text by being contained.
    """

    model_config = ConfigDict(extra="forbid")

    operation: str = "*"
    kind: FaultKind
    match: dict[str, Any] = Field(default_factory=dict)
    times: PositiveInt | Literal["always"] = 1
    status: int = Field(default=500, ge=400, le=599)
    code: str | None = None
    message: str = "The server had an error while processing your request. Sorry about that!"
    retry_after: NonNegativeFloat | None = None
    seconds: NonNegativeFloat | None = None
    body_bytes: NonNegativeInt = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.operation not in ("*", *OPERATIONS):
            raise ValueError(f"there is no operation {self.operation}; there are {', '.join(OPERATIONS)}")
        only = ONLY_ON.get(self.kind)
        if only and self.operation != "*" and self.operation not in only:
            raise ValueError(f"{self.kind} fits {' and '.join(only)} only")
        return self

    @property
    def duration(self) -> float:
        """How long it lasts, in seconds."""
        return SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds

    def hits(self, operation: str, subject: Mapping[str, Any]) -> bool:
        """Whether this call is one that it waits for."""
        only = ONLY_ON.get(self.kind)
        if only and operation not in only:
            return False
        return self.operation in ("*", operation) and _holds(subject, self.match)


class Faults:
    """An account's faults, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Ask for one more."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """Let no more happen."""
        self._waiting.clear()

    def view(self) -> list[dict[str, Any]]:
        """Those that still wait."""
        return [fault.model_dump() for fault in self._waiting]

    def take(self, operation: str, subject: Mapping[str, Any]) -> Fault | None:
        """The first fault that hits this call, counted down."""
        for at, fault in enumerate(self._waiting):
            if not fault.hits(operation, subject):
                continue
            if fault.times == 1:
                del self._waiting[at]
            elif fault.times != "always":
                self._waiting[at] = fault.model_copy(update={"times": fault.times - 1})
            return fault
        return None


def _holds(subject: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(subject, Mapping) and all(_holds(subject.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, str) and isinstance(subject, str):
        return wanted in subject
    return subject == wanted
