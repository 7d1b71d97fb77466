"""The metrics."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from pathlib import Path

from llmbatch import __version__
from llmbatch.engine.queue import Key
from llmbatch.observability.lag import watch_loop_lag
from llmbatch.observability.metrics import CPU_SECONDS, RESIDENT_MEMORY, Metrics, Serving
from support.virtual_time import VirtualClock

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
HOUR = 3600.0


def exposed(metrics: Metrics) -> dict[str, float]:
    lines = metrics.text(metrics.readings()).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def serving(*routes: tuple[str, str], at: float = 0.0) -> Serving:
    """These models on these deployments are there."""
    return Serving(frozenset(model for model, _ in routes), frozenset(routes), ["Completed"], at)


def counted(metrics: Metrics, label: str) -> list[str]:
    """The series of results that name something."""
    return [name for name in exposed(metrics) if label in name]


def test_the_names_that_dashboards_rely_on_are_there():
    """Every metric has the name and the labels that are written down."""
    metrics = Metrics()
    metrics.jobs.read = lambda: [(("InProgress",), 3)]
    metrics.finished("gpt", "Succeeded", 90.0)
    metrics.answered("gpt", "default/east", 9, 1)
    metrics.provider_request("openAI", "create_batch", "200", 0.2)
    metrics.queue_depth.set(4)
    metrics.queue_oldest.set(2.5)
    metrics.waited(0.1)
    metrics.reconciled(Key("BatchJob", "default", "run-1"), 0.1, ValueError())
    metrics.uploaded_bytes("openAI", 100)
    metrics.collected("gpt", "default/east", {"input": 7, "output": 5}, Decimal("0.25"))
    metrics.leader.set(1)
    metrics.kubernetes_request("get", "batchjobs", "200", 0.01)
    metrics.abandoned()
    metrics.lagged(0.01)
    seen = exposed(metrics)

    want = {
        'llmbatch_jobs{phase="InProgress"}': 3,
        'llmbatch_jobs_finished_total{model="gpt",result="Succeeded"}': 1,
        'llmbatch_job_seconds_sum{model="gpt"}': 90,
        'llmbatch_requests_total{deployment="default/east",model="gpt",result="completed"}': 9,
        'llmbatch_requests_total{deployment="default/east",model="gpt",result="failed"}': 1,
        'llmbatch_provider_requests_total{code="200",operation="create_batch",provider="openAI"}': 1,
        'llmbatch_provider_request_seconds_count{operation="create_batch",provider="openAI"}': 1,
        "llmbatch_queue_depth": 4,
        "llmbatch_queue_oldest_seconds": 2.5,
        "llmbatch_queue_wait_seconds_count": 1,
        'llmbatch_reconcile_seconds_count{kind="BatchJob"}': 1,
        'llmbatch_reconcile_errors_total{kind="BatchJob"}': 1,
        'llmbatch_uploaded_bytes_total{provider="openAI"}': 100,
        'llmbatch_tokens_total{deployment="default/east",model="gpt",type="input"}': 7,
        'llmbatch_tokens_total{deployment="default/east",model="gpt",type="output"}': 5,
        'llmbatch_cost_usd_total{deployment="default/east",model="gpt"}': 0.25,
        "llmbatch_leader": 1,
        'llmbatch_kubernetes_requests_total{code="200",resource="batchjobs",verb="get"}': 1,
        'llmbatch_kubernetes_request_seconds_count{verb="get"}': 1,
        "llmbatch_cleanups_abandoned_total": 1,
        f'llmbatch_build_info{{version="{__version__}"}}': 1,
        "llmbatch_loop_lag_seconds_count": 1,
    }
    assert {name: seen.get(name) for name in want} == want
    assert seen["process_resident_memory_bytes"] > 0


def test_a_status_that_nobody_has_registered_is_counted_by_its_class():
    """Otherwise an endpoint of a tenant's could make up hundreds of values for a label."""
    metrics = Metrics()
    for code in ("429", "499", "488", "299", "NoAnswer"):
        metrics.provider_request("OpenAI", "get_file", code, 0.1)

    found = {name: value for name, value in exposed(metrics).items() if "requests_total{code" in name}

    assert {name.split('"')[1]: value for name, value in found.items()} == {
        "429": 1, "4xx": 2, "2xx": 1, "NoAnswer": 1,
    }  # fmt: skip


def test_a_gauge_that_is_read_has_only_what_there_is_now():
    """A deployment that is gone leaves no series behind."""
    metrics = Metrics()
    ready = {("default/east", "gpt", "Ready"): 1, ("default/west", "gpt", "Ready"): 1}
    metrics.deployment_ready.read = ready.items
    assert len([name for name in exposed(metrics) if name.startswith("llmbatch_deployment_ready{")]) == 2
    del ready["default/west", "gpt", "Ready"]

    found = [name for name in exposed(metrics) if name.startswith("llmbatch_deployment_ready{")]

    assert found == ['llmbatch_deployment_ready{deployment="default/east",model="gpt",reason="Ready"}']


def test_what_is_expected_begins_at_zero():
    """Otherwise Prometheus would see nothing of a series' first value, which for a cost is that of a whole batch."""
    metrics = Metrics()
    metrics.expect_kinds(["BatchJob"])
    metrics.serving = serving(("gpt", "default/east"))

    seen = exposed(metrics)

    begun = {
        'llmbatch_reconcile_errors_total{kind="BatchJob"}',
        'llmbatch_jobs_finished_total{model="gpt",result="Completed"}',
        'llmbatch_job_seconds_count{model="gpt"}',
        'llmbatch_cost_usd_total{deployment="default/east",model="gpt"}',
        'llmbatch_tokens_total{deployment="default/east",model="gpt",type="reasoning"}',
        'llmbatch_requests_total{deployment="default/east",model="gpt",result="failed"}',
    }
    assert {name: seen.get(name) for name in begun} == dict.fromkeys(begun, 0.0)


