"""The alerts, made of the metrics. Each has its entry in docs/monitoring.md, which says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import yaml

from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import BadAnswer, NoAnswer, NotSent
from llmbatch.observability.metrics import Metrics
from llmbatch.observability.monitoring.promql import Expressions, Query

GROUP = "llmbatch-operator"
ANYWHERE = {"namespace": "=~.*"}
"""In every selector: the chart puts the release's namespace into its place, so that each release tells of itself."""
INSTALLATION = ("cluster", "namespace", "job")
POD = ("cluster", "namespace", "pod")
COST_PER_HOUR = 100
"""USD. It ends the expression: the chart puts metrics.prometheusRule.costPerHour into its place."""
HOUR = 3600
MEMORY = "6h"
"""For how long an installation that is gone is missed by name; after that only if there is none at all."""

PROVIDER_FAULTS = "=~" + "|".join(["5..", *(kind.__name__ for kind in (NoAnswer, NotSent, BadAnswer))])
"""Codes that are the provider's fault.

A 400, 401 or 403 is that of one tenant's request or key, a 429 is waited for, a 404 often a lag.
"""
API_FAULTS = "=~401|403|429|5..|error"
"""Codes that are not part of normal work with the API server, as conflicts and what is not found are."""
SERVICE_ENDS = (
    Reason.BATCH_FAILED,
    Reason.BACKOFF_LIMIT_EXCEEDED,
    Reason.BATCH_NOT_FOUND,
    Reason.RESULTS_LOST,
    Reason.RESULTS_INCOMPLETE,
    Reason.OUTPUT_FAILED,
    Reason.UNAUTHORIZED,
)
"""Ends that no tenant brought about."""
SLOW_PHASES = (Phase.PENDING, Phase.VALIDATING, Phase.IN_PROGRESS)
"""Those that last as long as the queue at the provider is; completion windows are of 24 h."""
SET_ASIDE = (Reason.SUSPENDED, Reason.DELETION_WAITS)
"""Why a deployment is not Ready though nothing is amiss."""
BRISK_PHASES = (Phase.SUBMITTING, Phase.FINALIZING, Phase.COLLECTING, Phase.CANCELLING)


@dataclass(frozen=True, slots=True)
class Condition:
    """A value, and what makes it worth an alert."""

    value: Query
    comparison: Literal["<", ">", "=="]
    threshold: float

    def __str__(self) -> str:
        return f"{self.value.within(1)} {self.comparison} {self.threshold:.10g}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: it fires when any of its conditions has held for ``lasting``."""

    name: str
    conditions: Sequence[Condition]
    lasting: str
    severity: Literal["critical", "warning"]
    summary: str
    description: str

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": " or ".join(map(str, self.conditions)),
            "for": self.lasting,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.description},
        }


def alerts(metrics: Metrics) -> list[Alert]:
    """All alerts."""
    make = Expressions(metrics, window="10m", target=ANYWHERE)
    return [*_leadership(metrics, make), *_work(metrics, make), *_providers(metrics, make), *_jobs(metrics, make)]


def rules(metrics: Metrics) -> str:
    """All alerts as the YAML of a rules file, which is that of a PrometheusRule's spec too."""
    groups = {"groups": [{"name": GROUP, "rules": [alert.rule() for alert in alerts(metrics)]}]}
    return yaml.safe_dump(groups, sort_keys=False, width=1000, allow_unicode=True)


def _leadership(metrics: Metrics, make: Expressions) -> list[Alert]:
    leaders = make.now(metrics.leader)
    by_installation = leaders.sum(*INSTALLATION)
    known, place = make.last(metrics.leader, MEMORY), ("cluster", "namespace")
    return [
        Alert(
            "LLMBatchOperatorAbsent",
            [
                Condition(known.count().or_zero(), "==", 0),
                Condition(leaders.count(*place).otherwise(known.count(*place) * 0), "==", 0),
            ],
            "5m",
            "critical",
            "No operator is scraped.",
            "Prometheus has no metrics of the llmbatch-operator: none runs, or none is scraped.",
        ),
        Alert(
            "LLMBatchNoLeader",
            [Condition(by_installation, "<", 1)],
            "2m",
            "critical",
            "No replica of the operator leads.",
            "No replica of the operator in {{ $labels.namespace }} holds the Lease, so nothing is submitted, followed"
            " or collected.",
        ),
        Alert(
            "LLMBatchTwoLeaders",
            [Condition(by_installation, ">", 1)],
            "5m",
            "critical",
            "Several replicas of the operator lead.",
            "{{ $value }} replicas of the operator in {{ $labels.namespace }} take themselves for the leader.",
        ),
    ]


