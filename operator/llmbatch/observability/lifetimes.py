"""Series that begin when what they are about comes, and end a while after it went."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Generic, TypeVar

KEPT_SECONDS = 3600.0
"""For how long Prometheus can still see what was counted last."""

Labels = TypeVar("Labels")


class Lifetimes(Generic[Labels]):
    """Calls ``begin`` for labels that come and ``end`` for those that have been gone for an hour.

    ``begin`` may be called again for labels that are there.
    """

    def __init__(self, begin: Callable[[Labels], None], end: Callable[[Labels], None]) -> None:
        self._begin = begin
        self._end = end
        self._alive: Set[Labels] = frozenset()
        self._gone_since: dict[Labels, float | None] = {}
        """Of all that have series; None while nobody has seen that it is gone."""

    def used(self, labels: Labels) -> None:
        """Something was counted under these labels, which may be of something that is gone."""
        self._gone_since.setdefault(labels, None)

    def keep(self, alive: Set[Labels], now: float) -> None:
        """These are there now, and no others. ``now`` is in seconds that never go back."""
        for labels in alive - self._alive:
            self._begin(labels)
        self._gone_since.update(dict.fromkeys(alive))
        # A copy: something may be counted meanwhile, in another thread.
        for labels, since in list(self._gone_since.items()):
            if labels in alive:
                continue
            if since is None:
                self._gone_since[labels] = now
            elif now - since >= KEPT_SECONDS:
                del self._gone_since[labels]
                self._end(labels)
        self._alive = alive
