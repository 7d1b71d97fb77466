"""The plugin's view of running jobs: as a real process, on a real terminal, against a real API server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from llmbatch.plugin.terminal.screen import BEGIN
from support.api_proxy import ApiProxy
from support.cluster import Cluster, condition
from support.diagnostics import Diagnostics
from support.emulator import Account, chat_lines
from support.jobs import json_lines, status
from support.shared_operator import SharedOperator, shared_operator
from support.terminal import Terminal
from support.world import World

SOURCE = Path(__file__).resolve().parents[2] / "operator"
OUTPUT = {"configMap": {"name": "answers"}}


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1", "--retry-scale", "0.1")
    with shared_operator(cluster, tmp_path_factory.mktemp("plugin"), namespaces=30, flags=flags) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


def command(world: World, *arguments: str) -> list[str]:
    """The plugin in the test's namespace."""
    return [sys.executable, "-m", "llmbatch.plugin", *arguments, "--namespace", world.namespace]


def environment(world: World) -> dict[str, str]:
    """Where the plugin finds the cluster and itself."""
    return {"KUBECONFIG": str(world.cluster.kubeconfig), "PYTHONPATH": str(SOURCE)}


def plugin(world: World, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """One command to its end, in a pipe; `more` is environment."""
    return subprocess.run(
        command(world, *arguments),
        env={**os.environ, **environment(world), **more}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def on_terminal(world: World, *arguments: str, columns: int = 120, lines: int = 24) -> Terminal:
    """One command on a terminal."""
    return Terminal(command(world, *arguments), environment(world), columns=columns, lines=lines)


def running_jobs(world: World, provider: Account, *names: str) -> None:
    """Jobs that run until the account is released."""
    provider.hold()
    world.openai("openai", provider)
    world.file(lines=chat_lines(4, model="gpt-4o-mini-batch"))
    for name in names:
        world.job(name)
    for name in names:
        world.until("BatchJob", name, lambda job: status(job).get("phase") == "InProgress")


def frames(terminal: Terminal) -> int:
    """How often the screen was drawn."""
    return terminal.output.count(BEGIN.encode())


@pytest.fixture
def provider(account: Callable[..., Account]) -> Account:
    """An OpenAI account."""
    return account("openai", provider="openai")


def test_the_live_table_ends_with_the_jobs_and_leaves_its_last_state(world, provider):
    """A person sees a bar a job; when all named jobs are done, the screen is as before, with the final table on it."""
    running_jobs(world, provider, "run-1", "run-2")

    with on_terminal(world, "watch", "run-1", "run-2") as terminal:
        terminal.wait(lambda text: text.count("InProgress") == 2 and "2 running" in text)
        assert terminal.screen.alternate
        assert terminal.screen.cursor_hidden
        provider.release()

        assert terminal.exit_code() == 0
        assert not terminal.screen.alternate
        assert not terminal.screen.cursor_hidden
        assert "2 succeeded; 8/8 requests" in terminal.text
        assert terminal.text.count("████████████████████ 100%") == 2


def test_the_live_table_follows_the_size_of_the_terminal(world, provider):
    """A window that is made smaller loses columns and never breaks a line; made larger, it has them again."""
    running_jobs(world, provider, "run-1")

    with on_terminal(world, "watch", columns=140) as terminal:
        terminal.wait(lambda text: "InProgress" in text and "DEPLOYMENT" in text)
        terminal.resize(48, 12)
        terminal.wait(lambda text: "DEPLOYMENT" not in text and "InProgress" in text)
        assert terminal.text.count("run-1") == 1
        terminal.resize(140, 24)

        assert terminal.wait(lambda text: "DEPLOYMENT" in text).count("run-1") == 1


def test_ctrl_c_leaves_the_terminal_clean(world, provider):
    """Exit code 130, the screen and cursor as before, the last table to read, and no traceback."""
    running_jobs(world, provider, "run-1")

    with on_terminal(world, "watch") as terminal:
        terminal.wait(lambda text: "InProgress" in text)
        terminal.type("\x03")

        assert terminal.exit_code() == 130
        assert not terminal.screen.alternate
        assert not terminal.screen.cursor_hidden
        assert "1 running" in terminal.text
        assert "Traceback" not in terminal.output.decode()


def test_a_watch_that_is_told_to_end_leaves_the_terminal_clean(world, provider):
    """SIGTERM and a closed window end it in order."""
    running_jobs(world, provider, "run-1")

    with on_terminal(world, "watch") as terminal:
        terminal.wait(lambda text: "InProgress" in text)
        terminal.signal(signal.SIGTERM)

        assert terminal.exit_code() == 130
        assert not terminal.screen.alternate


def test_the_screen_is_drawn_only_when_something_looks_different(world, provider):
    """Changes that the table does not show cost no drawing; so a quiet terminal stays quiet."""
    provider.behaviour(in_progress_seconds=3600.0)
    running_jobs(world, provider, "run-1")

    with on_terminal(world, "watch") as terminal:
        terminal.wait(lambda text: "InProgress" in text)
        before = frames(terminal)
        for at in range(5):
            patch = {"metadata": {"annotations": {"example.com/seen": str(at)}}}
            world.cluster.patch("BatchJob", "run-1", world.namespace, patch)
        world.job("run-2", suspend=True)
        terminal.wait(lambda text: "Suspended" in text)

        # One for the new job, and one for its state.
        assert frames(terminal) - before <= 2


def test_a_dumb_terminal_gets_plain_lines(world, provider):
    """Where nothing can be drawn, each change is a line."""
    running_jobs(world, provider, "run-1")

    with Terminal(command(world, "watch", "run-1"), {**environment(world), "TERM": "dumb"}) as terminal:
        terminal.wait(lambda text: "InProgress" in text)
        provider.release()

        assert terminal.exit_code() == 0
        assert b"\x1b" not in terminal.output


def test_in_a_pipe_each_change_is_a_line(world, provider):
    """Scripts and logs get text without colour, cursor movements or boxes, and an exit code."""
    provider.hold("validating")
    world.openai("openai", provider)
    world.file(lines=chat_lines(4, model="gpt-4o-mini-batch"))
    world.job("run-1")
    world.until("BatchJob", "run-1", lambda job: status(job).get("phase") == "Validating")
    provider.release()

    done = plugin(world, "watch", "run-1")

    assert done.returncode == 0
    assert done.stderr == ""
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    assert {line[1] for line in lines} == {"run-1"}
    assert lines[-1][2:4] == ["Succeeded", "4/4 (100%)"]
    assert lines[-1][-1] == "on openai"
    assert len({tuple(line[1:]) for line in lines}) == len(lines)
    assert "\x1b" not in done.stdout


def test_programs_get_json_a_line(world, provider):
    """-o json prints each change as one object."""
    running_jobs(world, provider, "run-1")
    provider.release()

    told = json_lines(plugin(world, "watch", "run-1", "-o", "json").stdout)

    assert told[-1]["finished"]
    assert told[-1]["requests"] == {"total": 4, "completed": 4, "failed": 0}
    assert told[-1]["deployment"] == f"{world.namespace}/openai"


def test_the_exit_code_says_how_jobs_ended(world, provider):
    """0: all Complete; 1: any failed; 3: there is no such job; 124: not in time."""
    running_jobs(world, provider, "run-1", "run-2")

    assert plugin(world, "watch", "run-1", "--timeout", "1s").returncode == 124
    absent = plugin(world, "watch", "run-1", "typo")
    assert (absent.returncode, absent.stderr) == (
        3, f"error: BatchJob typo does not exist in namespace {world.namespace}\n",
    )  # fmt: skip
    plugin(world, "cancel", "run-2")
    provider.release()
    assert plugin(world, "watch", "run-1").returncode == 0
    assert plugin(world, "watch", "run-1", "run-2").returncode == 1


def test_a_job_that_is_deleted_under_way_is_told(world, provider):
    """A watch does not wait for ever for what is gone."""
    running_jobs(world, provider, "run-1")

    with on_terminal(world, "watch", "run-1") as terminal:
        terminal.wait(lambda text: "InProgress" in text)
        world.delete("BatchJob", "run-1")

        assert terminal.exit_code(timeout=40) == 3
        assert "run-1 was deleted before it finished" in terminal.text


def test_a_watch_survives_a_cut_connection(world, provider, tmp_path):
    """What happened while the API server was out of reach is told afterwards."""
    running_jobs(world, provider, "run-1")

    with ApiProxy(world.cluster, tmp_path) as proxy:
        there = {**environment(world), "KUBECONFIG": str(proxy.kubeconfig)}
        with Terminal(command(world, "watch", "run-1"), there, columns=120) as terminal:
            terminal.wait(lambda text: "InProgress" in text)
            proxy.cut()
            terminal.wait(lambda text: "reconnecting: " in text)
            provider.release()
            world.finished("run-1")
            proxy.mend()

            assert terminal.exit_code(timeout=40) == 0
            assert "1 succeeded" in terminal.text


def test_a_selector_chooses_the_jobs(world, provider):
    """-l watches the jobs of a label, as kubectl does."""
    running_jobs(world, provider, "run-1")
    world.job("run-2", metadata={"labels": {"team": "search"}})
    world.running("run-2")

    with on_terminal(world, "watch", "-l", "team=search") as terminal:
        assert "run-1" not in terminal.wait(lambda text: "run-2" in text)


def test_a_suspended_job_waits_until_it_is_resumed(world, provider):
    """suspend holds a job that was not submitted, resume lets it go on; each says what will happen."""
    world.openai("openai", provider)
    world.job("run-1")

    held = plugin(world, "suspend", "run-1")
    assert (held.returncode, held.stdout) == (0, "")
    assert held.stderr == "BatchJob run-1 is suspended: it is not submitted until it is resumed\n"
    world.file(lines=chat_lines(4, model="gpt-4o-mini-batch"))
    world.until("BatchJob", "run-1", lambda job: status(job).get("phase") == "Suspended")
    assert plugin(world, "resume", "batchjob/run-1").returncode == 0

    assert status(world.finished("run-1"))["phase"] == "Succeeded"
    assert plugin(world, "suspend", "run-1").returncode == 1


def test_cancel_waits_for_the_end(world, provider):
    """cancel --wait ends when the batch has, and says how; one job that is not there does not keep it from others."""
    running_jobs(world, provider, "run-1")
    provider.behaviour(hold=False, in_progress_seconds=600.0)

    done = plugin(world, "cancel", "typo", "run-1", "--wait", "-o", "json")

    assert done.returncode == 3
    assert [(job["name"], job["phase"]) for job in json.loads(done.stdout)] == [("run-1", "Cancelled")]
    assert "BatchJob typo does not exist" in done.stderr
    assert "BatchJob run-1 has ended: Cancelled" in done.stderr
    assert status(world.get("BatchJob", "run-1"))["phase"] == "Cancelled"


def test_retry_makes_a_new_job_of_an_old_one(world, provider):
    """The same file is run by a job of the next free name, whose results lie beside the old ones."""
    world.openai("openai", provider)
    world.file(lines=chat_lines(4, model="gpt-4o-mini-batch"))
    world.job("run-1", output=OUTPUT, metadata={"labels": {"team": "search"}})
    world.finished("run-1")

    first = plugin(world, "retry", "run-1")
    assert (first.returncode, first.stdout) == (0, "run-1-retry-1\n")
    world.finished("run-1-retry-1")
    second = plugin(world, "retry", "run-1-retry-1", "-o", "json")
    printed = json.loads(second.stdout)["metadata"]
    assert printed["name"] == "run-1-retry-2"
    assert "managedFields" not in printed

    made = world.finished("run-1-retry-2")
    assert status(made)["phase"] == "Succeeded"
    assert status(made)["output"]["location"] == "configmap/answers-retry-2"
    assert made["metadata"]["labels"] == {"team": "search"}
    assert len(provider.batches()) == 3


def test_retry_refuses_what_makes_no_sense(world, provider):
    """A job that runs, or whose file is gone, is not run again; the refusal says what to do, and makes nothing."""
    running_jobs(world, provider, "run-1")

    running = plugin(world, "retry", "run-1")
    assert running.returncode == 1
    assert "kubectl llmbatch cancel run-1" in running.stderr
    provider.release()
    world.finished("run-1")
    world.delete("BatchFile", "questions")
    world.gone("BatchFile", "questions")

    assert "its BatchFile questions does not exist any more" in plugin(world, "retry", "run-1").stderr
    assert [job["metadata"]["name"] for job in world.cluster.list("BatchJob", world.namespace)] == ["run-1"]


def test_logs_tell_the_story_of_a_job(world, provider):
    """From creation over attempts to the end, in order, and nothing of what was asked or answered."""
    provider.hold()
    world.openai("openai", provider)
    world.file(lines=chat_lines(4, model="gpt-4o-mini-batch", text="a very private question"))
    world.job("run-1", output=OUTPUT)
    batch = world.running("run-1")["status"]["batchID"]
    provider.advance(batch, "failed")
    provider.release()

    followed = plugin(world, "logs", "run-1", "--follow")
    whole = plugin(world, "logs", "run-1")

    assert followed.returncode == whole.returncode == 0
    assert world.finished("run-1")
    for told in (followed.stdout, whole.stdout):
        assert "Created: to run file questions" in told.splitlines()[0]
        assert f"BatchCreated: batch {batch}" in told
        assert f"Attempt 1 ended (BatchFailed): on {world.namespace}/openai, batch {batch}" in told
        assert "BatchFinished: Completed" in told
        assert "Complete, Finished (Completed)" in told
        assert "private" not in told
    times = [line.split()[0] for line in whole.stdout.splitlines()]
    assert times == sorted(times)


def test_logs_of_a_job_that_is_gone_are_its_events(world, provider):
    """What happened is still told for as long as Kubernetes keeps it; of a job that never was there is nothing."""
    world.openai("openai", provider)
    world.file()
    world.job("run-1")
    world.finished("run-1")
    world.delete("BatchJob", "run-1")
    world.gone("BatchJob", "run-1")

    left, never = plugin(world, "logs", "run-1"), plugin(world, "logs", "typo")

    assert (left.returncode, never.returncode) == (0, 3)
    assert "BatchJob run-1 is gone" in left.stderr
    assert "BatchFinished: Completed" in left.stdout


def test_logs_do_with_the_status_alone(world, provider, tmp_path):
    """Who may not read Events still gets the story, and is told what is missing."""
    world.openai("openai", provider)
    world.file()
    world.job("run-1")
    world.finished("run-1")
    rules = [{"apiGroups": ["llmbatch.dev"], "resources": ["batchjobs"], "verbs": ["get", "list", "watch"]}]
    user = world.cluster.service_account("reader", world.namespace, tmp_path, rules=rules)

    told = plugin(world, "logs", "run-1", KUBECONFIG=str(user.kubeconfig))

    assert told.returncode == 0
    assert "Complete, Finished (Completed)" in told.stdout
    assert "Events may not be read" in told.stderr
    assert plugin(world, "cancel", "run-1", KUBECONFIG=str(user.kubeconfig)).returncode == 1
    assert plugin(world, "models", KUBECONFIG=str(user.kubeconfig)).returncode == 4


def test_costs_are_those_of_the_jobs(world, account):
    """The sum is that of status.cost, and a price that is not known is counted beside it."""
    provider = account("openai", provider="openai", models=["gpt-4o-mini", "house-model"])
    prices = {"inputPerMillionTokens": "1000", "outputPerMillionTokens": "2000"}
    world.openai("dear", provider, pricing=prices)
    world.openai("unpriced", provider, model="house-model", modelName="other")
    world.file(lines=chat_lines(4, model="gpt-4o-mini-batch"))
    world.file("others", lines=chat_lines(4, model="other"), models=("other",))
    world.job("run-1")
    world.job("run-2")
    world.job("run-3", file="others")
    costs = [status(world.finished(name))["cost"] for name in ("run-1", "run-2", "run-3")]

    told = json.loads(plugin(world, "cost", "--by", "deployment", "--since", "1h", "-o", "json").stdout)
    shown = plugin(world, "cost")

    sums = {item["deployment"]: item["amount"] for item in told["items"]}
    amount = sum(Decimal(cost["amount"]) for cost in costs[:2])
    assert Decimal(sums[f"{world.namespace}/dear"]) == amount > 0
    assert sums[f"{world.namespace}/unpriced"] is None
    assert Decimal(told["total"]["amount"]) == amount
    assert "the cost of 1 of 3 jobs is not known" in shown.stderr
    assert shown.stdout.splitlines()[-1].split()[:2] == ["total", "3"]


def test_models_tell_what_can_be_used(world, provider):
    """Each deployment of each model with its health; a model that cannot run anything is pointed out."""
    good, bad = f"good-{world.namespace}", f"bad-{world.namespace}"  # other tests' namespaces may share theirs
    world.openai("east", provider, modelName=good, limits={"maxActiveBatches": 5})
    world.openai("broken", provider, modelName=bad, with_secret=False)
    world.ready("ModelDeployment", "east")
    world.until("ModelDeployment", "broken", lambda found: condition(found, "Ready") is not None)

    shown = plugin(world, "models")
    told = json.loads(plugin(world, "models", "-o", "json").stdout)

    rows = [line.split()[:4] for line in shown.stdout.splitlines()[1:]]
    assert [good, "east", "yes", "Ready"] in rows
    assert [bad, "broken", "no", "SecretNotFound"] in rows
    assert f"no deployment of {bad} is Ready" in shown.stderr
    ready = {model["name"]: model["readyDeployments"] for model in told["models"]}
    assert (ready[good], ready[bad]) == (1, 0)
