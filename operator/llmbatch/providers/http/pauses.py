"""The quiet that a provider asked for."""

from __future__ import annotations

from llmbatch.providers.protocol import Clock

WHOLE_ACCOUNT = 60.0
"""Seconds for which a refused operation quietens the others too: a limit on creations (OpenAI: 2,000 an hour, refused
for the rest of it) must not keep running batches from being followed."""


class Pauses:
    """Until when an account's operations wait after a 429 with Retry-After."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._account = 0.0
        self._operations: dict[str, float] = {}

    def note(self, operation: str, seconds: float) -> None:
        """The provider refused this operation for so many seconds."""
        now = self._clock.monotonic()
        self._operations[operation] = max(self._operations.get(operation, 0.0), now + seconds)
        self._account = max(self._account, now + min(seconds, WHOLE_ACCOUNT))

    def left(self, operation: str) -> float:
        """Seconds until this operation may be asked again; not above 0 if it may be now."""
        return max(self._operations.get(operation, 0.0), self._account) - self._clock.monotonic()
