"""The tree of errors: each says whether a retry can help and what a person should do.

Providers and stores translate at their own door; nothing above them looks at a status code. Messages never hold
secrets, prompts or completions.
"""

from __future__ import annotations

from llmbatch.api.reasons import Reason


class LLMBatchError(Exception):
    """Anything that went wrong in a way the operator understands."""

    reason: Reason = Reason.PROVIDER_ERROR
    retryable: bool = True

    def __init__(self, message: str, *, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


# --- a provider -------------------------------------------------------------------------------------------------


class ProviderError(LLMBatchError):
    """A provider did not do what it was asked.

    ``certain`` says that the call surely had no effect; a create that failed otherwise must be looked for before it
    is made again. ``code`` is the provider's own error code, ``status`` the HTTP status where there was one,
    ``retry_after`` seconds that the provider asked to wait.
    """

    certain: bool = False

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        code: str = "",
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, reason=reason)
        self.code = code
        self.status = status
        self.retry_after = retry_after


class Unauthorized(ProviderError):
    """The key was refused (401, or 403 that says no more)."""

    reason = Reason.UNAUTHORIZED
    certain = True


class PermissionDenied(ProviderError):
    """The key is good, but its account may not do this (403): the plan, the project or the model does not allow it."""

    reason = Reason.PERMISSION_DENIED
    certain = True


class RateLimited(ProviderError):
    """Too many calls just now (429); wait ``retry_after`` seconds where given."""

    reason = Reason.RATE_LIMITED
    certain = True


class QuotaExceeded(ProviderError):
    """The account has no room for this batch now (enqueued tokens, active batches, files)."""

    reason = Reason.QUOTA
    certain = True


class Refused(ProviderError):
    """The provider understood and refused (a definite 4xx); the same call will be refused again."""

    reason = Reason.BATCH_REFUSED
    retryable = False
    certain = True


class NotFound(ProviderError):
    """The provider does not know the object (404)."""

    retryable = False
    certain = True


class NotSent(ProviderError):
    """No connection was made, so the provider never saw the call."""

    reason = Reason.UNREACHABLE
    certain = True


class EndpointNotAllowed(NotSent):
    """The address is loopback, private, link-local or metadata, and the administrator does not allow it."""

    reason = Reason.ENDPOINT_NOT_ALLOWED


class Unavailable(ProviderError):
    """The provider failed (5xx); the call may have had an effect."""

    reason = Reason.PROVIDER_ERROR


class NoAnswer(ProviderError):
    """A time-out or a cut connection after the call was sent; it may have had an effect."""

    reason = Reason.UNREACHABLE


class BadAnswer(ProviderError):
    """The provider answered something that cannot be understood; the call may have had an effect."""

    reason = Reason.PROVIDER_ERROR


# --- credentials ------------------------------------------------------------------------------------------------


class CredentialsError(LLMBatchError):
    """A Secret, or a key in it, is missing or unusable (SecretNotFound, SecretKeyNotFound, CredentialsInvalid)."""

    reason = Reason.SECRET_NOT_FOUND


# --- sources and sinks of lines ---------------------------------------------------------------------------------


class StorageError(LLMBatchError):
    """A source or sink of JSON lines failed."""

    reason = Reason.SOURCE_UNREACHABLE


class SourceNotFound(StorageError):
    """The ConfigMap, Secret, key or object is not there (yet)."""

    reason = Reason.OBJECT_NOT_FOUND


class SourceDenied(StorageError):
    """The store refused the credentials."""

    reason = Reason.SOURCE_DENIED


class SourceChanged(StorageError):
    """The content is not what was validated."""

    reason = Reason.SOURCE_CHANGED
    retryable = False


class OutputConflict(StorageError):
    """The ConfigMap or Secret exists and is not this job's."""

    reason = Reason.OUTPUT_CONFLICT
    retryable = False


class OutputTooLarge(StorageError):
    """The results do not fit into a ConfigMap or Secret (1,048,576 bytes in all)."""

    reason = Reason.OUTPUT_TOO_LARGE
    retryable = False


class OutputDenied(StorageError):
    """The store refused to take the results."""

    reason = Reason.OUTPUT_DENIED


class OutputFailed(StorageError):
    """The store could not take the results just now."""

    reason = Reason.OUTPUT_FAILED
