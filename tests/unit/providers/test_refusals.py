"""Error answers of both providers are sorted into one tree, and give nothing away."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import (
    BadAnswer,
    NotFound,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from llmbatch.providers.refusals import error_of, retry_after, safe_details

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def sorted_as(
    status: int, body: object = b"", *, operation: str = "batches.create", by_id: bool = False
) -> ProviderError:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return error_of(operation, status, {}, raw, now=NOW, by_id=by_id)


def fault(code: object, message: str = "", **fields: object) -> dict[str, object]:
    return {"error": {"code": code, "message": message, **fields}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "certain", "retryable"),
    [
        (400, fault("invalid_value"), Refused, True, False),
        (413, b"<html>too large</html>", Refused, True, False),
        (400, fault("token_limit_exceeded"), QuotaExceeded, True, True),
        (429, fault("token_limit_exceeded"), QuotaExceeded, True, True),
        (429, fault(None, type="insufficient_quota"), QuotaExceeded, True, True),
        (400, fault("quotaExceeded"), QuotaExceeded, True, True),
        (400, fault("billing_hard_limit_reached"), QuotaExceeded, True, True),
        (429, fault("too_many_tasks"), QuotaExceeded, True, True),
        (429, fault("429"), RateLimited, True, True),
        (429, b"", RateLimited, True, True),
        (401, fault("invalid_api_key"), Unauthorized, True, True),
        (403, {"statusCode": 403, "message": "out of call volume quota"}, Unauthorized, True, True),
        (403, fault("403"), Unauthorized, True, True),
        (403, fault("invalid_api_key"), Unauthorized, True, True),
        (403, fault("not_available_for_plan"), PermissionDenied, True, True),
        (403, fault("model_not_found"), PermissionDenied, True, True),
        (404, fault("DeploymentNotFound"), NotFound, True, False),
        (302, b"", BadAnswer, False, True),
        (408, b"", Unavailable, False, True),
        (409, b"", Unavailable, False, True),
        (425, b"", Unavailable, False, True),
        (500, fault(None, type="server_error"), Unavailable, False, True),
        (503, b"upstream connect error", Unavailable, False, True),
        (529, b"[1, 2", Unavailable, False, True),
    ],
)
def test_an_error_says_whether_the_call_may_have_had_an_effect_and_a_retry_can_help(
    status: int, body: object, kind: type[ProviderError], certain: bool, retryable: bool
):
    """Only what surely had no effect is certain; only what can change by itself is retryable."""
    error = sorted_as(status, body)

    assert (type(error), error.certain, error.retryable, error.status) == (kind, certain, retryable, status)


def test_an_id_that_the_provider_does_not_even_take_for_one_is_not_found():
    """OpenAI refuses a malformed id with 400 where it answers 404 for an unknown one."""
    body = fault("invalid_value", "Invalid 'batch_id': 'x'. Expected an ID that begins with 'batch'.", param="batch_id")

    assert isinstance(sorted_as(400, body, operation="batches.get", by_id=True), NotFound)
    assert isinstance(sorted_as(400, body, operation="batches.create"), Refused)


def test_words_that_may_repeat_the_input_are_not_kept():
    """Of a refusal with an unknown code only status, code and parameter are shown."""
    error = sorted_as(400, fault("invalid_value", "Invalid value: 'my secret prompt'", param="metadata.team"))

    assert "secret" not in error.message
    assert "400 invalid_value param metadata.team" in error.message


def test_words_that_help_are_kept_on_one_short_line():
    """A limit's message names the limit, which is what a person needs; credentials in it are taken out."""
    words = "Enqueued token limit reached\nfor gpt-4o-mini in organization org-abcdef123456. " + "x" * 400
    error = sorted_as(429, fault("token_limit_exceeded", words))

    assert "Enqueued token limit reached for gpt-4o-mini" in error.message
    assert "abcdef" not in error.message
    assert len(error.message) < 400


def test_a_code_that_is_none_is_left_out():
    """A code is shown only if it looks like one: it goes to status and metrics."""
    assert sorted_as(400, fault("what the <user> wrote")).code == ""
    assert sorted_as(400, fault(["a"])).code == ""
    assert sorted_as(400, b'{"error": "plain words"}').code == ""


def test_a_body_nested_beyond_reason_is_no_code():
    """A hostile error body cannot raise anything but the error that its status stands for."""
    assert isinstance(sorted_as(400, b"[" * 60_000), Refused)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:30 GMT"}, 90.0),
        ({"retry-after": "Thu, 01 Jan 2026 05:00:30 GMT", "date": "Thu, 01 Jan 2026 05:00:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 31 Dec 2025 23:00:00 GMT"}, 0.0),
        ({"retry-after": "99999999999"}, 86_400.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e9"}, None),
    ],
)
def test_retry_after_is_read_in_both_forms(headers: dict[str, str], seconds: float | None):
    """Seconds, or a date against the answer's own clock; nonsense is nothing, and no wait is longer than a day."""
    assert retry_after(headers, NOW) == seconds


def test_file_details_keep_code_and_line_only():
    """What a provider says of a bad file may quote its lines."""
    assert safe_details("invalid_json_line: Line 17 reads 'a secret' (line 17)") == "invalid_json_line (line 17)"
    assert safe_details("Something about a secret") == ""
    assert safe_details(None) == ""


def test_a_file_that_is_too_large_is_told_as_that():
    """The limit is the provider's, and only a smaller file can pass it."""
    error = sorted_as(413, b"<html>too large</html>", operation="files.create")

    assert error.reason is Reason.LIMIT_EXCEEDED
    assert "divide the file" in error.message
