"""What the operator counts and measures. No label has values that grow with the number of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

WAITS = (0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300)
RUNS = (0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 60, 600)
CALLS = (0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)
KNOWN_STATUSES = frozenset(HTTPStatus)
LAGS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Reconciled(Protocol):
    """What a run was about."""

    @property
    def kind(self) -> str: ...


class Metrics:
    """All metrics, in a registry of their own. Times are in seconds."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._jobs()
        self._providers()
        self._process()

    def _jobs(self) -> None:
        into = self.registry
        self.jobs = Gauge("llmbatch_jobs", "BatchJobs by phase.", ["phase"], registry=into)
        self.jobs_finished = Counter(
            "llmbatch_jobs_finished", "BatchJobs that ended, by model and result.", ["model", "result"], registry=into
        )
        self.tokens = Counter(
            "llmbatch_tokens", "Tokens of collected results.", ["model", "deployment", "type"], registry=into
        )
        self.cost = Counter(
            "llmbatch_cost_usd", "Cost of collected results in USD.", ["model", "deployment"], registry=into
        )
        self.cleanups_abandoned = Counter(
            "llmbatch_cleanups_abandoned", "Deletions that left something at a provider.", registry=into
        )

    def _providers(self) -> None:
        into = self.registry
        self.provider_requests = Counter(
            "llmbatch_provider_requests", "Calls to providers.", ["provider", "operation", "code"], registry=into
        )
        self.provider_seconds = Histogram(
            "llmbatch_provider_request_seconds", "Duration of calls to providers.", ["provider", "operation"],
            buckets=CALLS, registry=into,
        )  # fmt: skip
        self.uploaded = Counter(
            "llmbatch_uploaded_bytes", "Bytes of input sent to providers.", ["provider"], registry=into
        )

    def _process(self) -> None:
        into = self.registry
        self.queue_depth = Gauge("llmbatch_queue_depth", "Resources that wait for a worker.", registry=into)
        self.queue_wait = Histogram(
            "llmbatch_queue_wait_seconds", "How long a resource waited for a worker.", buckets=WAITS, registry=into
        )
        self.reconcile_seconds = Histogram(
            "llmbatch_reconcile_seconds", "Duration of reconciles.", ["kind"], buckets=RUNS, registry=into
        )
        self.reconcile_errors = Counter(
            "llmbatch_reconcile_errors", "Reconciles that failed and are repeated.", ["kind"], registry=into
        )
        self.leader = Gauge("llmbatch_leader", "1 while this process is the leader.", registry=into)
        self.kubernetes_requests = Counter(
            "llmbatch_kubernetes_requests", "Calls to the API server.", ["verb", "resource", "code"], registry=into
        )
        self.loop_lag = Histogram(
            "llmbatch_loop_lag_seconds", "How late the event loop was, twice a second.", buckets=LAGS, registry=into
        )

    # Each of these fits one observer of the parts that they measure.

    def show_jobs(self, phases: Iterable[str], count: Callable[[str], float]) -> None:
        """Read the jobs in each phase whenever metrics are scraped."""
        for phase in phases:
            self.jobs.labels(phase).set_function(partial(count, phase))

    def finished(self, model: str, result: str) -> None:
        """A job has ended."""
        self.jobs_finished.labels(model, result).inc()

    def collected(self, model: str, deployment: str, tokens: Mapping[str, int], cost: Decimal | None) -> None:
        """Results were collected: tokens by type (input, cached, output, reasoning); no cost where it is unknown."""
        for type_, count in tokens.items():
            self.tokens.labels(model, deployment, type_).inc(count)
        if cost is not None:
            self.cost.labels(model, deployment).inc(float(cost))

    def provider_request(self, provider: str, operation: str, code: str, seconds: float) -> None:
        """A provider was called; ``code`` is the HTTP status, or ``error`` where there was no answer."""
        self.provider_requests.labels(provider, operation, _known(code)).inc()
        self.provider_seconds.labels(provider, operation).observe(seconds)

    def uploaded_bytes(self, provider: str, count: int) -> None:
        """Input was sent."""
        self.uploaded.labels(provider).inc(count)

    def kubernetes_request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """The API server was called."""
        self.kubernetes_requests.labels(verb, resource, code).inc()

    def reconciled(self, key: Reconciled, seconds: float, error: BaseException | None) -> None:
        """A worker has reconciled a resource."""
        self.reconcile_seconds.labels(key.kind).observe(seconds)
        if error is not None:
            self.reconcile_errors.labels(key.kind).inc()

    def waited(self, seconds: float) -> None:
        """A resource was taken from the queue."""
        self.queue_wait.observe(seconds)

    def lagged(self, seconds: float) -> None:
        """The event loop was that late."""
        self.loop_lag.observe(seconds)

    def abandoned(self) -> None:
        """A clean-up was given up."""
        self.cleanups_abandoned.inc()


def _known(code: str) -> str:
    """An HTTP status by its number where it is a registered one, else by its class: a server can make up hundreds."""
    if code.isdecimal() and int(code) not in KNOWN_STATUSES:
        return f"{code[0]}xx"
    return code
