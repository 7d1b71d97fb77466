"""Taking turns: which of the keys that are ready is next, so that no namespace holds up another."""

from __future__ import annotations

from collections import Counter, OrderedDict

from llmbatch.engine.key import Key


class FairOrder:
    """Keys that are ready, each with when it became so. The next one is of the namespace with the fewest keys under
    way, of several such namespaces the one that waits longest for its turn, and there the one that was ready first.

    So a namespace uses every place that nobody else wants, and the only key of another is taken before its flood.
    """

    def __init__(self) -> None:
        self._ready: dict[str, OrderedDict[Key, float]] = {}
        self._running: Counter[str] = Counter()
        self._turns: dict[int, OrderedDict[str, None]] = {}
        """Namespaces with ready keys by how many of theirs are under way."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: Key) -> bool:
        return key in self._ready.get(key.namespace, ())

    def add(self, key: Key, since: float) -> None:
        """The key, which is not among them, is ready."""
        keys = self._ready.get(key.namespace)
        if keys is None:
            keys = self._ready[key.namespace] = OrderedDict()
            self._queue_up(key.namespace)
        keys[key] = since
        self._size += 1

    def discard(self, key: Key) -> None:
        """The key is not wanted any more, if it was."""
        if key in self:
            self._remove(key)

    def next_is_first(self) -> bool:
        """Whether the next key is of a namespace that has none under way."""
        return bool(self._turns.get(0))

    def take(self) -> tuple[Key, float]:
        """The next key, which is under way from now on, and since when it was ready. Raises ValueError if there is
        none."""
        namespace = next(iter(self._turns[min(self._turns)]))
        key, since = next(iter(self._ready[namespace].items()))
        self._remove(key)
        self._leave(namespace)
        self._running[namespace] += 1
        if namespace in self._ready:
            self._queue_up(namespace)
        return key, since

    def ended(self, key: Key) -> None:
        """The key is no longer under way."""
        namespace = key.namespace
        if namespace in self._ready:
            self._leave(namespace)
        self._running[namespace] -= 1
        if not self._running[namespace]:
            del self._running[namespace]
        if namespace in self._ready:
            self._queue_up(namespace)

    def oldest(self) -> float | None:
        """Since when the key that waits longest is ready."""
        return min((next(iter(keys.values())) for keys in self._ready.values()), default=None)

    def clear(self) -> None:
        """Nothing is ready any more."""
        self._ready.clear()
        self._turns.clear()
        self._size = 0

    def _remove(self, key: Key) -> None:
        keys = self._ready[key.namespace]
        del keys[key]
        self._size -= 1
        if not keys:
            self._leave(key.namespace)
            del self._ready[key.namespace]

    def _queue_up(self, namespace: str) -> None:
        self._turns.setdefault(self._running[namespace], OrderedDict())[namespace] = None

    def _leave(self, namespace: str) -> None:
        running = self._running[namespace]
        if (turn := self._turns.get(running)) is not None:
            turn.pop(namespace, None)
            if not turn:
                del self._turns[running]
