"""Made-up series for which each alert fires, and some for which it does not, in the words of promtool.

`0+10x40` begins at 0 and grows by 10 each minute, 40 times (Prometheus: unit testing for rules).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from llmbatch.observability.monitoring.alerts import Alert

OPERATOR = {"namespace": "llm", "job": "operator"}
POD = {"namespace": "llm", "pod": "operator-0"}
FIRST, SECOND = (
    'namespace="llm", job="operator", pod="operator-0"',
    'namespace="llm", job="operator", pod="operator-1"',
)


@dataclass(frozen=True)
class AlertCase:
    """What an alert does after so many minutes: fires with these labels and these words, or (no words) not at all."""

    alert: str
    minute: int
    series: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    words: str = ""

    def test(self, alerts: Mapping[str, Alert]) -> dict[str, Any]:
        """As promtool reads it."""
        rule = alerts[self.alert].rule()
        told = {
            "exp_labels": {**rule["labels"], **self.labels},
            "exp_annotations": {**rule["annotations"], "description": self.words},
        }
        return {
            "name": f"{self.alert}: {self.words or 'silent'}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in self.series.items()],
            "alert_rule_test": [
                {
                    "alertname": self.alert,
                    "eval_time": f"{self.minute}m",
                    "exp_alerts": [told] if self.words else [],
                }
            ],
        }


def write_tests(path: Path, rules: Path, alerts: Sequence[Alert], cases: Sequence[AlertCase]) -> None:
    """Write all cases as a file for `promtool test rules`."""
    by_name = {alert.name: alert for alert in alerts}
    tests = [case.test(by_name) for case in cases]
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))


def _leaders(first: int, second: int) -> dict[str, str]:
    return {f"llmbatch_leader{{{FIRST}}}": f"{first}x20", f"llmbatch_leader{{{SECOND}}}": f"{second}x20"}


def _in_clusters(**values: str) -> dict[str, str]:
    """An operator of the same names in several clusters."""
    return {f'llmbatch_leader{{{FIRST}, cluster="{cluster}"}}': value for cluster, value in values.items()}


def _reconciles(runs: int, errors: int) -> dict[str, str]:
    return {
        f'llmbatch_reconcile_seconds_count{{{FIRST}, kind="BatchJob"}}': f"0+{runs}x40",
        f'llmbatch_reconcile_errors_total{{{FIRST}, kind="BatchJob"}}': f"0+{errors}x40",
    }


def _calls(metric: str, label: str, **codes: int) -> dict[str, str]:
    return {
        f'{metric}{{{FIRST}, {label}, code="{code.removeprefix("_")}"}}': f"0+{each}x40" for code, each in codes.items()
    }


def _to_api(**codes: int) -> dict[str, str]:
    return _calls("llmbatch_kubernetes_requests_total", 'verb="get", resource="batchjobs"', **codes)


def _to_provider(**codes: int) -> dict[str, str]:
    return _calls("llmbatch_provider_requests_total", 'provider="openAI", operation="batches.list"', **codes)


def _lags(within_a_second: int, within_five: int) -> dict[str, str]:
    buckets = {"1": within_a_second, "5": within_five, "+Inf": within_five}
    return {f'llmbatch_loop_lag_seconds_bucket{{{FIRST}, le="{le}"}}': f"0+{n}x40" for le, n in buckets.items()}


def _ready(reason: str, first: int, second: int) -> dict[str, str]:
    """What two replicas tell of the same deployment."""
    told = f'deployment="team/east", model="gpt", reason="{reason}"'
    return {
        f"llmbatch_deployment_ready{{{FIRST}, {told}}}": f"{first}x30",
        f"llmbatch_deployment_ready{{{SECOND}, {told}}}": f"{second}x30",
    }


def _oldest(**phases: str) -> dict[str, str]:
    return {f'llmbatch_oldest_job_seconds{{{FIRST}, phase="{phase}"}}': values for phase, values in phases.items()}


def _ended(**results: int) -> dict[str, str]:
    return {
        f'llmbatch_jobs_finished_total{{{FIRST}, model="gpt", result="{result}"}}': f"0+{each}x100"
        for result, each in results.items()
    }


def _cost(per_minute: int) -> dict[str, str]:
    return {f'llmbatch_cost_usd_total{{{FIRST}, model="gpt", deployment="team/east"}}': f"0+{per_minute}x100"}


ABSENT = "Prometheus has no metrics of the llmbatch-operator: none runs, or none is scraped."

_LEADERSHIP = (
    AlertCase(
        "LLMBatchOperatorAbsent",
        6,
        {},
        words=ABSENT,
    ),
    AlertCase("LLMBatchOperatorAbsent", 6, _leaders(0, 0)),
    AlertCase(
        "LLMBatchOperatorAbsent",
        12,
        _in_clusters(east="1x20", west="1x5 stale"),
        {"cluster": "west", "namespace": "llm"},
        ABSENT,
    ),
    AlertCase("LLMBatchOperatorAbsent", 12, _in_clusters(east="1x20", west="0x20")),
    AlertCase(
        "LLMBatchNoLeader",
        3,
        _leaders(0, 0),
        OPERATOR,
        "No replica of the operator in llm holds the Lease, so nothing is submitted, followed or collected.",
    ),
    AlertCase(
        "LLMBatchNoLeader",
        3,
        _in_clusters(east="1x20", west="0x20"),
        {**OPERATOR, "cluster": "west"},
        "No replica of the operator in llm holds the Lease, so nothing is submitted, followed or collected.",
    ),
    AlertCase("LLMBatchNoLeader", 1, _leaders(0, 0)),
    AlertCase("LLMBatchNoLeader", 3, _leaders(0, 1)),
    AlertCase(
        "LLMBatchTwoLeaders",
        6,
        _leaders(1, 1),
        OPERATOR,
        "2 replicas of the operator in llm take themselves for the leader.",
    ),
    AlertCase("LLMBatchTwoLeaders", 6, _leaders(1, 0)),
    AlertCase("LLMBatchTwoLeaders", 6, _in_clusters(east="1x20", west="1x20")),
)

_WORK = (
    AlertCase(
        "LLMBatchQueueStuck",
        15,
        {f"llmbatch_queue_oldest_seconds{{{FIRST}}}": "0+60x20"},
        POD,
        "In operator-0 the next resource has waited for a worker for 15m 0s.",
    ),
    AlertCase("LLMBatchQueueStuck", 15, {f"llmbatch_queue_oldest_seconds{{{FIRST}}}": "200x20"}),
    AlertCase(
        "LLMBatchReconcileErrors",
        30,
        _reconciles(runs=10, errors=2),
        {**OPERATOR, "kind": "BatchJob"},
        "20% of the reconciles of BatchJob fail and are repeated.",
    ),
    AlertCase("LLMBatchReconcileErrors", 30, _reconciles(runs=20, errors=1)),
    AlertCase(
        "LLMBatchAPIErrors", 25, _to_api(_200=9, _503=1), POD, "10% of the calls of operator-0 to the API server fail."
    ),
    AlertCase(
        "LLMBatchAPIErrors",
        25,
        _to_api(_200=8, _403=1, error=1),
        POD,
        "20% of the calls of operator-0 to the API server fail.",
    ),
    AlertCase("LLMBatchAPIErrors", 25, _to_api(_200=5, _409=5, _404=5)),
    AlertCase(
        "LLMBatchLoopLate",
        30,
        _lags(0, 100),
        POD,
        "The event loop of operator-0 is 4.96s late; at 10 s the Lease is lost.",
    ),
    AlertCase("LLMBatchLoopLate", 30, _lags(100, 100)),
)

_PROVIDERS = (
    AlertCase(
        "LLMBatchProviderFailing",
        25,
        _to_provider(_200=6, _500=2, _401=1, NoAnswer=1),
        {**OPERATOR, "provider": "openAI"},
        "30% of the calls to openAI fail or are not answered.",
    ),
    AlertCase("LLMBatchProviderFailing", 25, _to_provider(_200=1, _429=5, _404=2, _400=2)),
    AlertCase("LLMBatchProviderFailing", 25, _to_provider(_200=1, _401=5, _403=5)),
    AlertCase(
        "LLMBatchDeploymentNotReady",
        20,
        _ready("Unauthorized", 0, 0),
        {"namespace": "llm", "deployment": "team/east", "model": "gpt"},
        "ModelDeployment team/east of gpt takes no work.",
    ),
    AlertCase("LLMBatchDeploymentNotReady", 20, _ready("Ready", 1, 0)),
    AlertCase("LLMBatchDeploymentNotReady", 20, _ready("Suspended", 0, 0)),
    AlertCase("LLMBatchDeploymentNotReady", 20, _ready("DeletionWaits", 0, 0)),
)

_JOBS = (
    AlertCase(
        "LLMBatchJobStalled",
        80,
        _oldest(InProgress="90000+60x200"),
        {"namespace": "llm", "phase": "InProgress"},
        "A BatchJob has been InProgress for 1d 2h 20m 0s.",
    ),
    AlertCase(
        "LLMBatchJobStalled",
        15,
        _oldest(Collecting="7300x30"),
        {"namespace": "llm", "phase": "Collecting"},
        "A BatchJob has been Collecting for 2h 1m 40s.",
    ),
    AlertCase("LLMBatchJobStalled", 15, _oldest(InProgress="90000x30", Collecting="600x30", Suspended="900000x30")),
    AlertCase(
        "LLMBatchJobsFailing",
        80,
        _ended(Completed=1, BatchFailed=1),
        {**OPERATOR, "model": "gpt"},
        "50% of the jobs of gpt that ended within an hour failed at the provider or for want of their results.",
    ),
    AlertCase("LLMBatchJobsFailing", 80, _ended(Completed=1, InputFileInvalid=5, Cancelled=5)),
    AlertCase("LLMBatchCostRate", 80, _cost(10), OPERATOR, "Results that were collected within an hour cost 600 USD."),
    AlertCase("LLMBatchCostRate", 80, _cost(1)),
    AlertCase(
        "LLMBatchCleanupAbandoned",
        40,
        {f"llmbatch_cleanups_abandoned_total{{{FIRST}}}": "0x30 1x30"},
        OPERATOR,
        "The operator in llm gave up a clean-up: files or batches are left at a provider.",
    ),
    AlertCase("LLMBatchCleanupAbandoned", 40, {f"llmbatch_cleanups_abandoned_total{{{FIRST}}}": "3x60"}),
)

CASES = (*_LEADERSHIP, *_WORK, *_PROVIDERS, *_JOBS)
