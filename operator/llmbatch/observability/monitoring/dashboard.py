"""The Grafana dashboard: which panels show which metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence

from prometheus_client import Histogram

from llmbatch.api.batchjob import Phase
from llmbatch.observability.metrics import CPU_SECONDS, RESIDENT_MEMORY, Metrics
from llmbatch.observability.monitoring.alerts import INSTALLATION, POD, SET_ASIDE, none_of
from llmbatch.observability.monitoring.panels import (
    Line,
    Panel,
    Row,
    bars,
    dashboard,
    datasource_variable,
    graph,
    label_variable,
    stat,
)
from llmbatch.observability.monitoring.promql import Expressions

TARGET = {"cluster": "=~$cluster", "namespace": "=~$namespace", "pod": "=~$pod"}
PLACE = ("cluster", "namespace")
WINDOW, RANGE = "$__rate_interval", "$__range"
IN_RANGE = "In the range shown."
HOUR = 3600
QUANTILES = (0.5, 0.95)
UNFINISHED = "!~" + "|".join(phase.value for phase in Phase if phase.finished)


def document(metrics: Metrics) -> str:
    """The dashboard as JSON."""
    leader = metrics.families[metrics.leader].name
    variables = [
        datasource_variable("datasource", "Prometheus"),
        label_variable("cluster", "Cluster", f"label_values({leader}, cluster)"),
        label_variable("namespace", "Namespace", f'label_values({leader}{{cluster=~"$cluster"}}, namespace)'),
        label_variable("pod", "Pod", f'label_values({leader}{{cluster=~"$cluster", namespace=~"$namespace"}}, pod)'),
    ]
    made = dashboard("LLM batches", "llmbatch-operator", variables, rows(metrics))
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def rows(metrics: Metrics) -> Sequence[Row]:
    """All panels, row by row. What every replica tells of the same resources counts once: the largest."""
    make = Expressions(metrics, window=WINDOW, target=TARGET)
    return (
        Row("Overview", _overview(metrics, make)),
        Row("Jobs and files", _jobs(metrics, make)),
        Row("Tokens and cost", _cost(metrics, make)),
        Row("Deployments", _deployments(metrics, make)),
        Row("Providers", _providers(metrics, make)),
        Row("Queue", _queue(metrics, make)),
        Row("API server", _api(metrics, make)),
        Row("Process", _process(metrics, make)),
    )


def _overview(metrics: Metrics, make: Expressions) -> list[Panel]:
    unfinished = make.now(metrics.jobs, phase=UNFINISHED).max(*PLACE, "phase").sum()
    unready = (1 - make.now(metrics.deployment_ready, reason=none_of(SET_ASIDE)).max(*PLACE, "deployment")).sum()
    completed = make.increase(metrics.requests, RANGE, result="=completed").sum()
    return [
        stat(
            "Leaders",
            make.now(metrics.leader).sum(*INSTALLATION),
            legend="{{cluster}} {{namespace}}",
            description="Of each installation: one.",
            colours={None: "red", 1: "green", 2: "red"},
        ),
        stat("Unfinished jobs", unfinished),
        stat(
            "Deployments not ready",
            unready.or_zero(),
            description="But for those that are suspended or being deleted.",
            colours={None: "green", 1: "red"},
        ),
        stat("Jobs that ended", make.increase(metrics.jobs_finished, RANGE).sum(), description=IN_RANGE),
        stat("Requests completed", completed, description=IN_RANGE),
        stat("Cost", make.increase(metrics.cost, RANGE).sum(), unit="currencyUSD", description=IN_RANGE),
    ]


def _jobs(metrics: Metrics, make: Expressions) -> list[Panel]:
    phases = make.now(metrics.jobs).max(*PLACE, "phase").sum("phase")
    reasons = make.now(metrics.jobs_unfinished).max(*PLACE, "reason").sum("reason")
    ended = (make.rate(metrics.jobs_finished).sum("result") * HOUR).above(0)
    requests = make.rate(metrics.requests).sum("model", "result")
    files = make.now(metrics.files).max(*PLACE, "state").sum("state")
    return [
        graph("Jobs by phase", [Line(phases, "{{phase}}")], stacked=True),
        graph(
            "Unfinished jobs by reason",
            [Line(reasons, "{{reason}}")],
            stacked=True,
            description="Why they go on or wait: the reason of the condition Reconciling.",
        ),
        graph("Jobs that ended, by result", [Line(ended, "{{result}}")], description="An hour."),
        graph(
            "Longest in a phase",
            [Line(make.now(metrics.oldest_job).max("phase"), "{{phase}}")],
            unit="s",
            description="For how long the job that has been longest in a phase has been in it.",
        ),
        graph("Time from creation to end", _quantiles(make, metrics.job_seconds, "model"), unit="s"),
        graph(
            "Requests by result",
            [Line(requests, "{{model}} {{result}}")],
            unit="reqps",
            description="Counted when their job ends: a whole batch at once.",
        ),
        graph("Files by state", [Line(files, "{{state}}")], stacked=True),
    ]


def _cost(metrics: Metrics, make: Expressions) -> list[Panel]:
    when = "An hour; counted when results are collected, a whole batch at once."
    by_model, by_deployment = (make.rate(metrics.cost).sum(label) * HOUR for label in ("model", "deployment"))
    in_range = make.increase(metrics.cost, RANGE).sum("model", "deployment")
    types = make.rate(metrics.tokens).sum("type")
    models = make.rate(metrics.tokens, type="=~input|output").sum("model", "type")
    return [
        graph("Cost by model", [Line(by_model, "{{model}}")], unit="currencyUSD", description=when),
        graph("Cost by deployment", [Line(by_deployment, "{{deployment}}")], unit="currencyUSD", description=when),
        bars(
            "Cost in all",
            [Line(in_range, "{{model}} on {{deployment}}")],
            unit="currencyUSD",
            description=IN_RANGE,
        ),
        graph(
            "Tokens by type",
            [Line(types, "{{type}}")],
            description="A second. Cached ones are part of the input, those of reasoning part of the output.",
        ),
        graph("Tokens by model", [Line(models, "{{model}} {{type}}")], description="A second."),
    ]


def _deployments(metrics: Metrics, make: Expressions) -> list[Panel]:
    by = ("deployment", "model")
    ready = make.now(metrics.deployment_ready).max(*by, "reason")
    return [
        graph("Ready", [Line(ready, "{{deployment}} {{reason}}")], description="1, or 0 for the reason named."),
        graph("Unfinished batches", [Line(make.now(metrics.active_batches).max(*by), "{{deployment}}")]),
        graph(
            "Enqueued input tokens",
            [Line(make.now(metrics.enqueued_tokens).max(*by), "{{deployment}}")],
            description="Estimated, of unfinished batches.",
        ),
    ]


def _providers(metrics: Metrics, make: Expressions) -> list[Panel]:
    calls = make.rate(metrics.provider_requests).sum("provider", "operation")
    failed = make.rate(metrics.provider_requests, code="!~2..").sum("provider", "operation", "code")
    return [
        graph("Calls", [Line(calls, "{{provider}} {{operation}}")], unit="reqps"),
        graph(
            "Calls without success",
            [Line(failed, "{{provider}} {{operation}} {{code}}")],
            unit="reqps",
            description="By HTTP status, or by the kind of error where there was no answer.",
        ),
        graph("Duration of calls", _quantiles(make, metrics.provider_seconds, "provider"), unit="s"),
        graph(
            "Duration of calls, by operation",
            [
                Line(
                    make.quantile(0.95, metrics.provider_seconds, "provider", "operation"), "{{provider}} {{operation}}"
                )
            ],
            unit="s",
            description="The 95th percentile.",
        ),
        graph("Input sent", [Line(make.rate(metrics.uploaded).sum("provider"), "{{provider}}")], unit="Bps"),
    ]


def _queue(metrics: Metrics, make: Expressions) -> list[Panel]:
    errors = make.rate(metrics.reconcile_errors).sum("kind")
    return [
        graph("Resources that wait for a worker", [Line(make.now(metrics.queue_depth).max("pod"), "{{pod}}")]),
        graph("Wait of the next one", [Line(make.now(metrics.queue_oldest).max("pod"), "{{pod}}")], unit="s"),
        graph("Wait for a worker", _quantiles(make, metrics.queue_wait), unit="s"),
        graph("Reconciles", [Line(make.rate(metrics.reconcile_seconds).sum("kind"), "{{kind}}")], unit="ops"),
        graph("Duration of reconciles", _quantiles(make, metrics.reconcile_seconds, "kind"), unit="s"),
        graph("Reconciles that failed", [Line(errors, "{{kind}}")], unit="ops", description="They are repeated."),
    ]


def _api(metrics: Metrics, make: Expressions) -> list[Panel]:
    calls = make.rate(metrics.kubernetes_requests)
    failed = make.rate(metrics.kubernetes_requests, code="!~2..").sum("verb", "resource", "code")
    return [
        graph("Calls by resource", [Line(calls.sum("verb", "resource"), "{{verb}} {{resource}}")], unit="reqps"),
        graph(
            "Calls without success",
            [Line(failed, "{{verb}} {{resource}} {{code}}")],
            unit="reqps",
            description="What is not found (404) and conflicts (409) are part of normal work.",
        ),
        graph("Duration of calls", _quantiles(make, metrics.kubernetes_seconds, "verb"), unit="s"),
    ]


def _process(metrics: Metrics, make: Expressions) -> list[Panel]:
    leader = make.now(metrics.leader)
    # Every process in the cluster tells these two: they are of ours where there is a metric of ours.
    memory = make.now(RESIDENT_MEMORY).where(leader, *POD).max("pod")
    cores = make.rate(CPU_SECONDS).where(leader, *POD).sum("pod")
    return [
        graph("Leader", [Line(leader.max("pod"), "{{pod}}")]),
        graph("Memory", [Line(memory, "{{pod}}")], unit="bytes"),
        graph("CPU", [Line(cores, "{{pod}}")], description="Cores."),
        graph(
            "Lag of the event loop",
            [Line(make.quantile(0.99, metrics.loop_lag, "pod"), "{{pod}}")],
            unit="s",
            description="The 99th percentile.",
        ),
        graph("Version", [Line(make.now(metrics.build_info).count("version"), "{{version}}")], description="Replicas."),
    ]


def _quantiles(make: Expressions, histogram: Histogram, *by: str) -> list[Line]:
    names = " ".join(f"{{{{{label}}}}}" for label in by)
    return [Line(make.quantile(one, histogram, *by), f"{names} p{one * 100:g}".strip()) for one in QUANTILES]
