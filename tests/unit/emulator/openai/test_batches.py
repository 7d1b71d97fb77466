"""OpenAI's batches: what is accepted, how they go on, and what comes out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from support.emulator import chat_lines
from support.emulator_bench import Bench


def a_line(**fields: Any) -> bytes:
    """One request, with some fields another way; None leaves one out."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body, **fields}
    return orjson.dumps({name: value for name, value in line.items() if value is not None}) + b"\n"


async def test_a_batch_goes_through_its_states_and_its_counts_move_on(openai: Bench):
    """A batch validates, runs, is finalized and completes at its pace, and its counts grow meanwhile."""
    batch = await openai.batch(metadata={"team": "search"})
    assert (batch["status"], batch["output_file_id"], batch["metadata"]) == ("validating", None, {"team": "search"})

    running = await openai.after(60, batch)
    assert running["status"] == "in_progress"
    assert running["request_counts"] == {"total": 10, "completed": 5, "failed": 0}
    assert running["in_progress_at"] == batch["created_at"] + 10

    assert (await openai.after(55, batch))["status"] == "finalizing"
    done = await openai.after(10, batch)
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 10, "completed": 10, "failed": 0}
    assert done["completed_at"] == batch["created_at"] + 120
    assert done["error_file_id"] is None
    assert done["expires_at"] == batch["created_at"] + 86_400


async def test_the_output_answers_every_request_once_in_another_order(openai: Bench):
    """Each line of the output belongs to one request, names the dated model, and has usage that adds up."""
    done = await openai.after(1000, await openai.batch(chat_lines(50)))

    lines = await openai.lines(done["output_file_id"])

    ids = [line["custom_id"] for line in lines]
    assert sorted(ids) == sorted(f"request-{at}" for at in range(50))
    assert ids != [f"request-{at}" for at in range(50)]
    bodies = [line["response"]["body"] for line in lines]
    assert {body["model"] for body in bodies} == {"gpt-4o-mini-2024-07-18"}
    assert all(line["response"]["status_code"] == 200 and line["error"] is None for line in lines)
    total = sum(body["usage"]["total_tokens"] for body in bodies)
    assert total == done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + done["usage"]["output_tokens"]


async def test_cached_and_reasoning_tokens_are_parts_of_input_and_output(openai: Bench):
    """A share of the input is cached and each answer reasons, as the account was told."""
    await openai.behave(cached_fraction=0.5, reasoning_tokens=7)
    done = await openai.after(1000, await openai.batch(chat_lines(1)))

    [line] = await openai.lines(done["output_file_id"])

    usage = line["response"]["body"]["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] // 2 > 0
    text = line["response"]["body"]["choices"][0]["message"]["content"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 7
    assert usage["completion_tokens"] == -(-len(text) // 4) + 7


@pytest.mark.parametrize(
    ("endpoint", "body", "usage"),
    [
        ("/v1/responses", {"model": "gpt-4o-mini", "input": "hello"}, "input_tokens_details"),
        ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "hello"}, "completion_tokens"),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}, "prompt_tokens"),
    ],
)
async def test_every_endpoint_has_its_own_form_of_answer(
    openai: Bench, endpoint: str, body: dict[str, Any], usage: str
):
    """Responses, completions and embeddings answer and count in the form of their own API."""
    file = await openai.upload(a_line(url=endpoint, body=body))
    done = await openai.after(1000, await openai.create(file["id"], endpoint=endpoint))

    [line] = await openai.lines(done["output_file_id"])

    assert usage in line["response"]["body"]["usage"]
    assert line["response"]["body"]["usage"]["total_tokens"] == done["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"\n \n", "empty_file", None),
        (a_line() + b"{nonsense\n", "invalid_json_line", 2),
        (a_line(body={"model": "gpt-4o-mini", "n": "X"}).replace(b'"X"', b"NaN"), "invalid_json_line", 1),
        (a_line(custom_id="\u00e9").replace("\u00e9".encode(), b"\xe9"), "invalid_json_line", 1),
        (a_line(body={"input": "\u00e9"}).replace("\u00e9".encode(), b"\xe9"), "invalid_json_line", 1),
        (b"\xef\xbb\xbf" + a_line(), "invalid_json_line", 1),
        (b"[1]\n", "invalid_request", 1),
        (a_line(custom_id=None), "invalid_request", 1),
        (a_line(custom_id=7), "invalid_request", 1),
        (a_line(body=[]), "invalid_request", 1),
        (a_line(body={"model": 4}), "invalid_request", 1),
        (b'{"custom_id": "a", "method": "POST", "url": "/", "body": ' + b"[" * 50_000, "invalid_json_line", 1),
        (a_line() + a_line(), "duplicate_custom_id", 2),
        (a_line(method="GET"), "invalid_method", 1),
        (a_line(url="/v1/embeddings"), "url_mismatch", 1),
        (a_line() + a_line(custom_id="b", url="/v1/responses"), "url_mismatch", 2),
        (a_line() + a_line(custom_id="b", body={"model": "gpt-4o"}), "mismatched_model", 2),
        (a_line(body={"model": "nobody-has-this"}), "model_not_found", 1),
        (a_line(body={}), "model_not_found", 1),
    ],
)
async def test_a_batch_on_bad_input_is_created_and_fails_saying_where(
    openai: Bench, content: bytes, code: str, line: int | None
):
    """Bad input is found after the create, and the failed batch has the code and the line."""
    batch = await openai.batch(content)
    assert batch["status"] == "validating"

    failed = await openai.after(10, batch)

    assert failed["status"] == "failed"
    assert failed["output_file_id"] is None
    assert (failed["errors"]["data"][0]["code"], failed["errors"]["data"][0]["line"]) == (code, line)
    assert failed["errors"]["data"][0]["message"]


