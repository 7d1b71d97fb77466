"""The metrics."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from prometheus_client.exposition import generate_latest

from llmbatch import __version__
from llmbatch.engine.queue import Key
from llmbatch.observability.lag import watch_loop_lag
from llmbatch.observability.metrics import CPU_SECONDS, RESIDENT_MEMORY, Metrics
from support.virtual_time import VirtualClock


def exposed(metrics: Metrics) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


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
    metrics.expect_results("gpt", ["Completed"])
    metrics.expect_collections("gpt", "default/east")

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
    metrics.expect_results("gpt", ["Completed"])
    metrics.expect_collections("gpt", "default/east")
    before = exposed(metrics).keys()
    metrics.finished("gpt", "Completed", 1.0)
    metrics.answered("gpt", "default/east", 1, 1)
    metrics.collected("gpt", "default/east", dict.fromkeys(("input", "cached", "output", "reasoning"), 1), Decimal(1))

    assert exposed(metrics).keys() == before


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
