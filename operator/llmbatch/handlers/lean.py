"""What kopf would keep and work out for each object, for handlers that this operator does not have, is let go.

kopf 1.45 copies each object of each event to find out what changed since a change handler last ran, and remembers a
record an object for daemons, indices and retries. Here is but ``kopf.on.event``, which asks for none of that. The two
storages are kopf's documented hooks, and its memories an argument; ``tests/unit/handlers`` sees to it that a newer kopf
still takes them.
"""

from __future__ import annotations

from typing import Any

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory


class NoDiffs(kopf.DiffBaseStorage):
    """Nothing is compared with what was last handled."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """An object has no essence: copying it would cost more than all else that kopf does with an event."""
        return {}

    def fetch(self, *, body: Any) -> Any:
        """Nothing was handled before."""
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing is written to objects."""


class NoProgress(kopf.ProgressStorage):
    """No handler has progress to keep."""

    def fetch(self, *, key: Any, body: Any) -> Any:
        """There is none."""
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Nothing is written to objects."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Nothing is written to objects."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Nothing is written to objects."""

    def clear(self, *, essence: Any) -> Any:
        """Nothing of it is there."""
        return essence


class NoMemories(ResourceMemories):
    """A record an event, which goes with it."""

    async def recall(self, raw_body: Any, **_: Any) -> ResourceMemory:
        """A new one."""
        return ResourceMemory()
