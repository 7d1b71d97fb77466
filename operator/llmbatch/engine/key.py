"""What a queue's keys are: names of resources."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """Names one resource."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"