async def test_too_many_requests_fail_the_batch(openai: Bench):
    """One request more than a file may hold is too many; as many as it may hold are not."""
    await openai.behave(max_requests=10)

    full = await openai.after(10, await openai.batch(chat_lines(10)))
    over = await openai.after(10, await openai.batch(chat_lines(11)))

    assert full["status"] == "in_progress"
    assert [error["code"] for error in over["errors"]["data"]] == ["too_many_tasks"]


async def test_a_batch_on_a_file_that_is_not_there_fails_a_quarter_of_an_hour_later(openai: Bench):
    """OpenAI accepts any file id, and says much later that there is no such file."""
    batch = await openai.create("file-of-nobody")

    assert (await openai.after(899, batch))["status"] == "validating"
    failed = await openai.after(1, batch)
    assert (failed["status"], failed["errors"]["data"][0]["code"]) == ("failed", "invalid_input_file")


@pytest.mark.parametrize("how", ["expire", "delete"])
async def test_a_file_that_goes_while_its_batch_validates_fails_the_batch(openai: Bench, how: str):
    """A file expired or deleted under a batch that has not read it yet takes the batch with it."""
    batch = await openai.batch()
    file = f"files/{batch['input_file_id']}"
    await (openai.control("POST", f"{file}/expire") if how == "expire" else openai.control("DELETE", file))
    await openai.call("GET", f"/{file}", status=404)

    failed = await openai.after(10, batch)

    assert (failed["status"], failed["errors"]["data"][0]["code"]) == ("failed", "invalid_input_file")


async def test_a_file_deleted_under_a_running_batch_does_not_matter_any_more(openai: Bench):
    """A batch that has begun has read its input."""
    batch = await openai.batch()
    await openai.after(20, batch)
    await openai.call("DELETE", f"/files/{batch['input_file_id']}")

    done = await openai.after(1000, batch)

    assert len(await openai.lines(done["output_file_id"])) == 10


async def test_failed_lines_go_to_the_error_file_and_are_counted(openai: Bench):
    """A share of the lines fails with status 400 in the error file; the rest is in the output."""
    await openai.behave(fail_lines=0.3)
    done = await openai.after(1000, await openai.batch())

    assert done["request_counts"] == {"total": 10, "completed": 7, "failed": 3}
    errors = await openai.lines(done["error_file_id"])
    assert [line["response"]["status_code"] for line in errors] == [400, 400, 400]
    assert len(await openai.lines(done["output_file_id"])) == 7


async def test_named_lines_fail_with_an_error_object_where_that_is_asked_for(openai: Bench):
    """Lines can be picked by their custom_id, and fail without a response."""
    await openai.behave(fail_lines=["request-3"], fail_style="error")
    done = await openai.after(1000, await openai.batch())

    [line] = await openai.lines(done["error_file_id"])

    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("request-3", None, "server_error")


async def test_a_batch_whose_lines_all_fail_completes_without_an_output_file(openai: Bench):
    """The batch is completed though nothing in it is, and there is only an error file."""
    await openai.behave(fail_lines="all")
    done = await openai.after(1000, await openai.batch())

    assert (done["status"], done["output_file_id"]) == ("completed", None)
    assert done["request_counts"] == {"total": 10, "completed": 0, "failed": 10}
    assert len(await openai.lines(done["error_file_id"])) == 10


