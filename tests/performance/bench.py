"""`make bench`: what a job costs the operator, on a real API server, against limits.

Pairs: one 100-line file and one job on it at a time for each of 8 lanes, batches of 5 s, polling every 2 s, with the
emulator as provider. CPU is the operator's own (user and system), less what it uses idle over the same time. As a floor
for the machine the same run measures a bare asyncio HTTP client: CPU for one keep-alive GET of the emulator.

Jobs: many at once on a file that is there, with a provider that answers at once, beside the floor of the same calls.

Stored: a start among finished jobs, and the memory they take.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

from controlplane.binaries import ensure_binaries
from controlplane.session import Session, await_address
from performance import jobs, stored
from performance.jobs import calls
from support.cluster import Cluster, condition
from support.emulator import Emulator, chat_lines
from support.operator_process import READY_SECONDS, OperatorProcess
from support.world import MODEL, World

ROOT = Path(__file__).resolve().parents[2]
LANES = 8
LINES = 100
POLL_SECONDS = 2
FLOOR_CALLS = 2000
PACE = {"validating_seconds": 0.5, "in_progress_seconds": 4.0, "finalizing_seconds": 0.5}


@dataclass(frozen=True)
class Figure:
    """One measured figure and its limit."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def kept(self) -> bool:
        """Whether the limit holds."""
        return self.value <= self.limit

    def __str__(self) -> str:
        mark = "ok  " if self.kept else "OVER"
        return f"  {mark} {self.name:<58} {self.value:9.2f} {self.unit:<7} (limit {self.limit:g})"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[Cluster, Emulator]]:
    """A control plane and an emulator."""
    ensure_binaries()
    session = Session.begin(manifests=[ROOT / "crds"])
    try:
        with Emulator() as emulator:
            yield Cluster.at(await_address(session.folder)), emulator
    finally:
        session.stop()


def operator(
    cluster: Cluster, folder: Path, name: str, namespaces: Sequence[str] = (), within: float = READY_SECONDS
) -> OperatorProcess:
    """An operator that watches everything, as it is run by default, or some namespaces."""
    flags = ["--poll-interval", str(POLL_SECONDS), "--probe-interval", "30"]
    process = OperatorProcess.start(cluster.kubeconfig, namespaces, folder / f"{name}.log", flags)
    process.wait_ready(within)
    return process


