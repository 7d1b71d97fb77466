"""The record of every call that an account answered, for tests to assert on."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import asdict, dataclass, field
from typing import Any

LOG_LENGTH = 100_000

OPERATIONS = (
    "files.create",
    "files.list",
    "files.get",
    "files.content",
    "files.delete",
    "batches.create",
    "batches.get",
    "batches.list",
    "batches.cancel",
)


@dataclass(slots=True)
class Call:
    """One call: `status` is what was answered, 0 for nothing; `fault` is what was done to it on request."""

    time: float
    operation: str
    status: int
    key: int | None = None
    id: str | None = None
    file_id: str | None = None
    batch_id: str | None = None
    deployment: str | None = None
    fault: str | None = None
    user_agent: str = ""


@dataclass
class CallLog:
    """Counts by operation and status since the last reset, and the last calls one by one."""

    counts: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    log: deque[Call] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH))

    def add(self, call: Call) -> None:
        """Count a call."""
        self.counts[call.operation][call.status] += 1
        self.log.append(call)

    def clear(self) -> None:
        """Begin at nought again."""
        self.counts.clear()
        self.log.clear()

    def view(self, *, since: float = 0.0, operation: str | None = None) -> dict[str, Any]:
        """`{total, operations: {name: {count, by_status}}, log: [...]}`; only the log is filtered."""
        operations = {
            name: {
                "count": self.counts[name].total() if name in self.counts else 0,
                "by_status": {str(status): n for status, n in sorted(self.counts.get(name, Counter()).items())},
            }
            for name in (*OPERATIONS, *sorted(self.counts.keys() - set(OPERATIONS)))
        }
        return {
            "total": sum(entry["count"] for entry in operations.values()),
            "operations": operations,
            "log": [
                asdict(call)
                for call in self.log
                if call.time >= since and (operation is None or call.operation == operation)
            ],
        }
