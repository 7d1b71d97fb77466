"""The dashboard and the alerts on a real Prometheus that scrapes a real operator."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from llmbatch.observability.metrics import Metrics
from llmbatch.observability.monitoring.alerts import alerts
from support.alert_cases import CASES, write_tests
from support.api_proxy import ApiProxy
from support.cluster import Cluster, poll
from support.emulator import chat_lines
from support.operator_process import OperatorProcess
from support.prometheus import Prometheus, promtool
from support.world import MODEL, World

CHART_FILES = Path(__file__).resolve().parents[2] / "charts" / "llmbatch-operator" / "files"
RULES = CHART_FILES / "rules.yaml"
QUICK = ("--poll-interval", "0.5", "--probe-interval", "1")
LABELS = {"cluster": "east", "namespace": "llmbatch-system", "pod": "llmbatch-operator-0"}
VARIABLES = {
    "$__rate_interval": "5s",
    "$__range": "60s",
    "$cluster": LABELS["cluster"],
    "$namespace": LABELS["namespace"],
    "$pod": LABELS["pod"],
}


@pytest.fixture
def proxy(as_operator: Cluster, tmp_path: Path) -> Iterator[ApiProxy]:
    """A line to the API server that can be cut."""
    with ApiProxy(as_operator, tmp_path) as running:
        yield running


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[[OperatorProcess], Prometheus]]:
    """Starts a Prometheus that scrapes an operator."""
    started: list[Prometheus] = []

    def start(process: OperatorProcess) -> Prometheus:
        started.append(Prometheus.start(tmp_path, urlsplit(process.metrics_url).netloc, LABELS, RULES))
        return started[-1]

    yield start
    for prometheus in started:
        prometheus.stop()


def panels() -> list[dict[str, Any]]:
    """The panels of the chart's dashboard, rows not counted."""
    document = json.loads((CHART_FILES / "dashboard.json").read_text())
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def filled_in(expression: str) -> str:
    """An expression with Grafana's variables replaced."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def work(world: World, account: Any, process: OperatorProcess, prometheus: Prometheus, proxy: ApiProxy) -> None:
    """Let jobs run, one fail and one wait; let a provider refuse a key and fail, the API server be away a while."""
    openai = account("openai", provider="openai", fail_lines=["request-1"])
    world.openai("good", openai, limits={"maxActiveBatches": 100})
    world.openai("wrong", openai, with_secret=False)
    world.secret("key-wrong", api_key="no-such-key")
    cost = f'llmbatch_cost_usd_total{{deployment="{world.namespace}/good"}}'
    assert poll(lambda: bool(prometheus.query(cost)), 30)
    openai.fault("status", "batches.list", status=500)
    world.file(lines=chat_lines(3, model=MODEL))
    world.file("bad", lines="not JSON")
    for name in ("one", "two"):
        world.job(name, output={"configMap": {"name": name}})
    world.job("failed", file="bad")
    world.job("waits", file="none")
    for name in ("one", "two", "failed"):
        world.finished(name)
    proxy.cut()
    assert poll(lambda: process.metric("llmbatch_kubernetes_requests_total", code="error") > 0, 30)
    proxy.mend()
    assert poll(lambda: bool(prometheus.query('llmbatch_jobs_unfinished{reason="InputFileNotFound"}')), 30)
    # Two scrapes more, so that what came last has a rate as well.
    scrapes = prometheus.query('count_over_time(up{job="operator"}[1h])')[0][1][0]
    assert poll(lambda: prometheus.query('count_over_time(up{job="operator"}[1h])')[0][1][0] >= scrapes + 2, 30)


def test_every_expression_of_the_dashboard_and_the_alerts_returns_data(
    world, account, operator, proxy, watch, diagnostics
):
    """No panel stays empty, and no alert asks for what is not there: its thresholds left out, each has a number."""
    process = operator(world.namespace, flags=QUICK, kubeconfig=proxy.kubeconfig)
    began = time.time()
    prometheus = watch(process)
    diagnostics.add("log of Prometheus", prometheus.tail)
    work(world, account, process, prometheus, proxy)
    until = time.time()

    empty = []
    for panel in panels():
        for target in panel["targets"]:
            expression = filled_in(target["expr"])
            found = prometheus.query(expression) if target["instant"] else prometheus.history(expression, began, until)
            if not any(values for _, values in found):
                empty.append((panel["title"], expression))
    for alert in alerts(Metrics()):
        for condition in alert.conditions:
            if not any(values for _, values in prometheus.query(str(condition.value))):
                empty.append((alert.name, str(condition.value)))

    assert empty == []
    numbers = {panel["title"]: panel["targets"][0]["expr"] for panel in panels() if panel["type"] == "stat"}
    shown = {title: prometheus.query(filled_in(expression))[0][1][0] for title, expression in numbers.items()}
    assert {title: shown[title] for title in ("Leaders", "Unfinished jobs", "Deployments not ready")} == {
        "Leaders": 1, "Unfinished jobs": 1, "Deployments not ready": 1,
    }  # fmt: skip
    assert min(shown[title] for title in ("Jobs that ended", "Requests completed", "Cost")) > 0
    assert [(rule["name"], rule["lastError"]) for rule in prometheus.rules() if rule["health"] != "ok"] == []


def test_the_alerts_are_rules_that_prometheus_takes():
    """Prometheus' own tool finds nothing wrong with the file that the chart ships."""
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_each_alert_fires_when_it_should_and_not_when_it_should_not(tmp_path: Path):
    """On made-up series, told by Prometheus' own tool, with the words that a person will read."""
    known = alerts(Metrics())
    names = {alert.name for alert in known}
    write_tests(tmp_path / "tests.yaml", RULES, known, CASES)

    promtool("test", "rules", tmp_path / "tests.yaml")

    assert {case.alert for case in CASES if case.words} == names
    assert {case.alert for case in CASES if not case.words} == names
