"""The control API under `/_emulator`: set accounts up, look into them, and ask for trouble. It needs no key."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError

from llmbatch.emulator.accounts import Account, Directory
from llmbatch.emulator.exchanges import json_answer
from llmbatch.emulator.faults import Fault
from llmbatch.emulator.openai.azure import Azure
from llmbatch.emulator.openai.dialects import Dialect
from llmbatch.emulator.openai.objects import Batch
from llmbatch.emulator.openai.openai import OpenAI
from llmbatch.emulator.openai.processing import lifecycle
from llmbatch.emulator.openai.representations import batch_view, file_view
from llmbatch.emulator.refusals import LineError
from llmbatch.emulator.settings import AccountSettings, BatchState

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ForeignBatches(BaseModel):
    """Batches of somebody else who uses the same account: `count` of them, the first `age_seconds` old."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(ge=1, le=1_000_000)
    age_seconds: NonNegativeFloat = 3_600.0
    spread_seconds: NonNegativeFloat = 0.0
    """They were created over this time, before that age."""
    state: Literal["completed", "in_progress", "failed", "expired", "cancelled"] = "completed"
    metadata: dict[str, str] = Field(default_factory=lambda: {"origin": "foreign"})


class NewState(BaseModel):
    """The state to put a batch into; `code` and `message` go with `failed`."""

    model_config = ConfigDict(extra="forbid")

    state: BatchState
    code: str = "server_error"
    message: str = "The batch failed for a reason of the service's own."


class Expiry(BaseModel):
    """How long a file still has."""

    model_config = ConfigDict(extra="forbid")

    left_seconds: NonNegativeFloat = 0.0


