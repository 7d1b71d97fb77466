"""A real Prometheus that scrapes a process every second, and promtool."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml

from controlplane.ports import free_port
from support.cluster import poll
from toolchain.find import program
from toolchain.leash import leashed

READY_SECONDS = 30.0
SCRAPE = "1s"
Series = tuple[Mapping[str, str], Sequence[float]]
"""The labels, and the values that are numbers, oldest first."""


@dataclass(frozen=True)
class Prometheus:
    """A running server; its data are in its folder, its log too."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @classmethod
    def start(cls, folder: Path, target: str, labels: Mapping[str, str], rules: Path) -> Prometheus:
        """Start one that scrapes `target` (host:port) and evaluates `rules`; AssertionError if it does not start."""
        config = {
            "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {"job_name": "operator", "static_configs": [{"targets": [target], "labels": dict(labels)}]}
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        address, log = f"127.0.0.1:{free_port()}", folder / "prometheus.log"
        command = [str(program("prometheus")), f"--config.file={folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                leashed(command), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        started = cls(process, f"http://{address}", log)
        if not poll(started._ready_or_ended, READY_SECONDS) or process.poll() is not None:
            started.stop()
            raise AssertionError(f"Prometheus did not start\n{started.tail()}")
        return started

    def stop(self) -> None:
        """End it; its data are nobody's."""
        self.process.kill()
        self.process.wait()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def query(self, expression: str) -> list[Series]:
        """What an expression is now."""
        return _series(self._ask("query", query=expression)["result"], "value")

    def history(self, expression: str, start: float, end: float) -> list[Series]:
        """What an expression was each second from one time to another (seconds of the epoch)."""
        answer = self._ask("query_range", query=expression, start=start, end=end, step=SCRAPE)
        return _series(answer["result"], "values")

    def rules(self) -> list[dict[str, Any]]:
        """The rules, each with its health and last error."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, path: str, **parameters: str | float) -> Any:
        url = f"{self.url}/api/v1/{path}?{urlencode(parameters)}"
        answer = json.loads(urllib3.request("GET", url, timeout=30, retries=False).data)
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]

    def _ready_or_ended(self) -> bool:
        if self.process.poll() is not None:
            return True
        try:
            return urllib3.request("GET", f"{self.url}/-/ready", timeout=5, retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False


def promtool(*arguments: str | Path) -> str:
    """What promtool prints; AssertionError with it where it fails."""
    command = [str(program("promtool")), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def _series(result: Sequence[Mapping[str, Any]], key: str) -> list[Series]:
    found = []
    for one in result:
        points = [one[key]] if key == "value" else one[key]
        # NaN is what the quantile of nothing is: a panel shows no point there.
        found.append((one["metric"], [float(value) for _, value in points if value != "NaN"]))
    return found
