"""The emulator as an aiohttp application, and as a server on a port."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from llmbatch.emulator.accounts import Clock, Directory
from llmbatch.emulator.control import Control
from llmbatch.emulator.exchanges import Gate, Handler, json_answer
from llmbatch.emulator.openai.azure import Azure, classic
from llmbatch.emulator.openai.batches import Batches
from llmbatch.emulator.openai.dialects import Dialect
from llmbatch.emulator.openai.files import Files
from llmbatch.emulator.openai.openai import OpenAI
from llmbatch.emulator.settings import MEBIBYTE, EmulatorSettings
from llmbatch.emulator.spool import Spool

AZURE = "/azure/{resource}/openai"
SHUTDOWN_SECONDS = 1.0
CONTROL_BODY = 64 * MEBIBYTE
"""The most that the control API reads in one piece; uploads are streamed, and have limits of their own."""


def build_app(settings: EmulatorSettings, *, clock: Clock = time.time) -> web.Application:
    """The whole emulator: the providers' APIs and the control API."""
    spool = Spool(settings.spool_folder)
    directory = Directory(spool, clock)
    for account in settings.accounts:
        directory.put(account)
    gate = Gate(directory)
    app = web.Application(client_max_size=CONTROL_BODY)
    app.add_routes(Control(directory).routes())
    dialects: list[tuple[str, Dialect]] = [
        ("/v1", OpenAI()),
        (f"{AZURE}/v1", Azure()),
        (AZURE, classic()),
    ]
    files, batches = Files(spool), Batches()
    for prefix, dialect in dialects:
        for method, path, operation, handler in _operations(files, batches):
            app.router.add_route(method, prefix + path, gate.guard(operation, dialect, handler))
    app.router.add_route("*", "/azure/{tail:.*}", _nowhere(Azure()))
    app.router.add_route("*", "/{tail:.*}", _nowhere(OpenAI()))
    app.on_shutdown.append(_stop(gate))
    app.cleanup_ctx.append(_closing(spool))
    return app


async def serve(host: str, port: int, settings: EmulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT; says `emulator listening on http://HOST:PORT` on stdout when it is ready."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(build_app(settings), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        bound = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"emulator listening on http://{shown}:{bound}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await runner.cleanup()


def _operations(files: Files, batches: Batches) -> list[tuple[str, str, str, Handler]]:
    return [
        ("POST", "/files", "files.create", files.create),
        ("GET", "/files", "files.list", files.list),
        ("GET", "/files/{id}", "files.get", files.get),
        ("GET", "/files/{id}/content", "files.content", files.content),
        ("DELETE", "/files/{id}", "files.delete", files.delete),
        ("POST", "/batches", "batches.create", batches.create),
        ("GET", "/batches", "batches.list", batches.list),
        ("GET", "/batches/{id}", "batches.get", batches.get),
        ("POST", "/batches/{id}/cancel", "batches.cancel", batches.cancel),
    ]


def _nowhere(dialect: Dialect) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        refusal = dialect.unknown_path(request.method, request.path)
        return json_answer(refusal.status, dialect.error(refusal))

    return handle


def _stop(gate: Gate) -> Callable[[web.Application], Awaitable[None]]:
    async def stop(app: web.Application) -> None:
        gate.stopping.set()

    return stop


def _closing(spool: Spool) -> Callable[[web.Application], AsyncIterator[None]]:
    async def close(app: web.Application) -> AsyncIterator[None]:
        yield
        spool.close()

    return close
