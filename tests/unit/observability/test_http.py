"""The metrics and health servers, asked over loopback."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from llmbatch.app.settings import Settings
from llmbatch.observability.http import Health, listening, serve_health, serve_metrics, split_address
from llmbatch.observability.metrics import Metrics


async def ask(address: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as response:
        return response.status, await response.text()


async def test_metrics_are_served_on_a_free_port():
    """Port 0 takes a free port and says which."""
    metrics = Metrics()
    metrics.finished("gpt", "Succeeded", 1.0)

    async def all_of_it() -> bytes:
        return metrics.text(metrics.readings())

    server = await serve_metrics("127.0.0.1:0", all_of_it)
    try:
        status, text = await ask(server.address, "/metrics")
        assert status == 200
        assert 'llmbatch_jobs_finished_total{model="gpt",result="Succeeded"} 1.0' in text
        assert (await ask(server.address, "/"))[0] == 404
    finally:
        await server.close()


async def test_health_is_asked_each_time_and_says_why_not():
    """Both checks are called anew for every request."""
    answers = [Health(ok=False, reason="first list not done"), Health(ok=True)]
    server = await serve_health("127.0.0.1:0", live=lambda: (True, ""), ready=lambda: answers.pop(0))
    try:
        assert await ask(server.address, "/healthz") == (200, "ok\n")
        assert await ask(server.address, "/readyz") == (503, "first list not done\n")
        assert await ask(server.address, "/readyz") == (200, "ok\n")
    finally:
        await server.close()


async def test_a_port_in_use_is_an_error():
    """Two processes on one port is something to be told about."""
    server = await serve_health("127.0.0.1:0", live=lambda: (True, ""), ready=lambda: (True, ""))
    try:
        with pytest.raises(OSError, match="in use"):
            await serve_health(server.address, live=lambda: (True, ""), ready=lambda: (True, ""))
    finally:
        await server.close()


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1"])
async def test_without_a_host_both_families_are_answered(host: str):
    """In a cluster of IPv6 alone the kubelet and Prometheus come by IPv6, elsewhere by IPv4."""
    server = await serve_health(":0", live=lambda: (True, ""), ready=lambda: (True, ""))
    try:
        port = server.address.rpartition(":")[2]
        assert await ask(f"{host}:{port}", "/readyz") == (200, "ok\n")
    finally:
        await server.close()


def test_a_node_without_ipv6_listens_on_ipv4():
    """The process starts there too."""
    with listening(0, dual_stack=False) as found:
        assert found.family == socket.AF_INET
        with socket.create_connection(("127.0.0.1", found.getsockname()[1])):
            pass


def test_the_defaults_are_all_addresses():
    """A pod is scraped and asked for its health by whichever family the cluster has."""
    settings = Settings.model_validate({})

    assert [split_address(one) for one in (settings.metrics_address, settings.health_address)] == [
        (None, 8080), (None, 8081),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "want"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        (":8080", (None, 8080)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:9", ("localhost", 9)),
    ],
)
def test_addresses(address: str, want: tuple[str | None, int]):
    """Host and port are told apart, for IPv6 too."""
    assert split_address(address) == want


@pytest.mark.parametrize("address", ["", "8080", "host", "host:port", "::1:80", "host:70000"])
def test_what_is_no_address_says_what_one_is(address: str):
    """A typing error in a flag is told in words."""
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)
