"""Trouble that can be asked for, and the record of what was called."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError

from support.emulator_bench import Bench


async def fault(bench: Bench, kind: str, operation: str = "*", **fields: Any) -> None:
    """Ask for a fault."""
    await bench.control("POST", "faults", {"kind": kind, "operation": operation, **fields})


async def counts(bench: Bench) -> dict[str, dict[str, int]]:
    """The calls so far, by operation and status."""
    operations = (await bench.control("GET", "calls"))["operations"]
    return {name: entry["by_status"] for name, entry in operations.items() if entry["count"]}


async def test_a_rate_limit_says_when_to_come_again_and_ends(openai: Bench):
    """Two calls are refused with 429 and Retry-After, the third is answered."""
    await fault(openai, "rate_limit", "batches.list", retry_after=3, times=2)

    for _ in range(2):
        async with openai.client.get("/v1/batches", headers=openai.headers) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "3")
    await openai.call("GET", "/batches")

    assert await counts(openai) == {"batches.list": {"200": 1, "429": 2}}


async def test_an_error_of_the_server_is_answered_instead(openai: Bench):
    """A create that is answered with 503 makes no batch."""
    await fault(openai, "status", "batches.create", status=503)
    file = await openai.upload()

    await openai.create(file["id"], status=503)

    assert (await openai.call("GET", "/batches"))["data"] == []


async def test_a_create_can_succeed_without_ever_answering(openai: Bench):
    """The client hears nothing, and the batch is there."""
    await fault(openai, "hang_after_success", "batches.create")
    file = await openai.upload()

    create = asyncio.create_task(openai.create(file["id"]))
    async with asyncio.timeout(10):
        while not (listed := (await openai.call("GET", "/batches"))["data"]):
            continue

    assert listed[0]["input_file_id"] == file["id"]
    assert not create.done()
    create.cancel()
    assert (await counts(openai))["batches.create"] == {"0": 1}


async def test_a_connection_can_end_after_the_work_or_before_it(openai: Bench):
    """Only after the work is the batch there; the client can not tell one from the other."""
    await fault(openai, "close_after_success", "batches.create")
    await fault(openai, "close_before", "batches.create")
    file = await openai.upload()

    for _ in range(2):
        with pytest.raises(ServerDisconnectedError):
            await openai.create(file["id"])

    assert len((await openai.call("GET", "/batches"))["data"]) == 1


async def test_a_download_can_be_cut_in_the_middle(openai: Bench):
    """Some bytes come, then the connection ends, and the next try is whole."""
    file = await openai.upload()
    await fault(openai, "cut_body", body_bytes=100)

    async with openai.client.get(f"/v1/files/{file['id']}/content", headers=openai.headers) as response:
        assert (response.status, response.content_length) == (200, file["bytes"])
        assert len(await response.content.readexactly(100)) == 100
        with pytest.raises(ClientPayloadError):
            await response.read()

    assert len(await openai.content(file["id"])) == file["bytes"]


async def test_a_file_can_end_in_error(openai: Bench):
    """An upload succeeds, and the file can not be used."""
    await fault(openai, "file_error")

    file = await openai.upload()

    assert file["status"] == "error"
    failed = await openai.after(10, await openai.create(file["id"]))
    assert failed["status"] == "failed"


async def test_a_list_can_lag_behind(openai: Bench):
    """What is younger than the lag is not in the list yet, though it can be got by its id."""
    await openai.behave(list_lag_seconds=30)
    batch = await openai.batch()

    assert (await openai.call("GET", "/batches"))["data"] == []
    assert (await openai.call("GET", "/files"))["data"] == []
    await openai.call("GET", f"/batches/{batch['id']}")
    openai.clock.turn(30)
    assert len((await openai.call("GET", "/batches"))["data"]) == 1


async def test_one_list_can_lag_on_request(openai: Bench):
    """As a fault the lag is over with the call."""
    await openai.batch()
    await fault(openai, "list_lag", "batches.list", seconds=30)

    assert (await openai.call("GET", "/batches"))["data"] == []
    assert len((await openai.call("GET", "/batches"))["data"]) == 1


async def test_a_new_batch_can_be_not_found_for_a_while(openai: Bench):
    """A 404 shortly after a create is no answer."""
    await openai.behave(not_found_after_create_seconds=5)
    batch = await openai.batch()

    await openai.call("GET", f"/batches/{batch['id']}", status=404)
    openai.clock.turn(5)
    await openai.call("GET", f"/batches/{batch['id']}")


async def test_a_fault_waits_for_the_call_that_it_is_meant_for(openai: Bench):
    """Metadata, endpoint and ids can be matched; other calls pass."""
    await fault(openai, "status", "batches.create", match={"metadata": {"job": "ns/two"}}, times="always")
    file = await openai.upload()

    await openai.create(file["id"], metadata={"job": "ns/one"})
    for _ in range(2):
        await openai.create(file["id"], metadata={"job": "ns/two", "more": "x"}, status=500)
    await openai.control("DELETE", "faults")
    await openai.create(file["id"], metadata={"job": "ns/two"})


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "nonsense"},
        {"kind": "status", "operation": "files.nonsense"},
        {"kind": "cut_body", "operation": "files.get"},
    ],
)
async def test_a_fault_that_can_not_be_is_refused(openai: Bench, body: dict[str, Any]):
    """A typing error in a test does not pass for a fault that never happens."""
    await openai.control("POST", "faults", body, status=400)


async def test_latency_delays_the_answer_and_nothing_else(openai: Bench):
    """The call is answered after all."""
    await fault(openai, "latency", "batches.list", seconds=0.01)

    assert (await openai.call("GET", "/batches"))["data"] == []
    assert (await openai.control("GET", "faults"))["faults"] == []


async def test_a_rotated_key_is_refused_and_counted_and_the_new_one_sees_everything(openai: Bench):
    """After a rotation the account's things stay, and the old key's calls are counted as 401."""
    batch = await openai.batch()
    await openai.behave(keys=["key-2"])

    await openai.call("GET", f"/batches/{batch['id']}", status=401)
    openai.headers = {"Authorization": "Bearer key-2"}
    await openai.call("GET", f"/batches/{batch['id']}")

    assert (await counts(openai))["batches.get"] == {"200": 1, "401": 1}


async def test_several_keys_open_one_account(bench: Bench):
    """During a rotation both keys work, and the record tells which was used."""
    await bench.account(keys=["key-1", "key-2"])
    batch = await bench.batch()
    bench.headers = {"Authorization": "Bearer key-2"}

    await bench.call("GET", f"/batches/{batch['id']}")

    log = (await bench.control("GET", "calls"))["log"]
    assert [(call["operation"], call["key"]) for call in log] == [
        ("files.create", 0),
        ("batches.create", 0),
        ("batches.get", 1),
    ]
    assert [call["batch_id"] for call in log] == [None, batch["id"], batch["id"]]


async def test_two_accounts_can_not_share_a_key(openai: Bench):
    """A key must lead to one account."""
    openai.name = "other"

    await openai.control("PUT", "", {"provider": "openai", "keys": ["key-1"]}, status=400)


async def test_an_account_that_was_removed_is_unknown(openai: Bench):
    """Nothing of it is left, and its key opens nothing."""
    await openai.batch()

    await openai.control("DELETE", "")

    await openai.call("GET", "/batches", status=401)
    await openai.control("GET", "", status=404)


@pytest.mark.parametrize(
    "fields",
    [{"nonsense": 1}, {"hold": "nowhere"}, {"pace": {"nonsense": 1}}, {"provider": "azure"}, {"keys": []}],
)
async def test_settings_that_make_no_sense_are_refused(bench: Bench, fields: dict[str, Any]):
    """A field that no account has is an error, not a wish that nobody hears."""
    await bench.control("PUT", "", {"provider": "openai", "keys": ["key-1"], **fields}, status=400)


async def test_the_dump_of_an_account_shows_what_it_holds(openai: Bench):
    """Files, batches and settings can be looked at without a call being counted."""
    batch = await openai.batch()
    openai.clock.turn(1000)

    dump = await openai.control("GET", "")

    assert [(one["id"], one["status"]) for one in dump["batches"]] == [(batch["id"], "completed")]
    assert [file["purpose"] for file in dump["files"]] == ["batch", "batch_output"]
    assert await counts(openai) == {"files.create": {"200": 1}, "batches.create": {"200": 1}}
