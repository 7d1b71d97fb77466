"""A client of an emulator in this process, with a clock that tests turn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from support.emulator import chat_lines

PACE = {
    "validating_seconds": 10,
    "in_progress_seconds": 100,
    "finalizing_seconds": 10,
    "cancelling_seconds": 60,
    "file_processing_seconds": 8,
    "missing_input_seconds": 900,
}


def expires_after(seconds: int | str) -> dict[str, str]:
    """The fields of an upload that expires."""
    return {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(seconds)}


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Bench:
    """A client of one account of the emulator, and of its control API."""

    def __init__(self, client: TestClient[Any, Any], clock: Clock, spool_folder: Path) -> None:
        self.client = client
        self.clock = clock
        self._spool_folder = spool_folder
        self.prefix = "/v1"
        self.headers = {"Authorization": "Bearer key-1"}
        self.query: dict[str, str] = {}
        self.name = "acme"

    @property
    def spool(self) -> Path:
        """Where the contents of files lie."""
        return next(self._spool_folder.iterdir())

    async def account(self, **fields: Any) -> None:
        """Make the account, OpenAI's unless `resource` is given, and go on as its owner."""
        azure = "resource" in fields
        body = {"provider": "azure" if azure else "openai", "keys": ["key-1"], "pace": PACE, **fields}
        await self.control("PUT", "", body)
        if azure:
            self.prefix = f"/azure/{fields['resource']}/openai"
            self.headers = {"api-key": "key-1"}
            self.query = {"api-version": "2025-04-01-preview"}

    async def control(self, method: str, rest: str, body: Any = None, *, status: int = 200) -> Any:
        """Call the account's control API."""
        path = f"/_emulator/accounts/{self.name}" + (f"/{rest}" if rest else "")
        async with self.client.request(method, path, json=body) as response:
            answer = await response.json()
            assert response.status == status, answer
            return answer

    async def behave(self, **changes: Any) -> None:
        """Change the account's behaviour."""
        await self.control("PATCH", "behaviour", changes)

    async def call(self, method: str, path: str, *, status: int = 200, body: Any = None, **query: Any) -> Any:
        """Call the provider's API, expecting a status; the JSON that it answers."""
        async with self.client.request(
            method,
            self.prefix + path,
            headers=self.headers,
            params={**self.query, **{name: str(value) for name, value in query.items()}},
            json=body,
        ) as response:
            answer = await response.json()
            assert response.status == status, answer
            return answer

    async def upload(
        self,
        content: bytes | None = None,
        *,
        filename: str = "in.jsonl",
        status: int = 200,
        fields: Mapping[str, str] | None = None,
    ) -> Any:
        """Upload a file; the purpose is batch unless a field says otherwise."""
        form = FormData(quote_fields=False, default_to_multipart=True)
        for name, value in {"purpose": "batch", **(fields or {})}.items():
            form.add_field(name, value)
        form.add_field("file", chat_lines(10) if content is None else content, filename=filename)
        async with self.client.post(
            f"{self.prefix}/files", data=form, headers=self.headers, params=self.query
        ) as response:
            answer = await response.json()
            assert response.status == status, answer
            return answer

    async def create(self, file_id: str, *, status: int = 200, **fields: Any) -> Any:
        """Create a batch on chat completions."""
        endpoint = "/chat/completions" if self.query else "/v1/chat/completions"
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h", **fields}
        return await self.call("POST", "/batches", body=body, status=status)

    async def batch(self, content: bytes | None = None, **fields: Any) -> Any:
        """Upload a file and create a batch on it."""
        return await self.create((await self.upload(content))["id"], **fields)

    async def after(self, seconds: float, batch: Any) -> Any:
        """The batch as it is that much later."""
        self.clock.turn(seconds)
        return await self.call("GET", f"/batches/{batch['id']}")

    async def content(self, file_id: str) -> bytes:
        """A file's content."""
        async with self.client.get(
            f"{self.prefix}/files/{file_id}/content", headers=self.headers, params=self.query
        ) as response:
            assert response.status == 200
            return await response.read()

    async def lines(self, file_id: str) -> list[Any]:
        """A file's content, line by line."""
        return [orjson.loads(line) for line in (await self.content(file_id)).splitlines()]
