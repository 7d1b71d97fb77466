"""The emulator as a command: started, configured and ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import yaml

from llmbatch.emulator.cli import welcome
from llmbatch.emulator.settings import default_settings, read_settings
from support.emulator import Emulator


def test_without_a_configuration_there_are_three_accounts_to_try():
    """OpenAI and two Azure resources answer to the keys that the start-up text names."""
    with Emulator() as emulator:
        text = welcome(default_settings())
        for name, query in (("openai", ""), ("east", "?api-version=2025-04-01-preview"), ("west", "?api-version=x")):
            account = emulator.existing(name)
            url = account.url + ("" if name == "openai" else "/openai") + f"/batches{query}"
            key = f"emulator-{name}-key"
            answer = httpx2.get(url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)
            assert answer.status_code == 200
            assert key in text


def test_a_stopped_emulator_leaves_nothing_behind(tmp_path: Path):
    """SIGTERM ends it with exit code 0, also while a call hangs, and its spool is gone."""
    config = tmp_path / "emulator.yaml"
    spool = tmp_path / "spool"
    account = {"name": "acme", "provider": "openai", "keys": ["key-of-acme"]}
    config.write_text(yaml.safe_dump({"accounts": [account], "spool_folder": str(spool)}))
    emulator = Emulator(config)
    acme = emulator.existing("acme")
    acme.fault("hang_after_success", "batches.list")
    assert list(spool.iterdir())
    with httpx2.Client(trust_env=False, timeout=0.2) as client, pytest.raises(httpx2.ReadTimeout):
        client.get(f"{acme.url}/batches", headers={"Authorization": f"Bearer {acme.key}"})

    emulator.stop()

    assert emulator.process.returncode == 0
    assert list(spool.iterdir()) == []


def test_a_killed_emulator_is_gone_at_once():
    """Killing it ends it, and a second end does no harm."""
    emulator = Emulator()

    emulator.kill()
    emulator.stop()

    assert emulator.process.returncode == -9
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{emulator.url}/_emulator/health", trust_env=False)


def test_a_configuration_sets_accounts_up_and_pace_scales_them(tmp_path: Path):
    """What is in the file is what the accounts are, with durations multiplied."""
    config = tmp_path / "emulator.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "accounts": [
                    {
                        "name": "north",
                        "provider": "azure",
                        "resource": "north",
                        "keys": ["a", "b"],
                        "deployments": {"mini": "gpt-4o-mini"},
                        "fail_lines": 0.1,
                        "pace": {"in_progress_seconds": 20},
                    }
                ]
            }
        )
    )

    [account] = read_settings(config).at_pace(0.5).accounts

    assert account.behaviour.fail_lines == 0.1
    assert account.behaviour.pace.in_progress_seconds == 10
    assert account.behaviour.pace.validating_seconds == 0.25
    assert "north: Azure OpenAI at /azure/north" in welcome(read_settings(config))


@pytest.mark.parametrize("text", ["accounts: [{name: x}]", "nonsense: 1", "accounts: ["])
def test_a_configuration_that_makes_no_sense_is_refused_with_a_sentence(tmp_path: Path, text: str):
    """The command says what is wrong and where, without a traceback."""
    config = tmp_path / "emulator.yaml"
    config.write_text(text)

    command = [sys.executable, "-m", "llmbatch.emulator", "--config", str(config)]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}, timeout=30, check=False
    )

    assert ended.returncode == 2
    assert "--config" in ended.stderr
    assert "Traceback" not in ended.stderr