class Control:
    """The handlers of the control API."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def routes(self) -> list[web.RouteDef]:
        """All its routes."""
        account = "/_emulator/accounts/{name}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/_emulator/health", self.health),
            ("PUT", account, self.put_account),
            ("GET", account, self.get_account),
            ("DELETE", account, self.delete_account),
            ("GET", f"{account}/calls", self.calls),
            ("DELETE", f"{account}/calls", self.clear_calls),
            ("PATCH", f"{account}/behaviour", self.change_behaviour),
            ("GET", f"{account}/faults", self.list_faults),
            ("POST", f"{account}/faults", self.add_fault),
            ("DELETE", f"{account}/faults", self.clear_faults),
            ("POST", f"{account}/foreign-batches", self.add_foreign),
            ("POST", f"{account}/batches/{{id}}/advance", self.advance),
            ("GET", f"{account}/files/{{id}}/content", self.content),
            ("POST", f"{account}/files/{{id}}/expire", self.expire_file),
            ("DELETE", f"{account}/files/{{id}}", self.delete_file),
        ]
        return [web.route(method, path, _explained(handler)) for method, path, handler in table]

    async def health(self, request: web.Request) -> web.Response:
        """Whether it runs, its accounts, and how many calls came with a key that none of them ever had."""
        directory = self._directory
        return json_answer(
            200, {"status": "ok", "accounts": sorted(directory.accounts), "strangers": directory.strangers}
        )

    async def put_account(self, request: web.Request) -> web.Response:
        """Make an account, or give it other settings; what it holds stays."""
        name = request.match_info["name"]
        account = self._directory.put(AccountSettings.model_validate({**await _body(request), "name": name}))
        return json_answer(200, account.settings.model_dump())

    async def get_account(self, request: web.Request) -> web.Response:
        """Everything an account holds, contents excepted."""
        account, now = self._account(request), self._directory.clock()
        dialect = _dialect(account)
        batches = [account.look(batch, now) for batch in account.batches]
        await account.settle(batches)
        return json_answer(
            200,
            {
                "settings": account.settings.model_dump(),
                "files": [
                    file_view(file, dialect, account.behaviour, now) for file in account.files if file.is_there(now)
                ],
                "batches": [
                    {**batch_view(batch, dialect, account.behaviour, now), "foreign": batch.foreign}
                    for batch in batches
                ],
            },
        )

    async def delete_account(self, request: web.Request) -> web.Response:
        """Forget an account and what it holds."""
        self._account(request)
        self._directory.remove(request.match_info["name"])
        return json_answer(200, {})

    async def calls(self, request: web.Request) -> web.Response:
        """The record of calls; `?since=` and `?operation=` narrow the log."""
        log = self._account(request).calls
        since = float(request.query.get("since", "0"))
        return json_answer(200, log.view(since=since, operation=request.query.get("operation")))

    async def clear_calls(self, request: web.Request) -> web.Response:
        """Begin to count anew."""
        self._account(request).calls.clear()
        return json_answer(200, {})

    async def change_behaviour(self, request: web.Request) -> web.Response:
        """Change some fields of an account's behaviour; `keys` may be among them."""
        account = self._account(request)
        changes = await _body(request)
        settings = account.settings.model_dump()
        if "keys" in changes:
            settings["keys"] = changes.pop("keys")
        settings["behaviour"] = account.behaviour.patched(changes)
        account = self._directory.put(AccountSettings.model_validate(settings))
        return json_answer(200, account.behaviour.model_dump())

    async def list_faults(self, request: web.Request) -> web.Response:
        """The faults that have not happened yet."""
        return json_answer(200, {"faults": self._account(request).faults.view()})

    async def add_fault(self, request: web.Request) -> web.Response:
        """Ask for a fault."""
        account = self._account(request)
        account.faults.add(Fault.model_validate(await _body(request)))
        return json_answer(200, {"faults": account.faults.view()})

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Take back the faults that have not happened yet."""
        self._account(request).faults.clear()
        return json_answer(200, {})

    async def add_foreign(self, request: web.Request) -> web.Response:
        """Put batches of somebody else into the account."""
        account, now = self._account(request), self._directory.clock()
        asked = ForeignBatches.model_validate(await _body(request))
        dialect = _dialect(account)
        for at in range(asked.count):
            created = now - asked.age_seconds - asked.spread_seconds * (1 - (at + 1) / asked.count)
            batch = Batch(
                id=dialect.new_batch_id(),
                created=created,
                input_file_id=f"file-foreign{secrets.token_hex(6)}",
                endpoint="/v1/chat/completions",
                metadata=dict(asked.metadata),
                requests=1,
                foreign=True,
            )
            lifecycle.force(batch, asked.state, account.behaviour, created)
            account.batches.add(batch)
        return json_answer(200, {"batches": len(account.batches)})

    async def advance(self, request: web.Request) -> web.Response:
        """Put a batch into a state at once."""
        account, now = self._account(request), self._directory.clock()
        asked = NewState.model_validate(await _body(request))
        batch = account.batches.get(request.match_info["id"])
        if batch is None:
            return _problem(404, "there is no such batch")
        account.look(batch, now)
        if batch.is_over:
            return _problem(409, f"the batch is {batch.state} already, and stays so")
        lifecycle.force(batch, asked.state, account.behaviour, now, LineError(asked.code, asked.message))
        if batch.is_over:
            account.look(batch, now)
            await account.settle([batch])
        return json_answer(200, batch_view(batch, _dialect(account), account.behaviour, now))

    async def content(self, request: web.Request) -> web.StreamResponse:
        """A file's content, without a call being counted."""
        file = self._account(request).live_file(request.match_info["id"], self._directory.clock())
        if file is None:
            return _problem(404, "there is no such file")
        return web.FileResponse(file.path, headers={"Content-Type": "application/octet-stream"})

    async def expire_file(self, request: web.Request) -> web.Response:
        """Let a file's time be over, or let it have only `left_seconds`."""
        account, now = self._account(request), self._directory.clock()
        asked = Expiry.model_validate(await _body(request))
        file = account.live_file(request.match_info["id"], now)
        if file is None:
            return _problem(404, "there is no such file")
        file.expires = now + asked.left_seconds
        return json_answer(200, {})

    async def delete_file(self, request: web.Request) -> web.Response:
        """Delete a file behind its owner's back."""
        account = self._account(request)
        file = account.live_file(request.match_info["id"], self._directory.clock())
        if file is None:
            return _problem(404, "there is no such file")
        account.drop_file(file)
        return json_answer(200, {})

    def _account(self, request: web.Request) -> Account:
        account = self._directory.accounts.get(request.match_info["name"])
        if account is None:
            raise LookupError("there is no such account")
        return account


def _dialect(account: Account) -> Dialect:
    return OpenAI() if account.settings.provider == "openai" else Azure()


def _explained(handler: Handler) -> Handler:
    """Answer what can't be done with a sentence that says why."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            return _problem(400, "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems))
        except LookupError as error:
            return _problem(404, str(error.args[0]))
        except ValueError as error:
            return _problem(400, str(error))

    return handle


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    body = orjson.loads(raw) if raw else {}
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    return body


def _problem(status: int, message: str) -> web.Response:
    return json_answer(status, {"error": {"message": message}})