def _work(metrics: Metrics, make: Expressions) -> list[Alert]:
    by_kind = (*INSTALLATION, "kind")
    failed, runs = make.rate(metrics.reconcile_errors).sum(*by_kind), make.rate(metrics.reconcile_seconds).sum(*by_kind)
    refused = make.rate(metrics.kubernetes_requests, code=API_FAULTS).sum(*POD)
    return [
        Alert(
            "LLMBatchQueueStuck",
            [Condition(make.now(metrics.queue_oldest).max(*POD), ">", 300)],
            "5m",
            "critical",
            "The operator's queue does not move.",
            "In {{ $labels.pod }} the next resource has waited for a worker for {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "LLMBatchReconcileErrors",
            [Condition(failed / runs, ">", 0.1)],
            "15m",
            "warning",
            "Reconciles fail.",
            "{{ $value | humanizePercentage }} of the reconciles of {{ $labels.kind }} fail and are repeated.",
        ),
        Alert(
            "LLMBatchAPIErrors",
            [Condition(refused / make.rate(metrics.kubernetes_requests).sum(*POD), ">", 0.05)],
            "10m",
            "warning",
            "The API server refuses or does not answer.",
            "{{ $value | humanizePercentage }} of the calls of {{ $labels.pod }} to the API server fail.",
        ),
        Alert(
            "LLMBatchLoopLate",
            [Condition(make.quantile(0.99, metrics.loop_lag, *POD), ">", 1)],
            "15m",
            "warning",
            "The operator's event loop is late.",
            "The event loop of {{ $labels.pod }} is {{ $value | humanizeDuration }} late; at 10 s the Lease is lost.",
        ),
    ]


def _providers(metrics: Metrics, make: Expressions) -> list[Alert]:
    by = (*INSTALLATION, "provider")
    failed = make.rate(metrics.provider_requests, code=PROVIDER_FAULTS).sum(*by)
    ready = make.now(metrics.deployment_ready, reason=none_of(SET_ASIDE))
    return [
        Alert(
            "LLMBatchProviderFailing",
            [Condition(failed / make.rate(metrics.provider_requests).sum(*by), ">", 0.2)],
            "10m",
            "warning",
            "Calls to a provider fail.",
            "{{ $value | humanizePercentage }} of the calls to {{ $labels.provider }} fail or are not answered.",
        ),
        Alert(
            "LLMBatchDeploymentNotReady",
            [Condition(ready.max("cluster", "namespace", "deployment", "model"), "==", 0)],
            "15m",
            "warning",
            "A ModelDeployment is not Ready.",
            "ModelDeployment {{ $labels.deployment }} of {{ $labels.model }} takes no work.",
        ),
    ]


def _jobs(metrics: Metrics, make: Expressions) -> list[Alert]:
    by_model, by_phase = (*INSTALLATION, "model"), ("cluster", "namespace", "phase")
    lost = make.rate(metrics.jobs_finished, "1h", result=_any_of(SERVICE_ENDS)).sum(*by_model)
    slow = make.now(metrics.oldest_job, phase=_any_of(SLOW_PHASES)).max(*by_phase)
    brisk = make.now(metrics.oldest_job, phase=_any_of(BRISK_PHASES)).max(*by_phase)
    return [
        Alert(
            "LLMBatchJobStalled",
            [Condition(slow, ">", 26 * HOUR), Condition(brisk, ">", 2 * HOUR)],
            "10m",
            "warning",
            "A BatchJob does not get on.",
            "A BatchJob has been {{ $labels.phase }} for {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "LLMBatchJobsFailing",
            [Condition(lost / make.rate(metrics.jobs_finished, "1h").sum(*by_model), ">", 0.25)],
            "15m",
            "warning",
            "Jobs fail through no fault of their own.",
            "{{ $value | humanizePercentage }} of the jobs of {{ $labels.model }} that ended within an hour failed at"
            " the provider or for want of their results.",
        ),
        Alert(
            "LLMBatchCostRate",
            [Condition(make.rate(metrics.cost, "1h").sum(*INSTALLATION) * HOUR, ">", COST_PER_HOUR)],
            "5m",
            "warning",
            "Jobs cost much.",
            "Results that were collected within an hour cost {{ $value | humanize }} USD.",
        ),
        Alert(
            "LLMBatchCleanupAbandoned",
            [Condition(make.increase(metrics.cleanups_abandoned, "1h").sum(*INSTALLATION), ">", 0)],
            "0m",
            "warning",
            "Something was left behind at a provider.",
            "The operator in {{ $labels.namespace }} gave up a clean-up: files or batches are left at a provider.",
        ),
    ]


def _any_of(values: Sequence[StrEnum]) -> str:
    return "=~" + "|".join(value.value for value in values)


def none_of(values: Sequence[StrEnum]) -> str:
    """A matcher of all other values."""
    return "!~" + "|".join(value.value for value in values)
