"""Azure OpenAI's dialect, in both URL forms. Source: Microsoft's REST reference and its how-to page on batches."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from llmbatch.emulator.openai.dialects import DAY
from llmbatch.emulator.openai.objects import Batch, Kind, StoredFile
from llmbatch.emulator.openai.openai import ENDPOINTS, SNAPSHOTS
from llmbatch.emulator.refusals import LineError, Refusal
from llmbatch.emulator.settings import AccountSettings, Provider

CHAT, RESPONSES = "/chat/completions", "/v1/responses"
CLASSIC_ENDPOINTS: Mapping[str, Kind] = MappingProxyType(
    {endpoint.removeprefix("/v1"): kind for endpoint, kind in ENDPOINTS.items() if endpoint != RESPONSES}
)
V1_ENDPOINTS: Mapping[str, Kind] = MappingProxyType({**ENDPOINTS, CHAT: "chat"})

MESSAGES: Mapping[str, str] = MappingProxyType(
    {
        "model_mismatch": "The model deployment of this request does not match the rest of the file. "
        "Please ensure that all requests in the batch point to the same deployment.",
        "url_mismatch": "The URL of this request does not match the rest of the file or the batch endpoint. "
        "Please ensure all request URLs are the same, and that they match the endpoint.",
    }
)

CODES: Mapping[str, str] = MappingProxyType(
    {"mismatched_model": "model_mismatch", "mismatched_url": "url_mismatch", "invalid_method": "invalid_request"}
)


@dataclass(frozen=True)
class Azure:
    """A resource's `/openai` (classic, by `api-version`) or `/openai/v1`."""

    provider: Provider = "azure"
    endpoints: Mapping[str, Kind] = field(default_factory=lambda: V1_ENDPOINTS)
    needs_api_version: bool = False
    file_ttl: tuple[int, int] = (14 * DAY, 30 * DAY)
    default_file_ttl: int | None = None

    def kind_of(self, endpoint: str, url: str) -> Kind | None:
        if endpoint == CHAT and url == RESPONSES:
            # The how-to page: which of the two is wanted is read from the file.
            return "responses"
        same = url == endpoint or (url in self.endpoints and url == f"/v1{endpoint}")
        return self.endpoints[endpoint] if same else None

    def new_file_id(self) -> str:
        return "file-" + secrets.token_hex(16)

    def new_batch_id(self) -> str:
        return f"batch_{uuid.uuid4()}"

    def error(self, refusal: Refusal) -> dict[str, Any]:
        return {"error": {"code": refusal.code or str(refusal.status), "message": refusal.message}}

    def headers(self, request_id: str, account: AccountSettings | None) -> Mapping[str, str]:
        return {"apim-request-id": request_id, "x-request-id": request_id, "x-ms-region": "Emulated"}

    def unauthorized(self) -> Refusal:
        return Refusal(
            401,
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
            "for an active subscription and use a correct regional API endpoint for your resource.",
            code="401",
        )

    def unknown_path(self, method: str, path: str) -> Refusal:
        return Refusal(404, "Resource not found", code="404")

    def no_such_file(self, file_id: str) -> Refusal:
        return Refusal(404, f"The specified file '{file_id}' was not found.", code="resourceNotFound")

    def no_such_batch(self, batch_id: str) -> Refusal:
        return Refusal(404, f"The specified batch '{batch_id}' was not found.", code="resourceNotFound")

    def invalid(self, message: str, *, code: str | None, param: str | None) -> Refusal:
        return Refusal(400, message, code="invalidPayload")

    def rate_limited(self, retry_after: float) -> Refusal:
        return Refusal(
            429,
            f"Requests to the Batch Operation under Azure OpenAI API have exceeded the call rate limit of your current "
            f"pricing tier. Please retry after {retry_after:g} seconds.",
            code="429",
            retry_after=retry_after,
        )

    def over_token_limit(self, batch: Batch, limit: int, status: int) -> Refusal:
        return Refusal(
            status,
            f"The number of enqueued tokens has surpassed the configured limit of {limit // 1000}K for the deployment "
            f"'{batch.deployment}'. Please either increase the limit or try again once the current jobs have finished.",
            code="token_limit_exceeded",
        )

    def unready_input(self, file: StoredFile, now: float) -> Refusal | None:
        if file.purpose != "batch":
            return self.invalid("The input file must have the purpose 'batch'.", code=None, param=None)
        status, _ = self.file_status(file, now)
        if status != "processed":
            return self.invalid(
                f"The input file '{file.id}' is not ready for use: its status is '{status}' and must be 'processed'.",
                code=None,
                param=None,
            )
        return None

    def missing_input(self, file_id: str) -> Refusal | None:
        return Refusal(400, f"The input file '{file_id}' was not found.", code="invalidPayload")

    def line_error(self, error: LineError, endpoint: str) -> LineError:
        code = CODES.get(error.code, error.code)
        return replace(error, code=code, message=error.message or MESSAGES.get(code, code))

    def unknown_model(self, model: str, line: int | None) -> LineError:
        message = (
            "The model deployment name that was specified in the model property of the input file was not found. "
            "Please ensure this name points to a valid model deployment."
        )
        return LineError("model_not_found", message, line, "body.model")

    def models(self, account: AccountSettings) -> Mapping[str, str] | None:
        return {name: SNAPSHOTS.get(model, model) for name, model in account.deployments.items()}

    def file_status(self, file: StoredFile, now: float) -> tuple[str, str | None]:
        if now < file.ready:
            return ("pending" if now < (file.created + file.ready) / 2 else "running"), None
        if file.fault:
            return "error", file.fault
        if file.verdict and file.verdict.malformed:
            first = file.verdict.malformed[0]
            return "error", f"{first.code}: {first.message}" + (f" (line {first.line})" if first.line else "")
        return "processed", None

    def finish_batch(self, view: dict[str, Any], batch: Batch) -> dict[str, Any]:
        return view


def classic() -> Azure:
    """`{endpoint}/openai/files?api-version=…`: line URLs and endpoints without `/v1`."""
    return Azure(endpoints=CLASSIC_ENDPOINTS, needs_api_version=True)
