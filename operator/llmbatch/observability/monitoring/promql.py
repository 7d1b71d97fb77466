"""PromQL made of metrics: one that is renamed, or asked for a label that it has not, is found when it is made.

https://prometheus.io/docs/prometheus/latest/querying/basics/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from prometheus_client.registry import Collector

from llmbatch.observability.families import Family
from llmbatch.observability.metrics import Metrics

TARGET_LABELS = ("cluster", "namespace", "pod", "job", "instance")
"""What Prometheus knows of the pod that was scraped; the cluster where it knows of several."""
_MATCHER = re.compile(r"(=~|!~|!=|=)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Query:
    """An instant vector, and the labels that its series may have. Reads like arithmetic: ``errors / calls * 100``."""

    text: str
    labels: frozenset[str]
    binds: int = 3
    """How closely its parts hold together: 3 a call, 2 a product, 1 a sum, 0 a set."""

    def __str__(self) -> str:
        return self.text

    def sum(self, *by: str) -> Query:
        """Added up over everything but ``by``."""
        return self._aggregate("sum", by)

    def max(self, *by: str) -> Query:
        """The largest over everything but ``by``: of what each replica tells of the same thing."""
        return self._aggregate("max", by)

    def count(self, *by: str) -> Query:
        """How many series there are."""
        return self._aggregate("count", by)

    def __truediv__(self, other: Query) -> Query:
        return self._joined("/", other.within(3), 2)

    def __mul__(self, factor: float) -> Query:
        return self._joined("*", f"{factor:g}", 2)

    def __rsub__(self, number: float) -> Query:
        return replace(self, text=f"{number:g} - {self.within(2)}", binds=1)

    def above(self, number: float) -> Query:
        """Those of its series that are above a number."""
        return replace(self, text=f"{self.within(1)} > {number:g}", binds=0)

    def where(self, other: Query, *on: str) -> Query:
        """Those of its series that share these labels with a series of the other."""
        _check(on, self.labels & other.labels, self.text)
        return replace(self, text=f"{self.within(1)} and on ({', '.join(on)}) {other.within(1)}", binds=0)

    def otherwise(self, other: Query) -> Query:
        """With those series of the other that are not among its own."""
        return replace(self, text=f"{self.within(1)} or {other.within(1)}", binds=0)

    def or_zero(self) -> Query:
        """Zero where there is no series at all; for what has no labels."""
        return replace(self, text=f"{self.within(1)} or vector(0)", binds=0)

    def within(self, binds: int) -> str:
        """The text as a part of something that holds its parts together so closely."""
        return self.text if self.binds >= binds else f"({self.text})"

    def _joined(self, operator: str, right: str, binds: int) -> Query:
        return replace(self, text=f"{self.within(binds)} {operator} {right}", binds=binds)

    def _aggregate(self, name: str, by: tuple[str, ...]) -> Query:
        _check(by, self.labels, self.text)
        grouping = f" by ({', '.join(by)}) " if by else ""
        return Query(f"{name}{grouping}({self.text})", frozenset(by))


class Expressions:
    """Makes queries. ``target`` matches the labels of scraped pods in every selector; rates are over ``window``."""

    def __init__(self, metrics: Metrics, *, window: str, target: Mapping[str, str] | None = None) -> None:
        self._families = metrics.families
        self._window = window
        self._target = dict(target or {})

    def now(self, gauge: Collector | Family, **matchers: str) -> Query:
        """What a gauge says. ``matchers`` are labels with an operator and a value: ``code="=~5.."``."""
        family = self._family(gauge, "gauge")
        return Query(self._selector(family, "", matchers), self._labels(family))

    def last(self, gauge: Collector | Family, window: str) -> Query:
        """What a gauge said last within a window, though it may be gone since."""
        return self._ranged("last_over_time", self._family(gauge, "gauge"), "", window, {})

    def rate(self, counted: Collector | Family, window: str | None = None, **matchers: str) -> Query:
        """How much a counter, or a histogram's number of observations, grows a second."""
        return self._over("rate", counted, window, matchers)

    def increase(self, counted: Collector | Family, window: str | None = None, **matchers: str) -> Query:
        """How much it grew over the window."""
        return self._over("increase", counted, window, matchers)

    def quantile(self, quantile: float, histogram: Collector, *by: str, **matchers: str) -> Query:
        """An estimate of a quantile of what a histogram observed."""
        family = self._family(histogram, "histogram")
        buckets = self._ranged("rate", family, "_bucket", None, matchers)
        _check(by, buckets.labels, family.name)
        return Query(f"histogram_quantile({quantile:g}, {buckets.sum(*by, 'le')})", frozenset(by))

    def _over(self, function: str, counted: Collector | Family, window: str | None, matchers: dict[str, str]) -> Query:
        family = self._family(counted, "counter", "histogram")
        return self._ranged(function, family, "_count" if family.type == "histogram" else "", window, matchers)

    def _ranged(
        self, function: str, family: Family, suffix: str, window: str | None, matchers: dict[str, str]
    ) -> Query:
        selector = self._selector(family, suffix, matchers)
        labels = self._labels(family) | ({"le"} if suffix == "_bucket" else set())
        return Query(f"{function}({selector}[{window or self._window}])", labels)

    def _selector(self, family: Family, suffix: str, matchers: dict[str, str]) -> str:
        _check(matchers, self._labels(family), family.name)
        found = ", ".join(_matcher(label, value) for label, value in (matchers | self._target).items())
        return f"{family.name}{suffix}{{{found}}}" if found else f"{family.name}{suffix}"

    def _family(self, metric: Collector | Family, *types: str) -> Family:
        family = metric if isinstance(metric, Family) else self._families[metric]
        if family.type not in types:
            raise ValueError(f"{family.name} is a {family.type}, not a {' or '.join(types)}")
        return family

    def _labels(self, family: Family) -> frozenset[str]:
        return frozenset((*family.labels, *TARGET_LABELS))


def _matcher(label: str, value: str) -> str:
    found = _MATCHER.fullmatch(value)
    if found is None:
        raise ValueError(f"{label}: {value!r} begins with none of = != =~ !~")
    return f"{label}{found[1]}{json.dumps(found[2], ensure_ascii=False)}"


def _check(asked: tuple[str, ...] | Mapping[str, str], labels: frozenset[str], what: str) -> None:
    if unknown := sorted(set(asked) - labels):
        raise ValueError(f"{what} has no label {', '.join(unknown)}")
