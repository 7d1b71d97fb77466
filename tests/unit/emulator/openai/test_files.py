"""Files: taken in, listed, read and deleted, by those who may."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import FormData

from support.emulator import chat_lines
from support.emulator_bench import Bench, expires_after


async def test_a_file_comes_back_byte_for_byte(openai: Bench):
    """What was uploaded can be downloaded, and its size and name are shown."""
    content = chat_lines(3, text="Grüße, 世界") + b"\r\n"
    file = await openai.upload(content, filename="name with spaces.jsonl")

    assert await openai.content(file["id"]) == content
    assert (file["bytes"], file["filename"], file["purpose"]) == (len(content), "name with spaces.jsonl", "batch")
    assert (file["object"], file["status"]) == ("file", "processed")


async def test_a_large_file_is_streamed_in_and_out(openai: Bench):
    """Contents larger than any buffer are whole, and validated across the pieces that they come in."""
    content = chat_lines(3000, text="x" * 1000)
    file = await openai.upload(content)

    assert await openai.content(file["id"]) == content
    done = await openai.after(1000, await openai.create(file["id"]))
    assert done["request_counts"]["completed"] == 3000


@pytest.mark.parametrize(
    ("filename", "fields", "param"),
    [
        ("in.json", {}, None),
        ("in.jsonl", {"purpose": "nonsense"}, "purpose"),
        ("in.jsonl", {"surprise": "1"}, "surprise"),
        ("in.jsonl", {"expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ("in.jsonl", {"expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        ("in.jsonl", {"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        (
            "in.jsonl",
            expires_after(3599),
            "expires_after.seconds",
        ),
        ("in.jsonl", expires_after("x"), "expires_after.seconds"),
    ],
)
async def test_an_upload_that_breaks_a_rule_is_refused(
    openai: Bench, filename: str, fields: dict[str, str], param: str | None
):
    """Name, purpose and expiry are checked, and nothing is kept of what was refused."""
    refused = await openai.upload(filename=filename, status=400, fields=fields)

    assert refused["error"]["param"] == param
    assert (await openai.call("GET", "/files"))["data"] == []


async def test_a_file_over_the_limit_is_refused(openai: Bench):
    """The limit is inclusive."""
    content = chat_lines(10)
    await openai.behave(max_file_bytes=len(content))
    await openai.upload(content)

    await openai.upload(content + b"\n", status=413)


@pytest.mark.parametrize(("form", "param"), [({"purpose": "batch"}, "file"), (None, None)])
async def test_an_upload_must_be_a_form_with_a_file(openai: Bench, form: dict[str, str] | None, param: str | None):
    """A form without a file, and a body that is no form, are refused."""
    data = FormData(form, default_to_multipart=True) if form else b"{}"

    async with openai.client.post("/v1/files", data=data, headers=openai.headers) as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == param


async def test_a_form_with_two_files_is_refused(openai: Bench):
    """An upload is one file."""
    form = FormData(default_to_multipart=True)
    form.add_field("purpose", "batch")
    for _ in range(2):
        form.add_field("file", chat_lines(1), filename="in.jsonl")

    async with openai.client.post("/v1/files", data=form, headers=openai.headers) as response:
        assert response.status == 400


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(openai: Bench):
    """An upload that was not whole is no file."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n' + chat_lines(100)
    host, port = openai.client.host, openai.client.port
    _, writer = await asyncio.open_connection(host, port)
    head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-1\r\nContent-Length: 999999\r\n"
    writer.write(head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + body)
    await writer.drain()
    async with asyncio.timeout(10):
        while not any(openai.spool.iterdir()):
            await openai.call("GET", "/batches")
        writer.close()
        await writer.wait_closed()
        while any(openai.spool.iterdir()):
            await openai.call("GET", "/batches")

    assert (await openai.call("GET", "/files"))["data"] == []


