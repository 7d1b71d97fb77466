"""Who asks for which model, and whom a deployment can therefore concern."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from itertools import islice

from llmbatch.engine.queue import Key

ANY = ""
"""No namespace has this name."""


class KeysByModel:
    """Files or jobs by the models that they ask for, in the order in which they came.

    A deployment reaches those of its own namespace, and one in a shared namespace those of all: what a tenant does to
    its deployments wakes nobody else.
    """

    def __init__(self, shared_namespaces: Collection[str]) -> None:
        self._shared = shared_namespaces
        self._found: defaultdict[tuple[str, str], dict[Key, None]] = defaultdict(dict)

    def add(self, key: Key, models: Iterable[str]) -> None:
        """It asks for these models."""
        for model in models:
            self._found[model, key.namespace][key] = None
            self._found[model, ANY][key] = None

    def drop(self, key: Key, models: Iterable[str]) -> None:
        """It no longer does."""
        for where in [(model, namespace) for model in models for namespace in (key.namespace, ANY)]:
            if (keys := self._found.get(where)) is not None:
                keys.pop(key, None)
                if not keys:
                    del self._found[where]

    def reached(self, model: str, home: str) -> Collection[Key]:
        """Whom a deployment of that model in the namespace ``home`` reaches."""
        return self._found.get(self._where(model, home), {}).keys()

    def turn(self, model: str, home: str, most: int) -> list[Key]:
        """The next few of those, who then go to the end: whoever cannot use what there is stands in nobody's way."""
        found = self._found.get(self._where(model, home), {})
        chosen = list(islice(found, most))
        for key in chosen:
            found[key] = found.pop(key)
        return chosen

    def _where(self, model: str, home: str) -> tuple[str, str]:
        return model, ANY if home in self._shared else home
