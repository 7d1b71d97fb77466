"""Expressions are made of metrics, and cannot be made of what a metric is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmbatch.observability.metrics import CPU_SECONDS, Metrics
from llmbatch.observability.monitoring.promql import Expressions, Query

METRICS = Metrics()
MAKE = Expressions(METRICS, window="5m")


def test_what_is_asked_over_a_time_has_the_name_that_prometheus_sees():
    """Counters end in _total, of a histogram it is the number of observations."""
    assert MAKE.rate(METRICS.cost).text == "rate(llmbatch_cost_usd_total[5m])"
    assert MAKE.increase(METRICS.queue_wait, "1h").text == "increase(llmbatch_queue_wait_seconds_count[1h])"
    assert MAKE.last(METRICS.leader, "6h").text == "last_over_time(llmbatch_leader[6h])"
    assert MAKE.rate(CPU_SECONDS).text == "rate(process_cpu_seconds_total[5m])"


def test_every_selector_matches_the_pods_that_are_asked_about():
    """The target's matchers come after those of the query."""
    make = Expressions(METRICS, window="5m", target={"pod": "=~$pod"})

    assert make.now(METRICS.jobs, phase="=Pending").text == 'llmbatch_jobs{phase="Pending", pod=~"$pod"}'
    assert make.quantile(0.9, METRICS.queue_wait).text == (
        'histogram_quantile(0.9, sum by (le) (rate(llmbatch_queue_wait_seconds_bucket{pod=~"$pod"}[5m])))'
    )


def test_a_value_of_a_matcher_is_quoted():
    """Whatever stands in it, it stays one string."""
    assert MAKE.now(METRICS.jobs, phase='="\\').text == r'llmbatch_jobs{phase="\"\\"}'


@pytest.mark.parametrize(
    ("make", "want"),
    [
        (lambda a, b: a / b, "a / b"),
        (lambda a, b: a / (b * 2), "a / (b * 2)"),
        (lambda a, b: (a / b) * 2, "a / b * 2"),
        (lambda a, b: (1 - a) * 2, "(1 - a) * 2"),
        (lambda a, b: 1 - a * 2, "1 - a * 2"),
        (lambda a, b: a.or_zero() / b, "(a or vector(0)) / b"),
        (lambda a, b: a.otherwise(b * 0).sum(), "sum(a or b * 0)"),
        (lambda a, b: a.otherwise(b.above(1)) * 2, "(a or (b > 1)) * 2"),
        (lambda a, b: (a * 3).above(0), "a * 3 > 0"),
        (lambda a, b: a.where(b, "pod") * 2, "(a and on (pod) b) * 2"),
        (lambda a, b: (1 - a).sum("pod"), "sum by (pod) (1 - a)"),
        (lambda a, b: a.above(1).count(), "count(a > 1)"),
    ],
)
def test_what_is_made_of_parts_is_read_as_it_was_made(make: Callable[[Query, Query], Query], want: str):
    """Parentheses are where PromQL would bind otherwise."""
    labels = frozenset({"pod"})

    assert make(Query("a", labels), Query("b", labels)).text == want


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MAKE.now(METRICS.jobs, model="=gpt"), "llmbatch_jobs has no label model"),
        (lambda: MAKE.now(METRICS.jobs).sum("model"), "llmbatch_jobs has no label model"),
        (lambda: MAKE.now(METRICS.jobs).sum("phase").sum("pod"), "has no label pod"),
        (lambda: MAKE.now(METRICS.jobs).where(MAKE.now(METRICS.leader), "phase"), "has no label phase"),
        (lambda: MAKE.quantile(0.5, METRICS.queue_wait, "kind"), "llmbatch_queue_wait_seconds has no label kind"),
        (lambda: MAKE.now(METRICS.cost), "llmbatch_cost_usd_total is a counter, not a gauge"),
        (lambda: MAKE.rate(METRICS.jobs), "llmbatch_jobs is a gauge, not a counter or histogram"),
        (lambda: MAKE.now(METRICS.jobs, phase="Pending"), "begins with none of"),
    ],
)
def test_what_a_metric_is_not_or_has_not_is_refused(make: Callable[[], Query], words: str):
    """A mistake is found when the expression is made, not by an empty panel."""
    with pytest.raises(ValueError, match=words):
        make()
