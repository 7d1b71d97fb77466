"""What is shown beside the traceback of a test that failed."""

from __future__ import annotations

from collections.abc import Callable

LONGEST = 12_000


class Diagnostics:
    """Texts to be fetched only if the test fails."""

    def __init__(self) -> None:
        self._sources: list[tuple[str, Callable[[], str]]] = []

    def add(self, title: str, text_of: Callable[[], str]) -> None:
        """Show what `text_of` answers at the time of the failure, its end if it is long."""
        self._sources.append((title, text_of))

    def sections(self, when: str) -> list[tuple[str, str]]:
        """Title and text of each. One that can't be fetched says why and hides no other."""
        found: list[tuple[str, str]] = []
        for title, text_of in self._sources:
            try:
                text = text_of()
            except Exception as error:
                text = f"not to be had: {error!r}"
            found.append((f"{title} ({when})", text[-LONGEST:]))
        return found
