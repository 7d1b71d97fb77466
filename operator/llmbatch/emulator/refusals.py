"""Refusals: what a provider answers when it won't do what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(eq=False)
class Refusal(Exception):
    """An error answer, before a dialect puts it in the provider's form. `retry_after` is in seconds."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    kind: str = "invalid_request_error"
    retry_after: float | None = None

    def headers(self) -> Mapping[str, str]:
        """The headers that go with it."""
        if self.retry_after is None:
            return {}
        seconds = self.retry_after
        return {
            "Retry-After": str(int(seconds)) if seconds == int(seconds) else str(seconds),
            "retry-after-ms": str(int(seconds * 1000)),
        }


@dataclass(frozen=True)
class LineError:
    """One entry of a batch's `errors.data`; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def view(self) -> dict[str, object]:
        """As both providers write it."""
        return {"code": self.code, "line": self.line, "message": self.message, "param": self.param}


@dataclass
class Verdict:
    """What a file's validation found: the first errors, and what the batch must know of the rest."""

    requests: int = 0
    models: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    tokens: int = 0
    malformed: list[LineError] = field(default_factory=list)
    errors: list[LineError] = field(default_factory=list)