def floor_ms() -> float:
    """CPU milliseconds of this process for one GET over a kept-alive connection with httpx2, 8 in flight."""

    async def calls(url: str) -> None:
        async with httpx2.AsyncClient() as client:
            await client.get(url)

            async def lane() -> None:
                for _ in range(FLOOR_CALLS // LANES):
                    await client.get(url)

            before = _cpu()
            await asyncio.gather(*(lane() for _ in range(LANES)))
            used.append(_cpu() - before)

    used: list[float] = []
    with Emulator() as emulator:
        asyncio.run(calls(f"{emulator.url}/_emulator/health"))
    return used[0] / FLOOR_CALLS * 1000


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def idle(process: OperatorProcess, seconds: float) -> tuple[float, float]:
    """CPU seconds a second, and resident MB, of an operator without work."""
    before = process.cpu_seconds()
    time.sleep(seconds)
    return (process.cpu_seconds() - before) / seconds, process.resident_bytes() / 1e6


def jobs_cpu(world: World, process: OperatorProcess, count: int, *, prefix: str = "") -> tuple[float, float]:
    """CPU seconds and wall seconds of so many pairs of a file and a job, 8 at a time."""
    content = chat_lines(LINES, model=MODEL, text="Tell me something worth knowing about the number below. " * 4)
    begun, cpu = time.monotonic(), process.cpu_seconds()
    waiting = list(range(count))
    under_way: set[int] = set()
    while waiting or under_way:
        while waiting and len(under_way) < LANES:
            at = waiting.pop(0)
            world.file(f"{prefix}file-{at}", lines=content)
            output = {"configMap": {"name": f"{prefix}out-{at}"}}
            world.job(f"{prefix}job-{at}", file=f"{prefix}file-{at}", output=output)
            under_way.add(at)
        done = {
            int(job["metadata"]["name"].rpartition("-")[2])
            for job in world.cluster.list("BatchJob", world.namespace)
            if job["metadata"]["name"].startswith(f"{prefix}job-")
            and (condition(job, "Finished") or {}).get("status") == "True"
        }
        under_way -= done
        time.sleep(0.1)
        if time.monotonic() - begun > 60 + count * 5:
            raise SystemExit(f"only {len(done)} of {count} jobs finished\n{process.tail()}")
    return process.cpu_seconds() - cpu, time.monotonic() - begun


def writes(world: World) -> Counter[str]:
    """The operator's API writes so far, by resource."""
    return Counter(write.resource for write in world.cluster.writes(world.namespace))


def main() -> int:
    """Measure, print, and answer 1 if a limit is not kept."""
    parser = argparse.ArgumentParser(description="What a file and a job on it cost the operator, against limits.")
    parser.add_argument("--jobs", type=int, default=200, help="pairs of a file and a job (200)")
    parser.add_argument("--at-once", type=int, default=600, help="jobs on one file, created at once (600)")
    parser.add_argument("--stored", type=int, default=10_000, help="finished jobs that are there at a start (10000)")
    parser.add_argument("--idle-seconds", type=float, default=60, help="before memory is read (60)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    floor = floor_ms()
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as (cluster, emulator):
        folder = Path(name)
        world = World(cluster, "bench")
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}, "")
        process = operator(cluster, folder, "operator")
        try:
            idle_rate, memory = idle(process, options.idle_seconds)
            account = emulator.account("bench", pace=PACE)
            world.openai("openai", account)
            world.ready("ModelDeployment", "openai")
            jobs_cpu(world, process, LANES, prefix="warm-")  # imports, connections and caches are paid for once
            account.clear_calls()
            account.clear_calls()
            before, calls_before = writes(world), calls(process)
            cpu, seconds = jobs_cpu(world, process, options.jobs)
            # The list at the very beginning opens the first interval.
            lists = (account.calls().count("batches.list") - 1) / (seconds / POLL_SECONDS)
            made, called = writes(world) - before, calls(process) - calls_before
            finished = world.get("BatchJob", "job-0")
        finally:
            process.kill()
        jobs_alone = jobs.measure(
            cluster, emulator, lambda name: operator(cluster, folder, name, [name]), options.at_once
        )
        there = stored.measure(
            cluster,
            lambda name, within: operator(cluster, folder, name, [name], within),
            finished,
            options.stored,
        )
    each = (cpu - idle_rate * seconds) / options.jobs * 1000
    figures = [
        Figure("operator CPU for a file and a job, less idle", each, 30, "ms"),
        Figure("memory after idling without objects", memory, 120, "MB"),
        Figure("API writes a job", made["batchjobs"] / options.jobs, 5, ""),
        Figure("lists of an account for each poll interval", lists, 1.0, ""),
        Figure("a job on a file that is there, CPU", jobs_alone.each, 20, "ms"),
        Figure("the same, in floors of the same calls", jobs_alone.each / jobs_alone.floor.each, 2.0, "floors"),
        Figure("API writes of such a job", jobs_alone.writes, 5, ""),
        Figure("seconds of creation to submitted for 35 jobs", 35 / jobs_alone.rate, 1.0, "s"),
        Figure("CPU of a start for each finished job", there.start, 0.3, "ms"),
        Figure("API writes of a start", there.writes, 0, ""),
        Figure("memory for each finished job", there.memory, 8, "KB"),
    ]
    print(f"{options.jobs} files of {LINES} lines and jobs on them, {LANES} at a time, in {seconds:.0f} s")
    print(f"  floor: one kept-alive GET with httpx2 costs {floor:.2f} ms; a pair costs {each / floor:.0f} of them")
    print(f"  idle: {idle_rate * 100:.2f} % of a core; API writes a file: {made['batchfiles'] / options.jobs:.2f}")
    told = ", ".join(f"{what} {count / options.jobs:.2f}" for what, count in sorted(called.items()) if count)
    print(f"  calls a pair: {told}")
    print(
        f"{options.at_once} jobs of {jobs.LINES} lines at once: {jobs_alone.submitted:.1f} ms until submitted (floor"
        f" {jobs_alone.floor.submitted:.1f}), {jobs_alone.finished:.1f} from the batch's end to finished (floor"
        f" {jobs_alone.floor.finished:.1f}), {jobs_alone.rate:.0f} jobs a second created to submitted"
    )
    print(f"{there.count} finished jobs of {there.bytes} bytes: ready after {there.ready:.1f} s")
    for figure in figures:
        print(figure)
    if options.json:
        options.json.write_text(json.dumps({figure.name: figure.value for figure in figures}, indent=2) + "\n")
    return 0 if all(figure.kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
