"""The emulator as a process, and a small client of its control API, for tests of what talks to a provider."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

import httpx2
import orjson

from toolchain.leash import leashed

FAST: Mapping[str, float] = {
    "validating_seconds": 0.0,
    "in_progress_seconds": 0.2,
    "finalizing_seconds": 0.0,
    "cancelling_seconds": 0.1,
    "file_processing_seconds": 0.0,
    "missing_input_seconds": 0.2,
}
"""The pace of accounts that a test makes without naming one."""


def chat_lines(
    count: int, *, model: str = "gpt-4o-mini", url: str = "/v1/chat/completions", text: str = "What is 6 times 7?"
) -> bytes:
    """JSON lines for a batch: `count` chat requests with the ids `request-0`, `request-1`, …"""
    return b"".join(
        orjson.dumps(
            {
                "custom_id": f"request-{at}",
                "method": "POST",
                "url": url,
                "body": {"model": model, "messages": [{"role": "user", "content": text}]},
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for at in range(count)
    )


START_SECONDS = 30.0
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Call:
    """One call that an account answered; `status` is 0 where it got no answer, `key` counts the account's keys."""

    time: float
    operation: str
    status: int
    key: int | None
    id: str | None
    file_id: str | None
    batch_id: str | None
    deployment: str | None
    fault: str | None
    user_agent: str


@dataclass(frozen=True)
class Calls:
    """What an account was asked since it was made, or since `clear_calls`."""

    total: int
    operations: Mapping[str, Mapping[str, Any]]
    log: Sequence[Call]

    def count(self, operation: str, status: int | None = None) -> int:
        """How often an operation was called, with any status or with this one."""
        entry = self.operations.get(operation, {"count": 0, "by_status": {}})
        return int(entry["count"] if status is None else entry["by_status"].get(str(status), 0))


class Account:
    """One account of a running emulator."""

    def __init__(self, client: httpx2.Client, root: str, settings: Mapping[str, Any]) -> None:
        self._client = client
        self._root = root
        self.name: str = settings["name"]
        self.provider: Literal["openai", "azure"] = settings["provider"]
        self.resource: str | None = settings["resource"]
        self.keys: list[str] = list(settings["keys"])

    @property
    def key(self) -> str:
        """The first of its keys."""
        return self.keys[0]

    @property
    def url(self) -> str:
        """What goes into a ModelDeployment: OpenAI's baseURL, or Azure's endpoint."""
        return f"{self._root}/v1" if self.provider == "openai" else f"{self._root}/azure/{self.resource}"

    def calls(self, *, since: float = 0.0, operation: str | None = None) -> Calls:
        """What it was asked; the log can be narrowed, the counts are always of everything."""
        query: dict[str, Any] = {"since": since} | ({"operation": operation} if operation else {})
        view = self._call("GET", "calls", params=query)
        return Calls(view["total"], view["operations"], [Call(**entry) for entry in view["log"]])

    def clear_calls(self) -> None:
        """Begin to count anew."""
        self._call("DELETE", "calls")

    def batches(self, *, foreign: bool = False) -> list[dict[str, Any]]:
        """Its batches as the provider shows them, oldest first; somebody else's only when asked for."""
        return [batch for batch in self._call("GET", "")["batches"] if foreign or not batch["foreign"]]

    def batch(self, batch_id: str) -> dict[str, Any]:
        """One of its batches. Raises KeyError."""
        for batch in self.batches(foreign=True):
            if batch["id"] == batch_id:
                return batch
        raise KeyError(batch_id)

    def files(self, *, purpose: str | None = None) -> list[dict[str, Any]]:
        """The files that are there, oldest first: inputs (`batch`) and results (`batch_output`)."""
        return [file for file in self._call("GET", "")["files"] if purpose in (None, file["purpose"])]

    def content(self, file_id: str) -> bytes:
        """A file's content; not counted as a call."""
        response = self._client.get(self._path(f"files/{quote(file_id, safe='')}/content"))
        response.raise_for_status()
        return response.content

    def lines(self, file_id: str) -> list[dict[str, Any]]:
        """A file's content, line by line."""
        return [orjson.loads(line) for line in self.content(file_id).splitlines() if line.strip()]

    def behaviour(self, **changes: Any) -> None:
        """Change how it behaves: any field of the emulator's Behaviour, a pace's fields beside them."""
        self._call("PATCH", "behaviour", json=changes)

    def hold(self, state: str | bool = True) -> None:
        """Let batches stay in a state (`True`: in_progress) until `release`."""
        self.behaviour(hold=state)

    def release(self) -> None:
        """Let batches go on."""
        self.behaviour(hold=False)

    def rotate(self, *keys: str) -> None:
        """Give it other keys; the old ones are answered with 401."""
        self.behaviour(keys=list(keys))
        self.keys = list(keys)

    def fault(self, kind: str, operation: str = "*", **fields: Any) -> None:
        """Ask for a fault: `times` (or "always"), `match`, `status`, `retry_after`, `seconds`, `body_bytes`."""
        self._call("POST", "faults", json={"kind": kind, "operation": operation, **fields})

    def faults(self) -> list[dict[str, Any]]:
        """The faults that have not happened yet."""
        return self._call("GET", "faults")["faults"]

    def clear_faults(self) -> None:
        """Take back the faults that have not happened yet."""
        self._call("DELETE", "faults")

    def foreign_batches(self, count: int, *, age_seconds: float = 3600.0, **fields: Any) -> None:
        """Let somebody else have batches in this account."""
        self._call("POST", "foreign-batches", json={"count": count, "age_seconds": age_seconds, **fields})

    def advance(self, batch_id: str, state: str, **fields: Any) -> dict[str, Any]:
        """Put a batch into a state at once; `code` and `message` go with `failed`."""
        return self._call("POST", f"batches/{quote(batch_id, safe='')}/advance", json={"state": state, **fields})

    def expire_file(self, file_id: str, *, left: float = 0.0) -> None:
        """Let a file's time be over, or let it have only so many seconds."""
        self._call("POST", f"files/{quote(file_id, safe='')}/expire", json={"left_seconds": left})

    def delete_file(self, file_id: str) -> None:
        """Delete a file behind its owner's back."""
        self._call("DELETE", f"files/{quote(file_id, safe='')}")

    def remove(self) -> None:
        """Forget the account; its keys are unknown from now on."""
        self._call("DELETE", "")

    def _path(self, rest: str) -> str:
        return f"{self._root}/_emulator/accounts/{self.name}" + (f"/{rest}" if rest else "")

    def _call(self, method: str, rest: str, **options: Any) -> Any:
        return _checked(self._client.request(method, self._path(rest), **options))


