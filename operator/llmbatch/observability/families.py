"""Metrics as Prometheus shows them, and gauges that are read when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Reading = tuple[tuple[str, ...], float]
"""The values of a gauge's labels, and its own."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric under the name and with the labels that Prometheus sees."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


class ReadGauge(Collector):
    """A gauge that has exactly the samples that ``read`` answers at a scrape: what is gone leaves none behind."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self.read: Callable[[], Iterable[Reading]] = tuple

    def describe(self) -> list[Metric]:
        """The family without samples, so that a registry need not read to learn the name."""
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        """The family as it is now."""
        family = self._family()
        for labels, value in self.read():
            family.add_metric(labels, value)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._documentation, labels=self._labels)


class Collected(Collector):
    """Families that were collected already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The same."""
        return self._families
