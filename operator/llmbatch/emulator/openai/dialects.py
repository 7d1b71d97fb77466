"""What differs between the providers: words, codes, forms of objects, and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from llmbatch.emulator.openai.objects import Batch, Kind, StoredFile
from llmbatch.emulator.refusals import LineError, Refusal
from llmbatch.emulator.settings import AccountSettings, Provider

DAY = 86_400


class Dialect(Protocol):
    """One provider's API in one of its URL forms. Every method is pure."""

    @property
    def provider(self) -> Provider:
        """Whose API this is."""
        ...

    @property
    def endpoints(self) -> Mapping[str, Kind]:
        """The endpoints that a batch may name, by what they run; lines' URLs have the same form, but see `kind_of`."""
        ...

    def kind_of(self, endpoint: str, url: str) -> Kind | None:
        """What a batch for `endpoint` runs whose lines have the one URL `url`; None: they disagree."""
        ...

    @property
    def needs_api_version(self) -> bool:
        """Whether `api-version` must be in the query."""
        ...

    @property
    def file_ttl(self) -> tuple[int, int]:
        """The least and the most seconds of `expires_after`."""
        ...

    @property
    def default_file_ttl(self) -> int | None:
        """How long a file lives that was uploaded without `expires_after`, in seconds; None: for ever."""
        ...

    def new_file_id(self) -> str:
        """An id as this provider makes them."""
        ...

    def new_batch_id(self) -> str:
        """An id as this provider makes them."""
        ...

    def error(self, refusal: Refusal) -> dict[str, Any]:
        """The body of an error answer."""
        ...

    def headers(self, request_id: str, account: AccountSettings | None) -> Mapping[str, str]:
        """The headers that every answer carries."""
        ...

    def unauthorized(self) -> Refusal:
        """The refusal of a key that isn't known, or none."""
        ...

    def unknown_path(self, method: str, path: str) -> Refusal:
        """The refusal of a path that leads nowhere."""
        ...

    def no_such_file(self, file_id: str) -> Refusal:
        """The refusal of a file that isn't there."""
        ...

    def no_such_batch(self, batch_id: str) -> Refusal:
        """The refusal of a batch that isn't there."""
        ...

    def invalid(self, message: str, *, code: str | None, param: str | None) -> Refusal:
        """The refusal of a parameter."""
        ...

    def rate_limited(self, retry_after: float) -> Refusal:
        """The refusal of a call too many."""
        ...

    def over_token_limit(self, batch: Batch, limit: int, status: int) -> Refusal:
        """The refusal of a batch that the enqueued-token limit has no room for."""
        ...

    def unready_input(self, file: StoredFile, now: float) -> Refusal | None:
        """The refusal of a batch on this file, if there is cause for one."""
        ...

    def missing_input(self, file_id: str) -> Refusal | None:
        """The refusal of a batch on a file that isn't there; None: it is accepted, and fails later."""
        ...

    def line_error(self, error: LineError, endpoint: str) -> LineError:
        """An error of the validation, in this provider's words."""
        ...

    def unknown_model(self, model: str, line: int | None) -> LineError:
        """The error of a batch whose model the account doesn't have."""
        ...

    def models(self, account: AccountSettings) -> Mapping[str, str] | None:
        """The names that a line may give as its model, each with the model that answers; None: any."""
        ...

    def file_status(self, file: StoredFile, now: float) -> tuple[str, str | None]:
        """The file's state and, of an error, the details."""
        ...

    def finish_batch(self, view: dict[str, Any], batch: Batch) -> dict[str, Any]:
        """A batch's view with what only this provider has."""
        ...
