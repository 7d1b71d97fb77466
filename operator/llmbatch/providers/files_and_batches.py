"""The Files and Batches APIs, in the form that OpenAI gave them and Azure took over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Literal, TypeAlias
from urllib.parse import quote, urlencode

import msgspec

from llmbatch.domain.errors import BadAnswer, NoAnswer, NotFound, Refused, Unavailable
from llmbatch.domain.remote import BatchState, Capabilities, RemoteBatch, RemoteFile, UnreadableBatch
from llmbatch.providers import wire
from llmbatch.providers.http.calls import Account, Call
from llmbatch.providers.http.multipart import Form
from llmbatch.providers.protocol import AccountID
from llmbatch.providers.target import Target

Method: TypeAlias = Literal["GET", "POST", "DELETE"]
MOST_PAGES = 1000
MOST_ENTRIES = 1000
"""In a page; more than any page that is asked for."""
MOST_UNPAGED = 30_000
UNPAGED_BYTES = 16 * 1024 * 1024
"""Of a list that comes as a whole, however long it is."""
AT_ONCE = 100
"""Objects of a page that are decoded before others get their turn; a hostile page takes 3 ms for so many."""
_FILE_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


class FilesAndBatches:
    """A `BatchProvider` for APIs of this form; the target says where they are and how they differ."""

    def __init__(self, target: Target, account: Account) -> None:
        self._target = target
        self._account = account

    @property
    def capabilities(self) -> Capabilities:
        return self._target.capabilities

    @property
    def identity(self) -> AccountID:
        return self._account.identity

    async def upload(
        self, lines: AsyncIterator[bytes], *, name: str, ttl: timedelta | None, size: int | None = None
    ) -> RemoteFile:
        if not _FILE_NAME.fullmatch(name):
            raise ValueError("a file's name is of letters, digits, dot, underscore and hyphen")
        count = 0

        def add(sent: int) -> None:
            nonlocal count
            count += sent

        form = Form(self._upload_fields(ttl), name=name, content=lines, size=size, sent=add)
        timeouts = self._account.settings.timeouts
        call = self._call("files.create", "POST", "/files")
        headers = {"Content-Type": form.content_type}
        if form.length is not None:
            headers["Content-Length"] = str(form.length)
        call = replace(
            call,
            headers=headers,
            content=form,
            lane="upload",
            repeatable=False,
            total=timeouts.transfer,
            answer_within=timeouts.upload_answer,
        )
        remote = wire.decode_file(await self._account.ask(call), self._target.file_states)
        self._account.uploaded(count)
        return remote

    async def get_file(self, file_id: str) -> RemoteFile:
        call = self._call_by_id("files.get", "GET", "/files", file_id)
        found = wire.decode_file(await self._account.ask(call), self._target.file_states, file_id)
        _check_id(call, found.id, file_id)
        return found

    async def list_files(self) -> AsyncIterator[RemoteFile]:
        size = self._target.files_page
        query = dict(self._target.files_query) | ({} if size is None else {"limit": str(size)})
        async for page in self._pages("files.list", "/files", query, size):
            async for entry in _in_turns(page):
                file = wire.listed_file(entry, self._target.file_states)
                if file is not None:
                    yield file

    async def find_files(self, name: str) -> list[RemoteFile]:
        return [file async for file in self.list_files() if file.name == name]

    async def delete_file(self, file_id: str) -> None:
        try:
            await self._account.ask(self._call_by_id("files.delete", "DELETE", "/files", file_id))
        except NotFound:
            return

    def download(self, file_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        call = self._call_by_id("files.content", "GET", "/files", file_id, "/content")
        return self._account.stream(replace(call, lane="download", total=self._account.settings.timeouts.transfer))

    async def create_batch(
        self, *, input_file_id: str, endpoint: str, completion_window: str, metadata: Mapping[str, str]
    ) -> RemoteBatch:
        body = {
            "input_file_id": input_file_id,
            "endpoint": endpoint,
            "completion_window": completion_window,
            "metadata": dict(metadata),
        }
        total = self._account.settings.timeouts.create
        call = replace(
            self._call("batches.create", "POST", "/batches"),
            headers={"Content-Type": "application/json"},
            content=msgspec.json.encode(body),
            repeatable=False,
            total=total,
            answer_within=total,
        )
        return wire.decode_batch(await self._account.ask(call))

    async def get_batch(self, batch_id: str) -> RemoteBatch:
        return await self._batch(self._call_by_id("batches.get", "GET", "/batches", batch_id), batch_id)

    async def list_batches(self, *, page_size: int = 100) -> AsyncIterator[list[RemoteBatch | UnreadableBatch]]:
        async for page in self._pages("batches.list", "/batches", {"limit": str(page_size)}, page_size):
            found = [wire.listed_batch(entry) async for entry in _in_turns(page)]
            yield [batch for batch in found if batch is not None]

    async def cancel_batch(self, batch_id: str) -> RemoteBatch:
        call = self._call_by_id("batches.cancel", "POST", "/batches", batch_id, "/cancel")
        try:
            return await self._batch(call, batch_id)
        except (Refused, Unavailable) as error:
            # A batch that ended meanwhile, or is ending, is refused with 400 or 409.
            if error.status not in (400, 409):
                raise
            batch = await self.get_batch(batch_id)
            if batch.state.terminal or batch.state is BatchState.CANCELLING:
                return batch
            raise

    async def probe(self) -> None:
        wire.decode_page(
            await self._account.ask(self._call("batches.list", "GET", "/batches", {"limit": "1"})), MOST_ENTRIES
        )

    async def _batch(self, call: Call, batch_id: str) -> RemoteBatch:
        batch = wire.decode_batch(await self._account.ask(call), batch_id)
        _check_id(call, batch.id, batch_id)
        return batch

    def _upload_fields(self, ttl: timedelta | None) -> dict[str, str]:
        fields = {"purpose": "batch"}
        if ttl is not None:
            within = max(self.capabilities.min_file_ttl, min(ttl, self.capabilities.max_file_ttl))
            fields["expires_after[anchor]"] = "created_at"
            fields["expires_after[seconds]"] = str(int(within.total_seconds()))
        return fields

    async def _pages(
        self, operation: str, path: str, query: Mapping[str, str], size: int | None
    ) -> AsyncIterator[wire.WirePage]:
        """The pages of a listing, asked for with ``size`` objects each, or as a whole."""
        most = MOST_UNPAGED if size is None else MOST_ENTRIES
        cursor = _Cursor(operation)
        deadline = self._account.monotonic() + self._account.settings.timeouts.listing
        while not cursor.ended:
            if self._account.monotonic() > deadline:
                raise NoAnswer(f"{operation} was not done within {self._account.settings.timeouts.listing:g} s")
            after = {"after": cursor.after} if cursor.after else {}
            call = self._call(operation, "GET", path, {**query, **after})
            if size is None:
                call = replace(call, largest=UNPAGED_BYTES)
            page = wire.decode_page(await self._account.ask(call), most)
            yield page
            cursor.advance(page, size)

    def _call(
        self,
        operation: str,
        method: Method,
        path: str,
        query: Mapping[str, str] | None = None,
    ) -> Call:
        timeouts = self._account.settings.timeouts
        asked = {**(query or {}), **self._target.query}
        return Call(
            operation=operation,
            method=method,
            url=self._target.api_url + path + (f"?{urlencode(asked)}" if asked else ""),
            total=timeouts.call,
            answer_within=timeouts.read,
            repeatable=True,
        )

    def _call_by_id(self, operation: str, method: Method, path: str, object_id: str, rest: str = "") -> Call:
        """A call on one object. Ids may come from annotations that anyone wrote: what is none is asked of nobody."""
        if not wire.is_id(object_id):
            raise NotFound(f"{operation}: this is not an id of the provider's", status=404)
        return replace(self._call(operation, method, f"{path}/{quote(object_id, safe='')}{rest}"), by_id=True)


def _check_id(call: Call, told: str, asked: str) -> None:
    """An answer about another object must not be taken for one about this."""
    if told != asked:
        raise BadAnswer(f"{call.operation}: the provider answered about another object than it was asked about")


class _Cursor:
    """Where a listing stands. A listing that goes in circles, or has more but says not where, is an error."""

    def __init__(self, operation: str) -> None:
        self.after = ""
        self.ended = False
        self._operation = operation
        self._seen: set[str] = set()
        self._pages = 0

    def advance(self, page: wire.WirePage, size: int | None) -> None:
        """Go on behind this page, if there is more.

        ``has_more`` absent: there may be more behind a full page of ``size``; one that repeats itself is the last.
        """
        self.ended = True
        self._pages += 1
        if page.has_more is False or (page.has_more is None and (size is None or len(page.data or ()) < size)):
            return
        after = wire.last_id(page)
        if page.has_more is None and after in self._seen:
            return
        if not after:
            raise BadAnswer(f"{self._operation}: the provider says that there is more, but not where")
        if after in self._seen:
            raise BadAnswer(f"{self._operation}: the provider's pages go in circles")
        if self._pages >= MOST_PAGES:
            raise BadAnswer(f"{self._operation}: more than {MOST_PAGES} pages")
        self._seen.add(after)
        self.after, self.ended = after, False


async def _in_turns(page: wire.WirePage) -> AsyncIterator[msgspec.Raw]:
    """The objects of a page, with turns for others in between."""
    for number, entry in enumerate(page.data or (), start=1):
        yield entry
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