async def test_an_expired_batch_has_what_was_done_and_names_the_rest(openai: Bench):
    """Expiry leaves the finished part in the output and the others in the error file as batch_expired."""
    await openai.behave(expire=True, completed_fraction=0.4)
    done = await openai.after(1000, await openai.batch())

    assert (done["status"], done["request_counts"]) == ("expired", {"total": 10, "completed": 4, "failed": 0})
    assert done["expired_at"] == done["created_at"] + 110
    good, bad = await openai.lines(done["output_file_id"]), await openai.lines(done["error_file_id"])
    assert (len(good), [line["error"]["code"] for line in bad]) == (4, ["batch_expired"] * 6)
    assert len({line["custom_id"] for line in good + bad}) == 10


async def test_a_batch_slower_than_its_window_expires_by_itself(openai: Bench):
    """The 24 hours of the completion window are kept."""
    await openai.behave(in_progress_seconds=100_000)
    batch = await openai.batch()

    assert (await openai.after(86_399, batch))["status"] == "in_progress"
    assert (await openai.after(1, batch))["status"] == "expired"


async def test_a_cancelled_batch_is_cancelling_for_a_while_and_keeps_what_was_done(openai: Bench):
    """Cancelling lasts; then the processed part is there, and the rest is batch_cancelled in the error file."""
    batch = await openai.batch()
    await openai.after(60, batch)

    assert (await openai.call("POST", f"/batches/{batch['id']}/cancel"))["status"] == "cancelling"
    assert (await openai.call("POST", f"/batches/{batch['id']}/cancel"))["status"] == "cancelling"
    assert (await openai.after(59, batch))["status"] == "cancelling"
    done = await openai.after(1, batch)

    assert (done["status"], done["request_counts"]["completed"]) == ("cancelled", 5)
    assert len(await openai.lines(done["output_file_id"])) == 5
    assert {line["error"]["code"] for line in await openai.lines(done["error_file_id"])} == {"batch_cancelled"}


async def test_a_batch_that_is_over_can_not_be_cancelled(openai: Bench):
    """Cancelling a completed batch is a conflict."""
    batch = await openai.batch()
    await openai.after(1000, batch)

    refused = await openai.call("POST", f"/batches/{batch['id']}/cancel", status=409)

    assert "completed" in refused["error"]["message"]


async def test_a_held_batch_stays_where_it_is_until_it_is_released(openai: Bench):
    """A batch that is held does not go on, however late it is, and goes on from then when released."""
    await openai.behave(hold=True)
    batch = await openai.batch()
    assert (await openai.after(50_000, batch))["status"] == "in_progress"

    await openai.behave(hold=False)

    assert (await openai.after(5, batch))["status"] == "finalizing"
    assert (await openai.after(10, batch))["status"] == "completed"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"endpoint": "/v1/nowhere"}, "endpoint", "invalid_value"),
        ({"endpoint": "/chat/completions"}, "endpoint", "invalid_value"),
        ({"completion_window": "48h"}, "completion_window", "invalid_value"),
        ({"input_file_id": None}, "input_file_id", "invalid_type"),
        ({"surprise": 1}, "surprise", "unknown_parameter"),
        ({"metadata": {str(at): "x" for at in range(17)}}, "metadata", "object_above_max_properties"),
        ({"metadata": {"k" * 65: "x"}}, "metadata", "invalid_property_name"),
        ({"metadata": {"k": "x" * 513}}, "metadata.k", "string_above_max_length"),
        ({"metadata": {"attempt": 1}}, "metadata.attempt", "invalid_type"),
        ({"metadata": ["x"]}, "metadata", "invalid_type"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after.seconds", None),
    ],
)
async def test_a_create_that_breaks_a_rule_is_refused_naming_the_parameter(
    openai: Bench, fields: dict[str, Any], param: str, code: str | None
):
    """Every rule of the request is enforced at once, in OpenAI's form."""
    file = await openai.upload()

    error = (await openai.create(file["id"], status=400, **fields))["error"]

    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert code is None or error["code"] == code
    assert (await openai.call("GET", "/batches"))["data"] == []


async def test_metadata_at_its_limits_is_accepted(openai: Bench):
    """16 entries with keys of 64 and values of 512 characters are allowed."""
    metadata = {f"{at:064}": "x" * 512 for at in range(16)}

    assert (await openai.batch(metadata=metadata))["metadata"] == metadata


