"""The Files API."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from llmbatch.emulator.exchanges import Exchange
from llmbatch.emulator.openai import careless
from llmbatch.emulator.openai.objects import StoredFile
from llmbatch.emulator.openai.paging import read_page
from llmbatch.emulator.openai.representations import file_view
from llmbatch.emulator.openai.uploads import NotMultipart, Upload, receive
from llmbatch.emulator.refusals import Refusal
from llmbatch.emulator.spool import Spool

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
KNOWN_FIELDS = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})
AZURE_FILES_WITHOUT_EXPIRY = 500
SMALL = 1024 * 1024
"""Contents up to this are read into memory to be sent, in bytes."""


class Files:
    """The operations on files."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    async def create(self, exchange: Exchange) -> web.StreamResponse:
        """`POST /files`."""
        behaviour = exchange.behaviour
        try:
            upload = await receive(
                exchange.request,
                self._spool,
                max_bytes=behaviour.max_file_bytes,
                max_requests=behaviour.max_requests,
            )
        except NotMultipart:
            raise exchange.dialect.invalid(
                "The request body must be multipart/form-data.", code=None, param=None
            ) from None
        try:
            await exchange.begin(filename=upload.filename, fields=upload.fields)
            file = self._accept(exchange, upload)
        except BaseException:
            if upload.path:
                upload.path.unlink(missing_ok=True)
            raise
        exchange.record.file_id = exchange.record.id = file.id
        return exchange.answer(self._view(exchange, file))

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """`GET /files`."""
        await exchange.begin(query=dict(exchange.request.query))
        page = read_page(exchange, default=10_000, most=10_000)
        purpose = exchange.request.query.get("purpose")
        order = exchange.request.query.get("order", "desc")
        lag = exchange.behaviour.list_lag_seconds
        if exchange.fault and exchange.fault.kind == "list_lag":
            lag = exchange.fault.duration

        def shown(file: StoredFile) -> bool:
            known = exchange.now - file.created >= lag
            return known and file.is_there(exchange.now) and purpose in (None, file.purpose)

        try:
            found, more = exchange.account.files.page(
                after=page.after, limit=page.limit, order="oldest" if order == "asc" else "newest", keep=shown
            )
        except KeyError:
            raise exchange.dialect.no_such_file(page.after or "") from None
        view = page.view([self._view(exchange, file) for file in found], more=more)
        return exchange.answer(careless.page_view(view) if exchange.behaviour.careless else view)

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """`GET /files/{id}`."""
        file = await self._find(exchange)
        return exchange.answer(self._view(exchange, file))

    async def content(self, exchange: Exchange) -> web.StreamResponse:
        """`GET /files/{id}/content`."""
        file = await self._find(exchange)
        headers = {**exchange.headers, "Content-Type": "application/octet-stream"}
        if exchange.fault and exchange.fault.kind == "cut_body":
            return await _send_cut(exchange, file, headers, exchange.fault.body_bytes)
        if file.size <= SMALL:
            return web.Response(body=file.path.read_bytes(), headers=headers)
        return web.FileResponse(file.path, headers=headers)

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """`DELETE /files/{id}`."""
        file = await self._find(exchange)
        if exchange.behaviour.lock_files_in_use and exchange.account.in_use(file, exchange.now):
            raise Refusal(409, f"The file '{file.id}' is used by a batch that has not ended.", code="conflict")
        exchange.account.drop_file(file)
        return exchange.answer({"id": file.id, "object": "file", "deleted": True})

    async def _find(self, exchange: Exchange) -> StoredFile:
        file_id = exchange.request.match_info["id"]
        exchange.record.file_id = file_id
        await exchange.begin(id=file_id)
        file = exchange.account.live_file(file_id, exchange.now)
        if file is None:
            raise exchange.dialect.no_such_file(file_id)
        return file

    def _view(self, exchange: Exchange, file: StoredFile) -> dict[str, Any]:
        view = file_view(file, exchange.dialect, exchange.behaviour, exchange.now)
        return careless.file_view(view) if exchange.behaviour.careless else view

    def _accept(self, exchange: Exchange, upload: Upload) -> StoredFile:
        """Make a file of an upload. Raises Refusal."""
        dialect, behaviour, now = exchange.dialect, exchange.behaviour, exchange.now
        if upload.path is None:
            raise dialect.invalid(
                "Missing required parameter: 'file'.", code="missing_required_parameter", param="file"
            )
        purpose = _purpose(exchange, upload)
        if upload.size > behaviour.max_file_bytes:
            raise Refusal(
                413,
                f"Maximum content size limit ({behaviour.max_file_bytes}) exceeded ({upload.size} bytes read)",
                kind="server_error",
            )
        if purpose == "batch" and not (upload.filename or "").endswith(".jsonl"):
            raise dialect.invalid("Invalid file format for Batch API. Must be .jsonl", code=None, param=None)
        asked = _expires_after(exchange, upload.fields)
        ttl = asked if asked is not None else dialect.default_file_ttl if purpose == "batch" else None
        if asked is None:
            _check_room(exchange)
        fault = exchange.fault
        file_id = dialect.new_file_id()
        file = StoredFile(
            id=careless.new_id("files", file_id) if behaviour.careless else file_id,
            created=now,
            filename=upload.filename or "",
            purpose=purpose,
            size=upload.size,
            path=upload.path,
            verdict=upload.verdict,
            expires=None if ttl is None else now + ttl,
            expiry_asked=asked is not None,
            ready=now + (behaviour.pace.file_processing_seconds if dialect.provider == "azure" else 0.0),
            fault="The file could not be processed." if fault and fault.kind == "file_error" else None,
        )
        exchange.account.files.add(file)
        return file


