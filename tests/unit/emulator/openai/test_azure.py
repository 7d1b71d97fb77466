"""What is odd about Azure: files to wait for, states, deployments, times and limits."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from support.emulator import chat_lines
from support.emulator_bench import Bench, expires_after

CLASSIC = "/chat/completions"
DAY = 86_400


def azure_lines(count: int = 10, *, model: str = "mini", url: str = CLASSIC) -> bytes:
    """Requests to a deployment."""
    return chat_lines(count, model=model, url=url)


async def ready_batch(azure: Bench, content: bytes | None = None, **fields: Any) -> dict[str, Any]:
    """A batch on a file that was waited for."""
    file = await azure.upload(azure_lines() if content is None else content)
    azure.clock.turn(8)
    return await azure.create(file["id"], **fields)


async def test_a_file_is_pending_then_running_then_processed(azure: Bench):
    """A file has to be waited for: a batch on it before that is refused."""
    file = await azure.upload(azure_lines())
    states = [file["status"]]
    await azure.create(file["id"], status=400)
    for _ in range(2):
        azure.clock.turn(4)
        states.append((await azure.call("GET", f"/files/{file['id']}"))["status"])

    assert states == ["pending", "running", "processed"]
    assert (await azure.create(file["id"]))["status"] == "validating"


@pytest.mark.parametrize("content", [b"", b"{nonsense\n", b"[]\n"])
async def test_a_file_that_can_not_be_read_ends_in_error(azure: Bench, content: bytes):
    """Azure validates the form of a file at the upload, and says so at the file."""
    file = await azure.upload(content)
    azure.clock.turn(8)

    shown = await azure.call("GET", f"/files/{file['id']}")

    assert (shown["status"], bool(shown["status_details"])) == ("error", True)
    await azure.create(file["id"], status=400)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (azure_lines(model="gpt-4o-mini"), "model_not_found"),
        (azure_lines(1) + azure_lines(2, model="other").splitlines(keepends=True)[1], "model_mismatch"),
        (azure_lines(url="/v1/chat/completions"), "url_mismatch"),
        (azure_lines(1) * 2, "duplicate_custom_id"),
    ],
)
async def test_a_line_that_does_not_fit_fails_the_batch_in_azures_words(azure: Bench, content: bytes, code: str):
    """Lines must name one deployment of this resource and, in the classic form, URLs without /v1."""
    batch = await ready_batch(azure, content)

    failed = await azure.after(10, batch)

    assert (failed["status"], failed["errors"]["data"][0]["code"]) == ("failed", code)


async def test_an_answer_names_the_model_behind_the_deployment(azure: Bench):
    """The deployment's name hides the model; the answer shows it."""
    done = await azure.after(1000, await ready_batch(azure))

    lines = await azure.lines(done["output_file_id"])

    assert {line["response"]["body"]["model"] for line in lines} == {"gpt-4o-mini-2024-07-18"}


async def test_a_success_has_an_error_file_of_no_bytes_and_absent_files_are_empty_text(azure: Bench):
    """Before the end the file ids are "", after it there is an error file with nothing in it."""
    batch = await ready_batch(azure)
    assert (batch["output_file_id"], batch["error_file_id"]) == ("", "")

    done = await azure.after(1000, batch)

    assert await azure.content(done["error_file_id"]) == b""


async def test_a_slow_batch_does_not_expire(azure: Bench):
    """Azure promises not to expire what takes longer than its window."""
    await azure.behave(in_progress_seconds=10 * DAY)
    batch = await ready_batch(azure)

    assert (await azure.after(9 * DAY, batch))["status"] == "in_progress"
    assert (await azure.after(2 * DAY, batch))["status"] == "completed"
    await azure.control("PATCH", "behaviour", {"expire": True}, status=400)


async def test_states_may_be_capitalised(azure: Bench):
    """Azure has been seen to write states in another way."""
    await azure.behave(capitalised_states=True)
    batch = await ready_batch(azure)

    assert batch["status"] == "Validating"
    assert (await azure.after(20, batch))["status"] == "InProgress"


async def test_times_can_be_off_by_a_skew(azure: Bench):
    """The provider's clock need not be ours, and shows whole seconds."""
    await azure.behave(clock_skew_seconds=-90.5)
    before = azure.clock.now + 8

    batch = await ready_batch(azure)

    assert batch["created_at"] == int(before - 90.5)


async def test_a_list_may_be_in_no_order_and_still_pages_without_gap(azure: Bench):
    """Shuffled lists hold every batch once."""
    await azure.behave(list_order="shuffled")
    file = await azure.upload(azure_lines())
    azure.clock.turn(8)
    made = [(await azure.create(file["id"]))["id"] for _ in range(12)]

    first = await azure.call("GET", "/batches", limit=7)
    second = await azure.call("GET", "/batches", limit=7, after=first["last_id"])

    listed = [batch["id"] for page in (first, second) for batch in page["data"]]
    assert sorted(listed) == sorted(made)
    assert listed != made
    assert listed != made[::-1]