async def test_lists_are_newest_first_and_paged_by_cursor(openai: Bench):
    """Pages follow each other without gap or overlap, and the last one says so."""
    file = await openai.upload()
    made = []
    for _ in range(5):
        made.append((await openai.create(file["id"]))["id"])
        openai.clock.turn(1)

    first = await openai.call("GET", "/batches", limit=2)
    second = await openai.call("GET", "/batches", limit=2, after=first["last_id"])
    third = await openai.call("GET", "/batches", limit=2, after=second["last_id"])

    pages = [[batch["id"] for batch in page["data"]] for page in (first, second, third)]
    assert pages == [[made[4], made[3]], [made[2], made[1]], [made[0]]]
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert await openai.call("GET", "/batches", limit=101, status=400)


async def test_others_batches_are_listed_among_ones_own(openai: Bench):
    """An account that is shared shows other people's batches in the order of their age."""
    batch = await openai.batch()
    await openai.control("POST", "foreign-batches", {"count": 150, "age_seconds": 60})

    page = await openai.call("GET", "/batches", limit=100)
    rest = await openai.call("GET", "/batches", limit=100, after=page["last_id"])

    assert page["data"][0]["id"] == batch["id"]
    assert (len(page["data"]), len(rest["data"]), rest["has_more"]) == (100, 51, False)
    assert {other["created_at"] for other in rest["data"]} == {batch["created_at"] - 60}


async def test_a_token_limit_fails_the_batch_until_others_are_done(openai: Bench):
    """What is enqueued counts against the limit, and counts no more once it is over."""
    await openai.behave(token_limit={"enqueued_limit": 150})
    file = await openai.upload()
    first = await openai.create(file["id"])

    failed = await openai.after(10, await openai.create(file["id"]))
    await openai.after(1000, first)
    later = await openai.after(10, await openai.create(file["id"]))

    assert failed["errors"]["data"][0]["code"] == "token_limit_exceeded"
    assert later["status"] == "in_progress"


async def test_no_more_than_two_thousand_batches_an_hour_can_be_created(openai: Bench):
    """The creation that is too many is refused with 429 and told when to come again."""
    await openai.behave(creates_per_hour=2)
    file = await openai.upload()
    await openai.create(file["id"])
    openai.clock.turn(600)
    await openai.create(file["id"])

    refused = await openai.create(file["id"], status=429)
    openai.clock.turn(3000)
    await openai.create(file["id"])

    assert refused["error"]["code"] == "rate_limit_exceeded"


async def test_a_faster_pace_ends_a_state_now_and_not_in_the_past(openai: Bench):
    """Times that a batch shows never lie before what was seen of it already."""
    batch = await openai.batch()
    assert (await openai.after(100, batch))["status"] == "in_progress"

    await openai.behave(in_progress_seconds=1)

    finalizing = await openai.after(0, batch)
    assert (finalizing["status"], finalizing["finalizing_at"]) == ("finalizing", batch["created_at"] + 100)


@pytest.mark.parametrize("messages", [b"[" * 900 + b"]" * 900, b"7", b'{"content": null}'])
async def test_a_request_of_odd_content_is_answered_like_any_other(openai: Bench, messages: bytes):
    """Content that no model would understand does no harm to the emulator."""
    line = a_line(body={"model": "gpt-4o-mini", "messages": "X"}).replace(b'"X"', messages)

    done = await openai.after(1000, await openai.batch(line))

    assert done["request_counts"]["completed"] == 1


async def test_a_request_without_its_main_parameter_fails_by_itself(openai: Bench):
    """A chat request without messages is a failed line, not a failed batch."""
    lines = a_line() + a_line(custom_id="b", body={"model": "gpt-4o-mini"})
    done = await openai.after(1000, await openai.batch(lines))

    [line] = await openai.lines(done["error_file_id"])

    assert (line["custom_id"], line["response"]["body"]["error"]["param"]) == ("b", "messages")


async def test_a_batch_can_be_put_into_any_state_at_once(openai: Bench):
    """A test need not wait: a batch is expired now, with its part of the output."""
    batch = await openai.batch()

    forced = await openai.control("POST", f"batches/{batch['id']}/advance", {"state": "expired"})

    assert (forced["status"], forced["request_counts"]["completed"]) == ("expired", 5)
    await openai.control("POST", f"batches/{batch['id']}/advance", {"state": "completed"}, status=409)
