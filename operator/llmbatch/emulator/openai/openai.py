"""OpenAI's dialect. Source: the API reference's pages on files and batches, and answers seen in public issues."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from llmbatch.emulator.openai.dialects import DAY
from llmbatch.emulator.openai.objects import Batch, Kind, StoredFile
from llmbatch.emulator.refusals import LineError, Refusal
from llmbatch.emulator.settings import AccountSettings, Provider

ENDPOINTS: Mapping[str, Kind] = MappingProxyType(
    {
        "/v1/chat/completions": "chat",
        "/v1/responses": "responses",
        "/v1/embeddings": "embeddings",
        "/v1/completions": "completions",
    }
)

SNAPSHOTS: Mapping[str, str] = MappingProxyType(
    {
        "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
        "gpt-3.5-turbo-instruct": "gpt-3.5-turbo-instruct:20230824-v2",
        "gpt-4": "gpt-4-0613",
        "gpt-4-turbo": "gpt-4-turbo-2024-04-09",
        "gpt-4.1": "gpt-4.1-2025-04-14",
        "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
        "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
        "gpt-4o": "gpt-4o-2024-08-06",
        "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
        "gpt-5": "gpt-5-2025-08-07",
        "gpt-5-mini": "gpt-5-mini-2025-08-07",
        "gpt-5-nano": "gpt-5-nano-2025-08-07",
        "o1": "o1-2024-12-17",
        "o3": "o3-2025-04-16",
        "o3-mini": "o3-mini-2025-01-31",
        "o4-mini": "o4-mini-2025-04-16",
        "text-embedding-3-large": "text-embedding-3-large",
        "text-embedding-3-small": "text-embedding-3-small",
        "text-embedding-ada-002": "text-embedding-ada-002-v2",
    }
)
"""The dated model that answers for an alias."""

MESSAGES: Mapping[str, str] = MappingProxyType(
    {
        "mismatched_model": "The model for this request does not match the rest of the batch. "
        "Each batch must contain requests for a single model.",
        "url_mismatch": "The URL provided for this request does not match the batch endpoint.",
        "invalid_request": "This line is not a valid batch request.",
    }
)


@dataclass(frozen=True)
class OpenAI:
    """api.openai.com/v1."""

    provider: Provider = "openai"
    endpoints: Mapping[str, Kind] = field(default_factory=lambda: ENDPOINTS)
    needs_api_version: bool = False
    file_ttl: tuple[int, int] = (3_600, 30 * DAY)
    default_file_ttl: int | None = 30 * DAY

    def kind_of(self, endpoint: str, url: str) -> Kind | None:
        return self.endpoints[endpoint] if url == endpoint else None

    def new_file_id(self) -> str:
        return "file-" + secrets.token_urlsafe(32).replace("-", "").replace("_", "")[:22]

    def new_batch_id(self) -> str:
        return "batch_" + secrets.token_hex(16)

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {
            "error": {
                "message": refusal.message,
                "type": refusal.kind,
                "param": refusal.param,
                "code": refusal.code,
            }
        }

    def headers(self, request_id: str, account: AccountSettings | None) -> Mapping[str, str]:
        organization = (account.organization if account else None) or "org-emulator"
        return {
            "x-request-id": f"req_{request_id}",
            "openai-version": "2020-10-01",
            "openai-organization": organization,
        }

    def unauthorized(self) -> Refusal:
        return Refusal(
            401,
            "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
            code="invalid_api_key",
        )

    def unknown_path(self, method: str, path: str) -> Refusal:
        return Refusal(404, f"Invalid URL ({method} {path})")

    def no_such_file(self, file_id: str) -> Refusal:
        return Refusal(404, f"No such File object: {file_id}", param="id")

    def no_such_batch(self, batch_id: str) -> Refusal:
        return Refusal(404, f"No batch found with id '{batch_id}'.")

    def invalid(self, message: str, *, code: str | None, param: str | None) -> Refusal:
        return Refusal(400, message, code=code, param=param)

    def rate_limited(self, retry_after: float) -> Refusal:
        return Refusal(
            429,
            f"Rate limit reached for requests. Please try again in {retry_after:g}s.",
            code="rate_limit_exceeded",
            kind="requests",
            retry_after=retry_after,
        )

    def over_token_limit(self, batch: Batch, limit: int, status: int) -> Refusal:
        return Refusal(
            status,
            f"Enqueued token limit reached for {batch.deployment} in organization org-emulator. "
            f"Limit: {limit:,} enqueued tokens. Please try again once some in_progress batches have been completed.",
            code="token_limit_exceeded",
        )

    def unready_input(self, file: StoredFile, now: float) -> Refusal | None:
        if file.purpose != "batch":
            return self.invalid(
                f"Invalid file purpose '{file.purpose}'. The input file of a batch must have the purpose 'batch'.",
                code="invalid_value",
                param="input_file_id",
            )
        return None

    def missing_input(self, file_id: str) -> Refusal | None:
        return None

    def line_error(self, error: LineError, endpoint: str) -> LineError:
        code = "url_mismatch" if error.code == "mismatched_url" else error.code
        return replace(error, code=code, message=error.message or MESSAGES.get(code, code))

    def unknown_model(self, model: str, line: int | None) -> LineError:
        message = f"The provided model '{model}' is not supported by the Batch API."
        return LineError("model_not_found", message, line, "body.model")

    def models(self, account: AccountSettings) -> Mapping[str, str] | None:
        if account.models is not None:
            return {name: SNAPSHOTS.get(name, name) for name in account.models}
        return {**SNAPSHOTS, **{snapshot: snapshot for snapshot in SNAPSHOTS.values()}}

    def file_status(self, file: StoredFile, now: float) -> tuple[str, str | None]:
        return ("error", file.fault) if file.fault else ("processed", None)

    def finish_batch(self, view: dict[str, Any], batch: Batch) -> dict[str, Any]:
        if batch.model is not None and batch.state != "validating":
            view["model"] = batch.model
        usage = batch.outcome.usage if batch.outcome else None
        if usage:
            view["usage"] = {
                "input_tokens": usage.input,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.output,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning},
                "total_tokens": usage.input + usage.output,
            }
        return view