def _purpose(exchange: Exchange, upload: Upload) -> str:
    purpose = upload.fields.get("purpose")
    if purpose is None:
        raise exchange.dialect.invalid(
            "Missing required parameter: 'purpose'.", code="missing_required_parameter", param="purpose"
        )
    if purpose not in PURPOSES:
        listed = ", ".join(f"'{name}'" for name in PURPOSES)
        raise exchange.dialect.invalid(
            f"Invalid value for purpose. '{purpose[:64]}' is not one of [{listed}] - 'purpose'",
            code="invalid_value",
            param="purpose",
        )
    unknown = sorted(upload.fields.keys() - KNOWN_FIELDS)
    if unknown:
        raise exchange.dialect.invalid(
            f"Unknown parameter: '{unknown[0][:64]}'.", code="unknown_parameter", param=unknown[0][:64]
        )
    return purpose


def _expires_after(exchange: Exchange, fields: dict[str, str]) -> int | None:
    """The seconds of `expires_after`, or None where it wasn't sent. Raises Refusal."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    for name, value in (("anchor", anchor), ("seconds", seconds)):
        if value is None:
            raise exchange.dialect.invalid(
                f"Missing required parameter: 'expires_after.{name}'.",
                code="missing_required_parameter",
                param=f"expires_after.{name}",
            )
    return check_expires_after(exchange, anchor, seconds, "expires_after", exchange.dialect.file_ttl)


def check_expires_after(exchange: Exchange, anchor: object, seconds: object, name: str, bounds: tuple[int, int]) -> int:
    """The seconds of an expiry that was asked for. Raises Refusal."""
    if anchor != "created_at":
        raise exchange.dialect.invalid(
            f"Invalid value for '{name}.anchor'. Supported values are: 'created_at'.",
            code="invalid_value",
            param=f"{name}.anchor",
        )
    least, most = bounds
    try:
        value = int(str(seconds))
    except ValueError:
        raise exchange.dialect.invalid(
            f"Invalid type for '{name}.seconds': expected an integer.", code="invalid_type", param=f"{name}.seconds"
        ) from None
    if not least <= value <= most:
        side, word = ("below minimum", ">=") if value < least else ("above maximum", "<=")
        raise exchange.dialect.invalid(
            f"Invalid '{name}.seconds': integer {side} value. "
            f"Expected a value {word} {least if value < least else most}, but got {value} instead.",
            code=f"integer_{side.replace('minimum', 'min').replace('maximum', 'max').replace(' ', '_')}_value",
            param=f"{name}.seconds",
        )
    return value


def _check_room(exchange: Exchange) -> None:
    """Refuse a file without expiry when there are too many of those. Microsoft: 500 a resource."""
    most = exchange.behaviour.files_without_expiry
    if most is None:
        if exchange.dialect.provider == "openai":
            return
        most = AZURE_FILES_WITHOUT_EXPIRY
    lasting = sum(
        1
        for file in exchange.account.files
        if file.purpose == "batch" and not file.expiry_asked and file.is_there(exchange.now)
    )
    if lasting >= most:
        raise Refusal(
            400,
            f"The resource has reached its limit of {most} files. Delete files that are no longer needed, "
            "or set expires_after when uploading.",
            code="quotaExceeded",
        )


async def _send_cut(exchange: Exchange, file: StoredFile, headers: dict[str, str], length: int) -> web.StreamResponse:
    """Send the first bytes of a content that was announced whole, and end the connection."""
    response = web.StreamResponse(headers=headers)
    response.content_length = file.size
    await response.prepare(exchange.request)
    with file.path.open("rb") as content:
        await response.write(content.read(min(length, max(file.size - 1, 0))))
    # What was written goes out before the end, unlike with abort().
    if exchange.request.transport is not None:
        exchange.request.transport.close()
    return response