def test_what_counts_on_adds_to_what_was_expected():
    """The labels of a series that begins at zero are those that are counted under."""
    metrics = Metrics()
    metrics.serving = serving(("gpt", "default/east"))
    before = exposed(metrics).keys()
    metrics.finished("gpt", "Completed", 1.0)
    metrics.answered("gpt", "default/east", 1, 1)
    metrics.collected("gpt", "default/east", dict.fromkeys(("input", "cached", "output", "reasoning"), 1), Decimal(1))

    assert exposed(metrics).keys() == before


def test_series_end_an_hour_after_what_they_are_about():
    """Models and deployments that come and go by hundreds leave nothing behind."""
    metrics = Metrics()
    for at in range(20):
        metrics.serving = serving((f"model-{at}", f"team/d-{at}"), at=at)
        metrics.finished(f"model-{at}", "Completed", 1.0)
        metrics.collected(f"model-{at}", f"team/d-{at}", {"input": 1}, Decimal(1))
        exposed(metrics)
    metrics.serving = serving(("model-19", "team/d-19"), at=19 + HOUR - 1)
    assert counted(metrics, "model-18")
    metrics.serving = serving(("model-19", "team/d-19"), at=19 + HOUR)

    assert {name for name in counted(metrics, "model-") if "model-19" not in name} == set()
    assert counted(metrics, "model-19")


def test_what_comes_back_within_the_hour_counts_on():
    """A deployment that is made anew is the same one to whoever looks at its counters."""
    metrics = Metrics()
    there, gone = ("gpt", "team/east"), ()
    for routes, at in ((there,), 0.0), (gone, 60.0), ((there,), HOUR), (gone, HOUR + 60), (gone, 2 * HOUR):
        metrics.serving = serving(*routes, at=at)
        exposed(metrics)
        if not at:
            metrics.collected("gpt", "team/east", {"input": 1}, Decimal("0.5"))

    assert exposed(metrics)['llmbatch_cost_usd_total{deployment="team/east",model="gpt"}'] == 0.5


def test_what_is_counted_of_something_that_is_gone_ends_too():
    """Results of a job that outlived its deployment are seen for an hour."""
    metrics = Metrics()
    metrics.finished("other", "Completed", 1.0)
    metrics.answered("gpt", "team/gone", 1, 0)
    metrics.serving = serving(at=60)
    assert counted(metrics, "team/gone")
    metrics.serving = serving(at=60 + HOUR)

    assert counted(metrics, "team/gone") + counted(metrics, "other") == []


def everything() -> Metrics:
    """Metrics of which each has been counted, set or read."""
    metrics = Metrics()
    metrics.serving = serving(("gpt", "team/east"))
    for gauge in (metrics.jobs, metrics.jobs_unfinished, metrics.oldest_job, metrics.files):
        gauge.read = lambda: [(("x",), 1)]
    metrics.deployment_ready.read = lambda: [(("team/east", "gpt", "Ready"), 1)]
    metrics.active_batches.read = metrics.enqueued_tokens.read = lambda: [(("team/east", "gpt"), 1)]
    metrics.provider_request("openAI", "files.create", "200", 0.1)
    metrics.uploaded_bytes("openAI", 1)
    metrics.expect_kinds(["BatchJob"])
    metrics.kubernetes_request("get", "batchjobs", "200", 0.01)
    return metrics


def test_what_is_shown_is_what_the_page_tells():
    """Nothing is exposed that docs/metrics.md does not have, and it tells of nothing that never comes."""
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))

    shown = {re.sub(r"_(bucket|sum|count)$", "", name.partition("{")[0]) for name in exposed(everything())}

    assert {name for name in shown if not name.startswith(("process_", "python_"))} == told


def test_every_metric_is_described_as_it_is_shown():
    """Dashboards, alerts and their reference are made of the descriptions."""
    metrics = Metrics()

    shown = {
        (f"{family.name}{'_total' * (family.type == 'counter')}", family.type, family.documentation)
        for family in metrics.registry.collect()
        if family.name.startswith("llmbatch_")
    }

    assert shown == {(family.name, family.type, family.help) for family in metrics.families.values()}


def test_the_process_is_measured_under_the_names_that_are_relied_on():
    """Memory and CPU come from the client library."""
    found = exposed(Metrics())

    assert {RESIDENT_MEMORY.name, CPU_SECONDS.name} <= found.keys()


def test_an_unknown_cost_is_not_counted_as_nothing():
    """Where the price is unknown there is no series that says zero."""
    metrics = Metrics()
    metrics.collected("gpt", "default/east", {"input": 7}, None)

    assert not [name for name in exposed(metrics) if name.startswith("llmbatch_cost_usd_total")]


def test_no_series_comes_from_the_name_of_a_job():
    """A thousand jobs make as many series as one."""
    metrics = Metrics()
    for n in range(1000):
        metrics.reconciled(Key("BatchJob", f"team-{n}", f"run-{n}"), 0.1, None)
    one = Metrics()
    one.reconciled(Key("BatchJob", "team", "run"), 0.1, None)

    assert exposed(metrics).keys() == exposed(one).keys()


async def test_a_loop_that_was_held_shows_as_lag():
    """The lag is how much later than asked the loop came back."""
    clock = VirtualClock()
    lags: list[float] = []
    task = asyncio.create_task(watch_loop_lag(clock, lags.append))
    await clock.advance(0.5)
    clock.step(0.7)
    await clock.advance(0.5)
    task.cancel()

    assert lags[0] == 0.0
    assert 0.15 < lags[1] < 0.25
