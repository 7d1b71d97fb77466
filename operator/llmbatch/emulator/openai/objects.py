"""The two things an account holds, files and batches, and the catalogue that lists them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from llmbatch.emulator.refusals import LineError, Verdict
from llmbatch.emulator.settings import BatchState

Kind = Literal["chat", "embeddings", "responses", "completions"]
"""What sort of request an endpoint takes."""

TERMINAL: frozenset[BatchState] = frozenset({"completed", "failed", "expired", "cancelled"})


class Listed(Protocol):
    """What a catalogue can hold. `created` is seconds since the epoch on the emulator's own clock."""

    id: str
    created: float


@dataclass(slots=True, eq=False)
class StoredFile:
    """A file of an account; its content lies in `path`, and times are seconds since the epoch."""

    id: str
    created: float
    filename: str
    purpose: str
    size: int
    path: Path
    verdict: Verdict | None = None
    expires: float | None = None
    expiry_asked: bool = False
    ready: float = 0.0
    fault: str | None = None
    gone: bool = False

    def is_there(self, now: float) -> bool:
        """Whether the provider still has it."""
        return not self.gone and (self.expires is None or now < self.expires)


@dataclass(slots=True)
class Usage:
    """Tokens, with cached ones a part of the input and reasoning ones a part of the output."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def add(self, other: Usage) -> None:
        """Add another's tokens to this one's."""
        self.input += other.input
        self.cached += other.cached
        self.output += other.output
        self.reasoning += other.reasoning


@dataclass(slots=True)
class Outcome:
    """What became of a batch's requests, and the files that say so."""

    completed: int = 0
    failed: int = 0
    output: str | None = None
    errors: str | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True, eq=False)
class Batch:
    """A batch of an account. Its state moves on only when somebody looks; `entered` holds when each was entered."""

    id: str
    created: float
    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None
    state: BatchState = "validating"
    kind: Kind = "chat"
    window: str = "24h"
    input: StoredFile | None = None
    requests: int = 0
    tokens: int = 0
    model: str | None = None
    deployment: str | None = None
    output_ttl: float | None = None
    faults: list[LineError] = field(default_factory=list)
    entered: dict[BatchState, float] = field(default_factory=dict)
    not_before: float = 0.0
    done: int | None = None
    """How many requests were processed when it was cut short; None: all of them."""
    outcome: Outcome | None = None
    foreign: bool = False
    """Somebody else's: only there to be listed, with no input and no output."""

    @property
    def since(self) -> float:
        """When it entered the state that it is in."""
        return self.entered.get(self.state, self.created)

    @property
    def is_over(self) -> bool:
        """Whether it is in a state that it never leaves."""
        return self.state in TERMINAL

    def enter(self, state: BatchState, at: float) -> None:
        """Go over to a state."""
        self.state = state
        self.entered[state] = at


T = TypeVar("T", bound=Listed)


class Catalogue(Generic[T]):
    """Objects by id, kept in two orders: by age and shuffled, so that a page costs the same among thousands."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._objects: dict[str, T] = {}
        self._by_age: list[tuple[float, int, str]] = []
        self._shuffled: list[tuple[bytes, int, str]] = []
        self._keys: dict[str, tuple[tuple[float, int, str], tuple[bytes, int, str]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[T]:
        return iter(self._objects.values())

    def get(self, key: str) -> T | None:
        """The object with this id."""
        return self._objects.get(key)

    def add(self, item: T) -> None:
        """Take in a new object; of two of the same second the later one counts as newer."""
        self._count += 1
        digest = blake2b(f"{self._seed} {item.id}".encode(), digest_size=8).digest()
        keys = (item.created, self._count, item.id), (digest, self._count, item.id)
        self._objects[item.id] = item
        self._keys[item.id] = keys
        insort(self._by_age, keys[0])
        insort(self._shuffled, keys[1])

    def remove(self, key: str) -> None:
        """Forget an object."""
        del self._objects[key]
        by_age, shuffled = self._keys.pop(key)
        del self._by_age[bisect_left(self._by_age, by_age)]
        del self._shuffled[bisect_left(self._shuffled, shuffled)]

    def page(
        self,
        *,
        after: str | None,
        limit: int,
        order: Literal["newest", "oldest", "shuffled"],
        keep: Callable[[T], bool],
    ) -> tuple[list[T], bool]:
        """Up to `limit` objects behind the one with the id `after`, and whether there are more.

        Raises KeyError for an `after` that isn't there.
        """
        if after is not None and after not in self._keys:
            raise KeyError(after)
        found: list[T] = []
        for key in self._ordered(order, after):
            item = self._objects[key]
            if not keep(item):
                continue
            if len(found) == limit:
                return found, True
            found.append(item)
        return found, False

    def _ordered(self, order: Literal["newest", "oldest", "shuffled"], after: str | None) -> Iterator[str]:
        if order == "shuffled":
            start = 0 if after is None else bisect_left(self._shuffled, self._keys[after][1]) + 1
            return (self._shuffled[at][2] for at in range(start, len(self._shuffled)))
        if order == "oldest":
            start = 0 if after is None else bisect_left(self._by_age, self._keys[after][0]) + 1
            return (self._by_age[at][2] for at in range(start, len(self._by_age)))
        start = len(self._by_age) if after is None else bisect_left(self._by_age, self._keys[after][0])
        return (self._by_age[at][2] for at in range(start - 1, -1, -1))