async def test_the_v1_form_takes_lines_with_v1_and_needs_no_version(azure: Bench):
    """Both forms lead to the same files and batches; this one takes endpoints as the how-to page has them too."""
    azure.prefix, azure.query = "/azure/east/openai/v1", {}
    file = await azure.upload(azure_lines(url="/v1/chat/completions"))
    azure.clock.turn(8)

    done = await azure.after(1000, await azure.create(file["id"]))

    assert done["status"] == "completed"
    again = await azure.after(1000, await azure.create(file["id"], endpoint=CLASSIC))
    assert again["status"] == "completed"


@pytest.mark.parametrize(("prefix", "query"), [("/azure/east/openai/v1", {}), (None, None)])
async def test_whether_responses_are_wanted_is_read_from_the_file(azure: Bench, prefix: str | None, query: Any):
    """In either form the lines have `/v1/responses`, and the create names another endpoint."""
    if prefix is not None:
        azure.prefix, azure.query = prefix, query
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"model": "mini", "input": "x"}}
    file = await azure.upload(orjson.dumps(line) + b"\n")
    azure.clock.turn(8)

    done = await azure.after(1000, await azure.create(file["id"], endpoint=CLASSIC))

    lines = await azure.lines(done["output_file_id"])
    assert [line["response"]["body"]["object"] for line in lines] == ["response"]


async def test_the_classic_form_is_not_found_without_a_version(azure: Bench):
    """`api-version` is needed in every call of the classic form."""
    azure.query = {}

    refused = await azure.call("GET", "/batches", status=404)

    assert refused == {"error": {"code": "404", "message": "Resource not found"}}


async def test_a_batch_on_a_file_that_is_not_there_is_refused(azure: Bench):
    """Unlike OpenAI, Azure looks at once."""
    await azure.create("file-of-nobody", status=400)


@pytest.mark.parametrize(
    ("seconds", "status"), [(14 * DAY - 1, 400), (14 * DAY, 200), (30 * DAY, 200), (30 * DAY + 1, 400)]
)
async def test_files_can_expire_after_fourteen_to_thirty_days(azure: Bench, seconds: int, status: int):
    """Other times are refused, and a file whose time is over is not there any more."""
    file = await azure.upload(azure_lines(), status=status, fields=expires_after(seconds))

    if status == 200:
        assert file["expires_at"] == file["created_at"] + seconds
        azure.clock.turn(seconds)
        await azure.call("GET", f"/files/{file['id']}", status=404)


async def test_only_so_many_files_may_stay_for_ever(azure: Bench):
    """Files without `expires_after` are limited to 500; those with it go on."""
    await azure.behave(files_without_expiry=2)
    first = await azure.upload(azure_lines())
    await azure.upload(azure_lines())

    await azure.upload(azure_lines(), status=400)
    await azure.upload(azure_lines(), fields=expires_after(14 * DAY))
    await azure.call("DELETE", f"/files/{first['id']}")
    await azure.upload(azure_lines())


@pytest.mark.parametrize("refusal", [400, 429])
async def test_a_token_limit_can_refuse_the_create(azure: Bench, refusal: int):
    """One of Azure's two ways: no batch comes to be, and the code says why."""
    await azure.behave(token_limit={"enqueued_limit": 10, "mode": "create_429", "status": refusal})
    file = await azure.upload(azure_lines())
    azure.clock.turn(8)

    refused = await azure.create(file["id"], status=refusal)

    assert refused["error"]["code"] == "token_limit_exceeded"
    assert (await azure.call("GET", "/batches"))["data"] == []


async def test_a_token_limit_can_fail_the_batch(azure: Bench):
    """The other way: the batch comes to be, and fails."""
    await azure.behave(token_limit={"enqueued_limit": 10, "mode": "batch_failed"})

    failed = await azure.after(10, await ready_batch(azure))

    assert (failed["status"], failed["errors"]["data"][0]["code"]) == ("failed", "token_limit_exceeded")


async def test_the_input_of_a_batch_can_be_locked(azure: Bench):
    """While a batch needs its file a delete is refused; afterwards it is not."""
    await azure.behave(lock_files_in_use=True)
    batch = await ready_batch(azure)
    path = f"/files/{batch['input_file_id']}"

    await azure.call("DELETE", path, status=409)
    azure.clock.turn(1000)

    assert (await azure.call("DELETE", path))["deleted"] is True


async def test_a_resource_knows_only_its_own_keys(azure: Bench):
    """Two resources are two accounts, though they live on one port."""
    azure.name = "west"
    await azure.control(
        "PUT", "", {"provider": "azure", "resource": "west", "keys": ["key-2"], "deployments": {"mini": "gpt-4o-mini"}}
    )
    azure.prefix = "/azure/west/openai"

    refused = await azure.call("GET", "/batches", status=401)

    assert refused["error"]["code"] == "401"
    azure.headers = {"Authorization": "Bearer key-2"}
    assert (await azure.call("GET", "/batches"))["data"] == []
    azure.prefix = "/azure/north/openai"
    await azure.call("GET", "/batches", status=404)
