"""A listing is complete, or it is an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx2
import pytest

from llmbatch.domain.errors import BadAnswer, NoAnswer, Unavailable
from llmbatch.providers.files_and_batches import FilesAndBatches
from support.providers import a_deployment, a_provider, id_of


def paged(count: int, size: int, **more: object) -> Callable[[httpx2.Request], httpx2.Response]:
    """A provider with so many batches, in pages."""
    ids = [f"batch_{number}" for number in range(count)]

    def answer(request: httpx2.Request) -> httpx2.Response:
        after = request.url.params.get("after")
        start = ids.index(after) + 1 if after else 0
        page = ids[start : start + size]
        body = {"data": [{"id": i, "status": "completed", "created_at": 1} for i in page]}
        return httpx2.Response(200, json={**body, "has_more": start + size < count, **more})

    return answer


async def listed(batches: FilesAndBatches, **options: int) -> list[str]:
    return [id_of(batch) async for page in batches.list_batches(**options) for batch in page]


async def test_all_pages_are_read():
    """Each page is asked for behind the last one, with the size that was wanted."""
    made = a_provider(handler=paged(250, 100))

    assert await listed(made.batches, page_size=100) == [f"batch_{number}" for number in range(250)]
    assert [dict(r.url.params) for r in made.requests] == [
        {"limit": "100"},
        {"limit": "100", "after": "batch_99"},
        {"limit": "100", "after": "batch_199"},
    ]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200])
async def test_a_provider_that_does_not_say_whether_there_is_more_is_read_to_the_end(count: int):
    """Behind a full page there may be another one."""
    assert len(await listed(a_provider(handler=paged(count, 100, has_more=None)).batches)) == count


async def test_a_provider_that_knows_no_cursor_ends_when_it_repeats_itself():
    """Without `has_more`, a page that is the same again is no more."""
    body = {"data": [{"id": f"batch_{n}", "status": "completed", "created_at": 1} for n in range(100)]}
    made = a_provider(httpx2.Response(200, json=body))

    assert set(await listed(made.batches)) == {f"batch_{n}" for n in range(100)}
    assert len(made.requests) == 2


async def test_pages_that_go_in_circles_are_an_error():
    """A listing never goes on for ever, and never ends silently short."""
    page = {"data": [{"id": "batch_1", "status": "completed", "created_at": 1}], "has_more": True}

    with pytest.raises(BadAnswer, match="circles"):
        await listed(a_provider(httpx2.Response(200, json=page)).batches)


async def test_more_without_a_cursor_is_an_error():
    """An empty page that promises more cannot be followed."""
    with pytest.raises(BadAnswer, match="not where"):
        await listed(a_provider(httpx2.Response(200, json={"data": [], "has_more": True})).batches)


@pytest.mark.parametrize("cursor", ["../files", "a\nb", "x" * 1025])
async def test_a_cursor_that_is_no_id_is_an_error(cursor: str):
    """A cursor is sent back in the next call, so it must be what an id can be; a listing is never silently short."""
    page = {"data": [], "has_more": True, "last_id": cursor}

    with pytest.raises(BadAnswer, match="but not where"):
        await listed(a_provider(httpx2.Response(200, json=page)).batches)


async def test_a_page_of_very_many_objects_is_an_error():
    """No page is longer than any that is asked for."""
    page = {"data": [{}] * 1001, "has_more": False}

    with pytest.raises(BadAnswer, match="more than 1000"):
        await listed(a_provider(httpx2.Response(200, json=page)).batches)


async def test_pages_without_end_are_an_error():
    """A provider that always promises more is given up."""
    made = a_provider(handler=paged(10_000, 1))

    with pytest.raises(BadAnswer, match="more than 1000 pages"):
        await listed(made.batches, page_size=1)
    assert len(made.requests) == 1000


async def test_a_listing_that_takes_very_long_is_given_up():
    """Slow pages do not hold up those who wait for the listing for ever."""
    answer = paged(100, 1)

    def slowly(request: httpx2.Request) -> httpx2.Response:
        made.clock.passed += 100
        return answer(request)

    made = a_provider(handler=slowly)

    with pytest.raises(NoAnswer, match="900 s"):
        await listed(made.batches, page_size=1)
    assert len(made.requests) == 10


async def test_others_get_their_turn_while_a_page_is_read():
    """A long page does not hold the event loop from its beginning to its end."""
    files = [{"id": f"file-{n}", "filename": "a.jsonl", "status": "processed"} for n in range(1000)]
    made = a_provider(httpx2.Response(200, json={"data": files, "has_more": False}))
    turns, seen = 0, list[int]()

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    async for _ in made.batches.list_files():
        seen.append(turns)
    other.cancel()

    assert seen[-1] - seen[0] == 9


async def test_a_page_that_fails_fails_the_listing():
    """What was read so far is not taken for everything."""
    first = {"data": [{"id": "batch_1", "status": "completed", "created_at": 1}], "has_more": True}

    with pytest.raises(Unavailable):
        await listed(a_provider(httpx2.Response(200, json=first), httpx2.Response(500)).batches)


async def test_a_file_is_found_by_its_name():
    """Only batch inputs of exactly that name count, whatever else the account holds."""
    files = [
        {"id": "file-1", "filename": "a.jsonl", "purpose": "batch", "status": "processed"},
        {"id": "file-2", "filename": "a.jsonl", "purpose": "batch_output", "status": "processed"},
        {"id": "file-3", "filename": "b.jsonl", "purpose": "batch", "status": "processed"},
        {"id": "file-4", "filename": "a.jsonl", "purpose": "batch", "status": "something new"},
    ]
    made = a_provider(httpx2.Response(200, json={"data": files, "has_more": False}))

    assert [file.id for file in await made.batches.find_files("a.jsonl")] == ["file-1", "file-4"]


async def test_the_classic_azure_api_lists_all_files_at_once():
    """It is sent no paging that it does not know, and its one page is everything."""
    block = {"endpoint": "https://east.example", "deployment": "d", "apiVersion": "2024-10-21"}
    files = [{"id": f"file-{n}", "filename": "a.jsonl", "status": "processed"} for n in range(1500)]
    made = a_provider(httpx2.Response(200, json={"data": files}), deployment=a_deployment(azureOpenAI=block))

    assert len(await made.batches.find_files("a.jsonl")) == 1500
    assert [dict(r.url.params) for r in made.requests] == [{"purpose": "batch", "api-version": "2024-10-21"}]
