"""What the operator counts and measures. No label has values that grow with the number of jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from llmbatch import __version__
from llmbatch.observability.families import Collected, Family, ReadGauge
from llmbatch.observability.lifetimes import Lifetimes

WAITS = (0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300)
RUNS = (0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 60, 600)
CALLS = (0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600)
API_CALLS = (0.005, 0.025, 0.1, 0.25, 1, 5, 30)
JOBS = (60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 57_600, 86_400, 172_800)
LAGS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
KNOWN_STATUSES = frozenset(HTTPStatus)
TOKEN_TYPES = ("input", "cached", "output", "reasoning")
ANSWERS = ("completed", "failed")

RESIDENT_MEMORY = Family("process_resident_memory_bytes", "gauge", (), "Memory in use.")
CPU_SECONDS = Family("process_cpu_seconds_total", "counter", (), "User and system time used.")
"""Two that the client library's ProcessCollector gives."""


class Reconciled(Protocol):
    """What a run was about."""

    @property
    def kind(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Serving:
    """What jobs can end on now: models with the results that jobs have, and the routes (model, deployment)."""

    models: frozenset[str] = frozenset()
    routes: frozenset[tuple[str, str]] = frozenset()
    results: Sequence[str] = ()
    at: float = 0.0
    """In seconds that never go back."""


class Metrics:
    """All metrics, in a registry of their own; ``families`` describes each. Times are in seconds.

    Series whose labels are known beforehand begin at zero: ``rate`` and ``increase`` see nothing of a series' first
    value, and a batch's whole cost comes at once. Those of models and deployments that went end an hour later.
    """

    def __init__(self) -> None:
        # They would double the text, and Prometheus makes no use of them. The library knows this setting only as one
        # of the whole process.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.serving = Serving()
        self._models = Lifetimes[str](self._begin_model, self._end_model)
        self._routes = Lifetimes[tuple[str, str]](self._begin_route, self._end_route)
        self.families: dict[Collector, Family] = {}
        self._jobs()
        self._results()
        self._providers()
        self._queue()
        self._process()
        self._own = ProcessCollector(registry=self.registry)

    # --- showing ----------------------------------------------------------------------------------------------

    def readings(self) -> list[Metric]:
        """The gauges, whose values are read from what the event loop changes: to be called in its thread."""
        return [family for gauge in self.families if _is_read(gauge) for family in gauge.collect()]

    def text(self, readings: Iterable[Metric]) -> bytes:
        """All metrics in Prometheus' text format. May be called in any thread, by one at a time."""
        self._keep_series()
        counted = [metric for metric in self.families if not _is_read(metric)]
        # One by one, so that there are never the samples of all at once.
        return b"".join(map(generate_latest, (Collected(readings), *counted, self._own)))

    def _keep_series(self) -> None:
        serving = self.serving
        self._models.keep(serving.models, serving.at)
        self._routes.keep(serving.routes, serving.at)

    # --- which there are --------------------------------------------------------------------------------------

    def _jobs(self) -> None:
        self.jobs = self._read_gauge("llmbatch_jobs", "BatchJobs now.", "phase")
        self.jobs_unfinished = self._read_gauge(
            "llmbatch_jobs_unfinished", "BatchJobs that have not ended, by why they go on or wait.", "reason"
        )
        self.oldest_job = self._read_gauge(
            "llmbatch_oldest_job_seconds",
            "For how long the unfinished BatchJob that has been longest in a phase has been in it.",
            "phase",
        )
        self.files = self._read_gauge(
            "llmbatch_files", "BatchFiles now: Validating, Invalid, Uploading or Uploaded.", "state"
        )
        self.deployment_ready = self._read_gauge(
            "llmbatch_deployment_ready",
            "1 where a ModelDeployment is Ready, else 0, with the reason of its condition.",
            "deployment", "model", "reason",
        )  # fmt: skip
        self.active_batches = self._read_gauge(
            "llmbatch_deployment_active_batches", "Unfinished batches on a ModelDeployment.", "deployment", "model"
        )
        self.enqueued_tokens = self._read_gauge(
            "llmbatch_deployment_enqueued_tokens",
            "Estimated input tokens of the unfinished batches on a ModelDeployment.",
            "deployment", "model",
        )  # fmt: skip

    def _results(self) -> None:
        self.jobs_finished = self._counter(
            "llmbatch_jobs_finished",
            "BatchJobs that ended. The result is the reason; the model is `other` where no deployment serves it.",
            "model", "result",
        )  # fmt: skip
        self.job_seconds = self._histogram(
            "llmbatch_job_seconds", "How long BatchJobs took from their creation to their end.", JOBS, "model"
        )
        self.requests = self._counter(
            "llmbatch_requests",
            "Requests of jobs that ended: `completed`, or `failed`, which are those in the error file.",
            "model", "deployment", "result",
        )  # fmt: skip
        self.tokens = self._counter(
            "llmbatch_tokens",
            "Tokens of collected results: input, cached (part of input), output, reasoning (part of output).",
            "model", "deployment", "type",
        )  # fmt: skip
        self.cost = self._counter(
            "llmbatch_cost_usd",
            "Cost of collected results in USD; where it is unknown nothing is added.",
            "model", "deployment",
        )  # fmt: skip
        self.cleanups_abandoned = self._counter(
            "llmbatch_cleanups_abandoned", "Deletions that were given up and left something at a provider."
        )

    def _providers(self) -> None:
        self.provider_requests = self._counter(
            "llmbatch_provider_requests",
            "Calls to providers. The code is the HTTP status (`4xx`, `5xx` … for one that is not registered), or the"
            " kind of error where there was no answer.",
            "provider", "operation", "code",
        )  # fmt: skip
        self.provider_seconds = self._histogram(
            "llmbatch_provider_request_seconds", "How long calls to providers took.", CALLS, "provider", "operation"
        )
        self.uploaded = self._counter("llmbatch_uploaded_bytes", "Input sent to providers.", "provider")

    def _queue(self) -> None:
        self.queue_depth = self._gauge(
            "llmbatch_queue_depth", "Resources that wait for a worker; 0 in a process that does not lead."
        )
        self.queue_oldest = self._gauge(
            "llmbatch_queue_oldest_seconds",
            "How long the resource that is next has waited for a worker; 0 in a process that does not lead.",
        )
        self.queue_wait = self._histogram(
            "llmbatch_queue_wait_seconds", "How long resources waited for a worker.", WAITS
        )
        self.reconcile_seconds = self._histogram(
            "llmbatch_reconcile_seconds", "How long reconciles took.", RUNS, "kind"
        )
        self.reconcile_errors = self._counter(
            "llmbatch_reconcile_errors", "Reconciles that failed and are repeated.", "kind"
        )

    def _process(self) -> None:
        self.leader = self._gauge("llmbatch_leader", "1 in the process that works, 0 in one that stands by.")
        self.kubernetes_requests = self._counter(
            "llmbatch_kubernetes_requests",
            "Calls to the API server. The code is the HTTP status, or `error` where there was no answer.",
            "verb", "resource", "code",
        )  # fmt: skip
        self.kubernetes_seconds = self._histogram(
            "llmbatch_kubernetes_request_seconds", "How long calls to the API server took.", API_CALLS, "verb"
        )
        self.loop_lag = self._histogram(
            "llmbatch_loop_lag_seconds", "How late the event loop was, twice a second.", LAGS
        )
        self.build_info = self._gauge("llmbatch_build_info", "Always 1; the version is in the label.", "version")
        self.build_info.labels(__version__).set(1)

    # --- making -----------------------------------------------------------------------------------------------

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        made = Counter(name, documentation, labels, registry=self.registry)
        self.families[made] = Family(f"{name}_total", "counter", labels, documentation)
        return made

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        made = Gauge(name, documentation, labels, registry=self.registry)
        self.families[made] = Family(name, "gauge", labels, documentation)
        return made

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        made = Histogram(name, documentation, labels, buckets=buckets, registry=self.registry)
        self.families[made] = Family(name, "histogram", labels, documentation)
        return made

    def _read_gauge(self, name: str, documentation: str, *labels: str) -> ReadGauge:
        made = ReadGauge(name, documentation, labels)
        self.registry.register(made)
        self.families[made] = Family(name, "gauge", labels, documentation)
        return made

    # --- beginning at zero ------------------------------------------------------------------------------------

    def expect_kinds(self, kinds: Iterable[str]) -> None:
        """There will be reconciles of these kinds."""
        for kind in kinds:
            self.reconcile_seconds.labels(kind)
            self.reconcile_errors.labels(kind)

    def _begin_model(self, model: str) -> None:
        self.job_seconds.labels(model)
        for result in self.serving.results:
            self.jobs_finished.labels(model, result)

    def _end_model(self, model: str) -> None:
        for metric in (self.job_seconds, self.jobs_finished):
            metric.remove_by_labels({"model": model})

    def _begin_route(self, route: tuple[str, str]) -> None:
        self.cost.labels(*route)
        for answer in ANSWERS:
            self.requests.labels(*route, answer)
        for type_ in TOKEN_TYPES:
            self.tokens.labels(*route, type_)

    def _end_route(self, route: tuple[str, str]) -> None:
        model, deployment = route
        for metric in (self.cost, self.requests, self.tokens):
            metric.remove_by_labels({"model": model, "deployment": deployment})

    # --- counting: each of these fits one observer of the parts that they measure -----------------------------

    def finished(self, model: str, result: str, seconds: float) -> None:
        """A job has ended, so long after its creation."""
        self._models.used(model)
        self.jobs_finished.labels(model, result).inc()
        self.job_seconds.labels(model).observe(seconds)

    def collected(self, model: str, deployment: str, tokens: Mapping[str, int], cost: Decimal | None) -> None:
        """Results were collected: tokens by type (input, cached, output, reasoning); no cost where it is unknown."""
        self._routes.used((model, deployment))
        for type_, count in tokens.items():
            self.tokens.labels(model, deployment, type_).inc(count)
        if cost is not None:
            self.cost.labels(model, deployment).inc(float(cost))

    def answered(self, model: str, deployment: str, completed: int, failed: int) -> None:
        """So many requests of a job that ended were answered, and so many were not."""
        self._routes.used((model, deployment))
        self.requests.labels(model, deployment, "completed").inc(completed)
        self.requests.labels(model, deployment, "failed").inc(failed)

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
        self.kubernetes_seconds.labels(verb).observe(seconds)

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


def _is_read(metric: Collector) -> bool:
    return isinstance(metric, (Gauge, ReadGauge))


def _known(code: str) -> str:
    """An HTTP status by its number where it is a registered one, else by its class: a server can make up hundreds."""
    if code.isdecimal() and int(code) not in KNOWN_STATUSES:
        return f"{code[0]}xx"
    return code
