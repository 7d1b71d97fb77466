"""What the tests measured, as a table. A time over its limit is told and fails no test: the machine may be busy."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Figures:
    """Figures in the order in which they were taken."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, what: str, value: float, unit: str, limit: float | None = None) -> None:
        """Note a figure, and the most that it may be."""
        missed = " MISSED" if limit is not None and value > limit else ""
        self.rows.append((what, f"{value:.1f} {unit}", "" if limit is None else f"at most {limit:g} {unit}{missed}"))

    def table(self) -> list[str]:
        """Lines of a table."""
        wide = max((len(what) for what, _, _ in self.rows), default=0)
        return [f"{what:<{wide}}  {value:>10}  {limit}".rstrip() for what, value, limit in self.rows]
