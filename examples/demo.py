"""`make demo`: a control plane, a provider to talk to, the operator, and the examples of `examples/demo` run on them.

All of it is real but the provider, which is the emulator. No controller manager is started: nothing here needs one, and
it would have to be got first. Everything ends with the demo, also with one that fails or is interrupted; `--keep`
leaves it running until Ctrl-C, to look around.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from controlplane.binaries import find_programs
from controlplane.ports import free_port
from controlplane.server import StartError
from controlplane.session import Session, await_address
from toolchain.find import told
from toolchain.go import BuildError
from toolchain.leash import leashed

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "demo"
MANIFESTS = ("secrets.yaml", "modeldeployments.yaml", "batchfile.yaml")
EMULATOR_IN_MANIFESTS = "127.0.0.1:8787"
ACCOUNTS = ("openai", "east", "west")

START_SECONDS = 30.0
FINISH_SECONDS = 120.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.4
LOG_LINES = 25

Object = Mapping[str, Any]


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


@dataclass(frozen=True)
class Demo:
    """What the steps share: where they write, since when (monotonic seconds), and the processes they started."""

    console: Console
    folder: Path
    began: float
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def step(self, text: str) -> None:
        """Say in one line what is done next, and when."""
        self.console.print(Text.assemble((self.seconds(), "dim"), "  ", (text, "bold cyan")), soft_wrap=True)

    def seconds(self) -> str:
        """How long it has been going on."""
        return f"{time.monotonic() - self.began:5.1f} s"

    def show(self, text: str) -> None:
        """What a program printed, as it is."""
        for line in text.rstrip().splitlines():
            self.console.print(Text(f"         {line}"), soft_wrap=True)

    def run(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start `llmbatch-operator …` in the background; it ends with this process, however that ends."""
        command = leashed([sys.executable, "-m", "llmbatch", *arguments])
        with (self.folder / f"{name}.log").open("wb") as output:
            # A session of its own: Ctrl-C on the terminal reaches us, and we end things in order.
            self.processes[name] = subprocess.Popen(
                command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def end(self, name: str) -> None:
        """SIGTERM, as the kubelet sends it, and SIGKILL where that does not help."""
        process = self.processes[name]
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait(self, what: str, reached: Callable[[], bool], seconds: float) -> None:
        """Poll until `reached`. Raises DemoError at the deadline, or when a process ended."""
        deadline = time.monotonic() + seconds
        while not reached():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise DemoError(f"the {name} ended by itself, with status {process.returncode}")
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Kubectl:
    """The real kubectl on the demo's control plane."""

    program: Path
    kubeconfig: Path
    cache: Path

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """What it printed. Raises DemoError."""
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.cache}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def objects(self, what: str) -> list[Object]:
        """The objects of these kinds."""
        return json.loads(self("get", what, "-o", "json"))["items"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave all of it running until Ctrl-C")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="llmbatch-demo-") as folder:
        demo = Demo(Console(highlight=False), Path(folder), time.monotonic())
        with ExitStack() as stack:
            try:
                _play(demo, stack, keep=options.keep)
                status = 0
            except (DemoError, BuildError, StartError) as error:
                status = _failed(demo, str(error))
            except KeyboardInterrupt:
                demo.step("interrupted")
                status = 130
            for number in (signal.SIGINT, signal.SIGTERM):  # nothing interrupts the clean-up
                signal.signal(number, signal.SIG_IGN)
            demo.step("ending the operator, the emulator and the control plane")
        if status == 0:
            demo.step("done")
    return status


def _play(demo: Demo, stack: ExitStack, *, keep: bool) -> None:
    kubectl = _start_control_plane(demo, stack)
    emulator = _start_emulator(demo, stack)
    _start_operator(demo, stack, kubectl)
    _apply(demo, kubectl, emulator, *MANIFESTS)
    demo.step("kubectl wait --for=condition=Uploaded batchfile/questions")
    demo.show(kubectl("wait", "--for=condition=Uploaded", "batchfile/questions", f"--timeout={FINISH_SECONDS:.0f}s"))
    _apply(demo, kubectl, emulator, "batchjobs.yaml")
    _follow(demo, kubectl)
    _tell_results(demo, kubectl)
    if keep:
        demo.step("all of it goes on until Ctrl-C; in another terminal:")
        demo.show(f"export KUBECONFIG={kubectl.kubeconfig} PATH={kubectl.program.parent}:$PATH")
        demo.wait("interrupted", lambda: False, float("inf"))
    _delete(demo, kubectl, emulator)


def _start_control_plane(demo: Demo, stack: ExitStack) -> Kubectl:
    demo.step(told(find_programs(controllers=False)))
    demo.step("starting etcd and kube-apiserver, with the CRDs of crds/")
    session = Session.begin(manifests=[ROOT / "crds"], controllers=False)
    stack.callback(session.stop)
    address = await_address(session.folder)
    return Kubectl(address.kubectl, address.kubeconfig, demo.folder / "kubectl")


def _start_emulator(demo: Demo, stack: ExitStack) -> str:
    address = f"127.0.0.1:{free_port()}"
    demo.step(f"llmbatch-operator emulator: OpenAI and two Azure OpenAI resources on {address}")
    demo.run("emulator", ["emulator", "--port", address.rpartition(":")[2]], {})
    stack.callback(demo.end, "emulator")
    url = f"http://{address}/_emulator/accounts/openai"
    demo.wait("the emulator answers", lambda: _fetch(url) is not None, START_SECONDS)
    return address


def _start_operator(demo: Demo, stack: ExitStack, kubectl: Kubectl) -> None:
    health, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    flags = ["--no-leader-elect", "--allow-network=127.0.0.0/8", "--poll-interval=1", "--probe-interval=2"]
    demo.step(f"llmbatch-operator run {' '.join(flags)}")
    flags += [f"--health-address={health}", f"--metrics-address={metrics}", "--log-format=text"]
    demo.run("operator", ["run", *flags], {"KUBECONFIG": str(kubectl.kubeconfig)})
    stack.callback(demo.end, "operator")
    demo.wait("the operator is ready", lambda: _fetch(f"http://{health}/readyz") is not None, START_SECONDS)


def _apply(demo: Demo, kubectl: Kubectl, emulator: str, *names: str) -> None:
    for name in names:
        demo.step(f"kubectl apply -f examples/demo/{name}")
        content = (EXAMPLES / name).read_text().replace(EMULATOR_IN_MANIFESTS, emulator)
        demo.show(kubectl("apply", "-f", "-", stdin=content))


def _follow(demo: Demo, kubectl: Kubectl) -> None:
    demo.step("each job goes to one deployment, by weight, and stays there:")
    shown: set[tuple[str, ...]] = set()
    with Live(console=demo.console, auto_refresh=False, transient=True) as live:

        def all_finished() -> bool:
            found = kubectl.objects("batchfiles,batchjobs")
            rows = [_row(one) for one in found]
            if demo.console.is_terminal:
                live.update(_table(rows), refresh=True)
            for row in rows:
                if row not in shown and not demo.console.is_terminal:
                    demo.show(f"{demo.seconds()}  " + "  ".join(f"{part:11}" for part in row))
                    shown.add(row)
            return all(_is_true(one, "Finished") for one in found if one["kind"] == "BatchJob")

        demo.wait("all jobs are finished", all_finished, FINISH_SECONDS)


def _row(found: Object) -> tuple[str, ...]:
    """Kind, name, where it stands, on which deployments, how much is done."""
    kind, name, status = found["kind"], found["metadata"]["name"], found.get("status", {})
    if kind == "BatchFile":
        copies = status.get("deployments", [])
        held = [copy["name"] for copy in copies if copy["state"] == "Processed"]
        state = "Ready" if _is_true(found, "Ready") else "Pending"
        return kind, name, state, " ".join(held) or "-", f"{len(held)}/{len(copies)} copies"
    deployment = status.get("deployment", {}).get("name", "-")
    return kind, name, status.get("phase", "Pending"), deployment, f"{status.get('progress', '-')} requests"


def _table(rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table("kind", "name", "state", "deployment", "done", box=None, padding=(0, 2), header_style="dim")
    colours = {"Ready": "green", "Succeeded": "green", "Failed": "red"}
    for kind, name, state, *rest in rows:
        table.add_row(kind, name, Text(state, colours.get(state, "yellow")), *rest)
    return table


def _tell_results(demo: Demo, kubectl: Kubectl) -> None:
    for kind in ("modeldeployments", "batchfiles", "batchjobs"):
        demo.step(f"kubectl get {kind}")
        demo.show(kubectl("get", kind))
    jobs = kubectl.objects("batchjobs")
    if failed := [_why_failed(job) for job in jobs if not _is_true(job, "Complete")]:
        raise DemoError("; ".join(failed))
    path = r"jsonpath={.data.output\.jsonl}"
    demo.step(f"the first answers: kubectl get configmap run-1-output -o '{path}'")
    for line in kubectl("get", "configmap", "run-1-output", "-o", path).splitlines()[:3]:
        answer = json.loads(line)
        content = answer["response"]["body"]["choices"][0]["message"]["content"]
        demo.show(f"{answer['custom_id']:11}  {content}")
    demo.step("usage and cost, from each job's status:")
    for job in jobs:
        status = job["status"]
        usage, cost = status["usage"], status["cost"]
        tokens = f"{usage['inputTokens']} tokens in, {usage['outputTokens']} out"
        amount = f"{cost['amount']} {cost['currency']}" if "amount" in cost else "cost unknown"
        demo.show(f"{job['metadata']['name']}  {status['deployment']['name']:7} {tokens}, {amount} ({cost['source']})")


def _delete(demo: Demo, kubectl: Kubectl, emulator: str) -> None:
    demo.step("kubectl delete -f examples/demo/batchjobs.yaml -f examples/demo/batchfile.yaml")
    for name in ("batchjobs.yaml", "batchfile.yaml"):
        demo.show(kubectl("delete", "-f", str(EXAMPLES / name)))
    held = [_fetch(f"http://{emulator}/_emulator/accounts/{name}") for name in ACCOUNTS]
    left = sum(len(json.loads(one or "{}")["files"]) for one in held)
    demo.step(f"with them went their copies at the providers: {left} files are left there")


def _why_failed(job: Object) -> str:
    failed = next(one for one in job["status"]["conditions"] if one["type"] == "Failed")
    return f"{job['metadata']['name']} has failed, {failed['reason']}: {failed['message']}"


def _is_true(found: Object, type_: str) -> bool:
    conditions = found.get("status", {}).get("conditions", [])
    return any(one["type"] == type_ and one["status"] == "True" for one in conditions)


def _fetch(url: str) -> bytes | None:
    """What an address of this machine answers; None where it does not answer, or not with success."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return answer.read()
    except OSError:
        return None


def _failed(demo: Demo, why: str) -> int:
    errors = Console(stderr=True, highlight=False)
    errors.print(Text(f"the demo failed: {why}", "bold red"), soft_wrap=True)
    for name in demo.processes:
        lines = (demo.folder / f"{name}.log").read_text(errors="replace").splitlines()[-LOG_LINES:]
        errors.print(Text(f"--- the end of the {name}'s log"), soft_wrap=True)
        errors.print(Text("\n".join(lines)), soft_wrap=True)
    return 1


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
