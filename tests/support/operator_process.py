"""The operator as a real process of its own, the way a pod runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from prometheus_client.parser import text_string_to_metric_families

from controlplane.ports import free_port
from support.cluster import poll
from toolchain.leash import leashed

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
Sample = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class OperatorProcess:
    """One `llmbatch-operator run`; its log goes to a file."""

    process: subprocess.Popen[bytes]
    log: Path
    health_url: str
    metrics_url: str

    @classmethod
    def start(
        cls,
        kubeconfig: Path,
        namespaces: Sequence[str],
        log: Path,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        networks: Sequence[str] = ("127.0.0.0/8",),
    ) -> OperatorProcess:
        """Start one for these namespaces (none: all) that may reach these private networks.

        `flags` come last, so they win over the defaults of tests.
        """
        health, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "llmbatch", "run", "--no-leader-elect"]
        command += ["--poll-interval", "1", "--health-address", health, "--metrics-address", metrics]
        for namespace in namespaces:
            command += ["--namespace", namespace]
        for network in networks:
            command += ["--allow-network", network]
        source = Path(__file__).resolve().parents[2] / "operator"
        own = {"KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(source), **(environment or {})}
        with log.open("wb") as output:
            process = subprocess.Popen(
                leashed([*command, *flags]),
                env={**os.environ, **own}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        return cls(process, log, f"http://{health}", f"http://{metrics}")

    def wait_ready(self, timeout: float = READY_SECONDS) -> None:
        """Poll /readyz until it answers 200; AssertionError with the end of the log if it ends or never does."""

        def ready_or_gone() -> bool:
            return self.process.poll() is not None or self.ready()

        if not poll(ready_or_gone, timeout) or self.process.poll() is not None:
            raise AssertionError(f"the operator was not ready within {timeout} s\n{self.tail()}")

    def ready(self) -> bool:
        """Whether /readyz says so now."""
        return self.health("/readyz") == 200

    def health(self, path: str) -> int | None:
        """The status that the health address answers for a path; None when it answers nothing."""
        try:
            return urllib3.request("GET", self.health_url + path, timeout=5, retries=False).status
        except urllib3.exceptions.HTTPError:
            return None

    def kill(self) -> None:
        """SIGKILL, as a node that fails; returns when the process is gone. One that is gone already is well."""
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout: float = STOP_SECONDS) -> int:
        """SIGTERM, as the kubelet sends it; answers the exit status. AssertionError if it does not end in time."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the operator did not end within {timeout} s of SIGTERM\n{self.tail()}") from None

    def logs(self) -> list[dict[str, Any]]:
        """The log's records; a line that is no JSON object comes as {"message": line, "unparsed": True}."""
        return [_record(line) for line in self.log.read_text(errors="replace").splitlines() if line]

    def tail(self, lines: int = 80) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def metrics(self) -> dict[Sample, float]:
        """Every sample of /metrics by its name and labels."""
        text = urllib3.request("GET", f"{self.metrics_url}/metrics", timeout=5).data.decode()
        families = text_string_to_metric_families(text)
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name whose labels include these; 0 where there is none."""
        wanted = set(labels.items())
        return sum(value for (found, held), value in self.metrics().items() if found == name and wanted <= held)

    def cpu_seconds(self) -> float:
        """User and system time used so far (Linux: /proc/PID/stat, fields 14 and 15)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Memory in use (Linux: /proc/PID/statm)."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _record(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": line, "unparsed": True}
