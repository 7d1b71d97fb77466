"""Emulators to test, each with an account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from llmbatch.emulator.server import build_app
from llmbatch.emulator.settings import EmulatorSettings
from support.emulator_bench import Bench, Clock


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An emulator without accounts."""
    clock = Clock()
    async with TestClient(TestServer(build_app(EmulatorSettings(spool_folder=tmp_path), clock=clock))) as client:
        yield Bench(client, clock, tmp_path)


@pytest.fixture
async def openai(bench: Bench) -> Bench:
    """An emulator with an OpenAI account."""
    await bench.account()
    return bench


@pytest.fixture
async def azure(bench: Bench) -> Bench:
    """An emulator with an Azure account, in the classic URL form."""
    await bench.account(resource="east", deployments={"mini": "gpt-4o-mini"})
    return bench