class Emulator:
    """A process that serves the emulator on a free port. Use it in a `with`, or end it with `stop` or `kill`.

    It ends with the thread that started it, however that ended; start it from the main thread.
    """

    def __init__(self, config: Path | None = None, *, port: int = 0, python: str = sys.executable) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="emulator-"))
        self._log = (self._folder / "stderr").open("wb")
        command = [python, "-m", "llmbatch.emulator", "--port", str(port)]
        command += ["--config", str(config)] if config else []
        self.process = subprocess.Popen(
            leashed(command, signal.SIGTERM),
            stdout=subprocess.PIPE,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            env=_environment(self._folder),
            start_new_session=True,
        )
        try:
            self.url = self._wait_for_address()
        except BaseException:
            self.kill()
            raise
        # Straight to loopback, whatever proxy the environment names.
        self._client = httpx2.Client(timeout=60.0, trust_env=False)

    def __enter__(self) -> Emulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def account(
        self,
        name: str,
        *,
        provider: Literal["openai", "azure"] | None = None,
        keys: Sequence[str] | None = None,
        pace: Mapping[str, float] = FAST,
        **fields: Any,
    ) -> Account:
        """Make an account, or give one of that name other settings.

        Without a provider it is Azure where `resource` or `deployments` is given, else OpenAI; an Azure account's
        resource is its name unless said otherwise, and its one key is made from its name.
        """
        azure = provider == "azure" or (provider is None and bool(fields.keys() & {"resource", "deployments"}))
        body: dict[str, Any] = {
            "provider": "azure" if azure else "openai",
            "keys": list(keys) if keys else [f"key-of-{name}"],
            "pace": {**FAST, **pace},
            **fields,
        }
        if azure:
            body.setdefault("resource", name)
        settings = _checked(self._client.put(f"{self.url}/_emulator/accounts/{name}", json=body))
        return Account(self._client, self.url, settings)

    def existing(self, name: str) -> Account:
        """An account that is there already, as one of a configuration."""
        settings = _checked(self._client.get(f"{self.url}/_emulator/accounts/{name}"))["settings"]
        return Account(self._client, self.url, settings)

    def strangers(self) -> int:
        """How many calls came with a key that no account ever had."""
        return int(_checked(self._client.get(f"{self.url}/_emulator/health"))["strangers"])

    def stop(self) -> None:
        """End it as a supervisor would, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._tidy()

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self._tidy()

    def _tidy(self) -> None:
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._log.close()
        if hasattr(self, "_client"):
            self._client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_for_address(self) -> str:
        """The address from the line that says it is ready. Raises RuntimeError."""
        assert self.process.stdout is not None
        stream, read, deadline = self.process.stdout.fileno(), b"", time.monotonic() + START_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([stream], [], [], left)[0]:
                break
            piece = os.read(stream, 65536)
            if not piece:
                break
            read += piece
            for line in read.decode().split("\n")[:-1]:
                if line.startswith("emulator listening on "):
                    return line.removeprefix("emulator listening on ").strip()
        told = (self._folder / "stderr").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the emulator did not start: {told}")


def _environment(folder: Path) -> dict[str, str]:
    """This process's environment; its modules can be imported there, and what it spools goes with `folder`."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}


def _checked(response: httpx2.Response) -> Any:
    """A control answer's JSON. Raises AssertionError with the emulator's reason."""
    assert response.status_code < 400, f"{response.request.method} {response.request.url}: {response.text}"
    return response.json()
