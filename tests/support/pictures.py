"""`make pictures`: the pictures of the documentation, taken of a terminal on which the plugin really runs.

A control plane, the emulator and the operator are started as for the tests; jobs are submitted, and what the screen
shows is drawn. A picture that differs from the one that is there in numbers alone is left as it is.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from controlplane.binaries import ensure_binaries
from controlplane.session import Session, await_address
from support.cluster import Cluster
from support.emulator import Account, Emulator, chat_lines
from support.jobs import status
from support.operator_process import OperatorProcess
from support.svg import is_same, picture
from support.terminal import Terminal
from support.world import World

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "search"
MODEL = "gpt-4o-mini-batch"
JOBS = {"tickets-monday": 1200, "tickets-tuesday": 1800, "evals": 900, "translations": 2400, "titles": 600}
RUNNING_SECONDS = {"east": 40.0, "west": 60.0, "openai": 25.0}
COLUMNS, WIDE, LINES = 112, 126, 30
PROMPT = "$"


def main(arguments: list[str]) -> int:
    """Draw every picture into a folder; answers the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m support.pictures OUTDIR\n")
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="llmbatch-pictures-") as scratch, ExitStack() as stack:
        cluster = _cluster(stack)
        emulator = stack.enter_context(Emulator())
        world = World(cluster, NAMESPACE)
        accounts = _deployments(world, emulator)
        operator = OperatorProcess.start(
            cluster.kubeconfig, [NAMESPACE], Path(scratch) / "operator.log", ["--poll-interval", "1"]
        )
        stack.callback(operator.kill)
        operator.wait_ready()
        terminal = stack.enter_context(_shell(cluster, Path(scratch)))
        _jobs(world, accounts)
        for name, text in _pictures(terminal, world, accounts):
            _store(folder / f"{name}.svg", text)
    return 0


def _cluster(stack: ExitStack) -> Cluster:
    ensure_binaries()
    session = Session.begin(manifests=[ROOT / "crds"])
    stack.callback(session.stop)
    cluster = Cluster.at(await_address(session.folder))
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, "")
    return cluster


def _deployments(world: World, emulator: Emulator) -> dict[str, Account]:
    """Two Azure resources and an OpenAI account that serve one model, and one whose key is missing."""
    paces = {name: {"in_progress_seconds": seconds} for name, seconds in RUNNING_SECONDS.items()}
    azure = {
        name: emulator.account(name, deployments={"gpt-4o-mini-general": "gpt-4o-mini"}, pace=paces[name])
        for name in ("east", "west")
    }
    prices = {"inputPerMillionTokens": "0.075", "outputPerMillionTokens": "0.30"}
    limits = {"maxRequestsPerFile": 50000, "maxActiveBatches": 20}
    for name, weight in (("east", 3), ("west", 2)):
        world.azure(
            name, azure[name], deployment="gpt-4o-mini-general", modelName=MODEL, weight=weight, pricing=prices,
            limits=limits,
        )  # fmt: skip
    openai = emulator.account("openai", provider="openai", pace=paces["openai"])
    world.openai("openai", openai, modelName=MODEL)
    world.openai("eu", openai, modelName="gpt-4o-eu-batch", with_secret=False)
    return {**azure, "openai": openai}


def _jobs(world: World, accounts: Mapping[str, Account]) -> None:
    """One that is done, some that run on different deployments, and one that waits."""
    home = world.namespace
    for name in accounts:
        world.ready("ModelDeployment", name, timeout=60)
    places = {"tickets-monday": "east", "tickets-tuesday": "east", "evals": "openai", "translations": "west"}
    for name, requests in JOBS.items():
        data = {"requests.jsonl": chat_lines(requests, model=MODEL).decode()}
        world.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}, home)
        world.file(name, source={"configMapKeyRef": {"name": name, "key": "requests.jsonl"}}, models=[MODEL])
        pin = {"deploymentRef": {"namespace": home, "name": places[name]}} if name in places else {}
        world.job(name, file=name, suspend=name == "titles", **pin)
        if name == "tickets-monday":
            batch = world.running(name, timeout=60)["status"]["batchID"]
            accounts["east"].advance(batch, "completed")
            world.finished(name)
    for name in places:
        world.running(name, timeout=60)


@contextmanager
def _shell(cluster: Cluster, folder: Path) -> Iterator[Terminal]:
    """A shell with kubectl and the plugin on PATH, in the namespace of the pictures."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = NAMESPACE
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    path = os.pathsep.join([str(Path(sys.executable).parent), str(cluster.kubectl_path.parent), os.environ["PATH"]])
    environment = {"KUBECONFIG": str(kubeconfig), "PATH": path, "PS1": f"{PROMPT} ", "HOME": str(folder)}
    with Terminal(["bash", "--norc", "--noprofile"], environment, columns=COLUMNS, lines=LINES) as terminal:
        terminal.wait(lambda text: text.endswith(PROMPT))
        yield terminal


def _pictures(terminal: Terminal, world: World, accounts: Mapping[str, Account]) -> Iterator[tuple[str, str]]:
    terminal.type("kubectl llmbatch watch\n")
    terminal.wait(lambda text: text.count("InProgress") == 3 and _percent(text, "evals") >= 60, timeout=60)
    yield "watch", picture(terminal.screen, title="kubectl llmbatch watch")
    terminal.type("\x03")
    terminal.wait(lambda text: text.endswith(f"\n{PROMPT}"))
    world.cluster.patch("BatchJob", "titles", NAMESPACE, {"spec": {"suspend": False}})
    for account in accounts.values():
        account.behaviour(in_progress_seconds=1.0)
    for name in JOBS:
        assert status(world.finished(name, timeout=120))["phase"] == "Succeeded"
    _run(terminal, "clear", "models", "", "cost --by deployment")
    yield "tables", picture(terminal.screen, title="kubectl llmbatch models, kubectl llmbatch cost")
    terminal.resize(WIDE, LINES)
    _run(terminal, "clear", "logs tickets-monday")
    yield "logs", picture(terminal.screen, title="kubectl llmbatch logs")


def _percent(text: str, job: str) -> int:
    found = re.search(rf"^{job} .* ([0-9]+)%", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _run(terminal: Terminal, *commands: str) -> None:
    """Type commands of the plugin, one after the other; an empty one is the Enter key alone."""
    for command in commands:
        shown = command if command in ("", "clear") else f"kubectl llmbatch {command}"
        lines = len(terminal.text.splitlines())
        terminal.type(f"{shown}\n")
        if command == "clear":
            terminal.wait(lambda text: text == PROMPT)
        else:
            terminal.wait(lambda text, above=lines: _prompt_after(text, above))


def _prompt_after(text: str, above: int) -> bool:
    lines = text.splitlines()
    return len(lines) > above and lines[-1] == PROMPT


def _store(path: Path, text: str) -> None:
    if path.exists() and is_same(path.read_text(encoding="utf-8"), text):
        sys.stderr.write(f"{path}: shows what it did\n")
        return
    path.write_text(text, encoding="utf-8")
    sys.stderr.write(f"{path}: drawn\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