async def test_files_are_listed_by_purpose_newest_first_and_by_page(openai: Bench):
    """Inputs and results can be told apart, and the order turned round."""
    batch = await openai.batch()
    await openai.after(1000, batch)
    second = await openai.upload()

    inputs = await openai.call("GET", "/files", purpose="batch")
    page = await openai.call("GET", "/files", limit=1, order="asc")
    rest = await openai.call("GET", "/files", order="asc", after=page["last_id"])

    assert [file["id"] for file in inputs["data"]] == [second["id"], batch["input_file_id"]]
    assert [file["id"] for file in page["data"]] == [batch["input_file_id"]]
    assert page["has_more"] is True
    assert [file["purpose"] for file in rest["data"]] == ["batch_output", "batch"]


async def test_a_deleted_file_is_gone(openai: Bench):
    """It can not be read, listed or deleted again."""
    file = await openai.upload()

    assert (await openai.call("DELETE", f"/files/{file['id']}"))["deleted"] is True

    await openai.call("GET", f"/files/{file['id']}", status=404)
    await openai.call("GET", f"/files/{file['id']}/content", status=404)
    await openai.call("DELETE", f"/files/{file['id']}", status=404)
    assert (await openai.call("GET", "/files"))["data"] == []


async def test_a_file_lives_thirty_days_unless_told_otherwise(openai: Bench):
    """OpenAI lets a batch's input expire by itself."""
    file = await openai.upload()
    short = await openai.upload(fields=expires_after(3600))

    assert file["expires_at"] == file["created_at"] + 30 * 86_400
    openai.clock.turn(3600)
    await openai.call("GET", f"/files/{short['id']}", status=404)
    await openai.call("GET", f"/files/{file['id']}")


async def test_results_expire_when_the_create_said_so(openai: Bench):
    """`output_expires_after` counts from when the result was made."""
    expiry = {"anchor": "created_at", "seconds": 3600}
    done = await openai.after(1000, await openai.batch(output_expires_after=expiry))

    file = await openai.call("GET", f"/files/{done['output_file_id']}")

    assert file["expires_at"] == done["completed_at"] + 3600


async def test_a_key_sees_only_its_own_accounts_things(openai: Bench):
    """Files and batches of another account are not there, neither by id nor in lists."""
    batch = await openai.batch()
    openai.name = "other"
    await openai.control("PUT", "", {"provider": "openai", "keys": ["key-2"]})
    openai.headers = {"Authorization": "Bearer key-2"}

    await openai.call("GET", f"/files/{batch['input_file_id']}", status=404)
    await openai.call("GET", f"/batches/{batch['id']}", status=404)
    await openai.call("POST", f"/batches/{batch['id']}/cancel", status=404)
    assert (await openai.call("GET", "/files"))["data"] == (await openai.call("GET", "/batches"))["data"] == []


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic key-1"}, {"api-key": "key-1"}]
)
async def test_a_call_without_a_good_key_is_refused(openai: Bench, headers: dict[str, str]):
    """OpenAI wants a bearer token that it knows, and the refusal does not repeat the key."""
    openai.headers = headers

    refused = await openai.call("GET", "/files", status=401)

    assert refused["error"]["code"] == "invalid_api_key"
    assert "wrong" not in str(refused)


async def test_an_organization_that_is_not_the_keys_is_refused(bench: Bench):
    """A key goes with its own organization and project."""
    await bench.account(organization="org-1", project="proj-1")

    for header, value, status in (
        ("OpenAI-Organization", "org-1", 200),
        ("OpenAI-Organization", "org-2", 401),
        ("OpenAI-Project", "proj-1", 200),
        ("OpenAI-Project", "proj-2", 401),
    ):
        bench.headers = {"Authorization": "Bearer key-1", header: value}
        await bench.call("GET", "/batches", status=status)


async def test_a_path_that_leads_nowhere_is_refused_in_the_providers_form(openai: Bench):
    """Unknown paths and methods are 404."""
    assert (await openai.call("GET", "/chats", status=404))["error"]["message"] == "Invalid URL (GET /v1/chats)"
    await openai.call("PUT", "/files", status=404)
    openai.prefix = "/azure/east"
    assert (await openai.call("GET", "/files", status=404))["error"]["code"] == "404"
