"""What can go wrong with the API server.

Messages hold the object's name and the server's reason. Its own words are passed on only where they cannot hold
content: a refused Secret or status would otherwise be quoted in a log.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from llmbatch.domain.errors import LLMBatchError

NAMESPACE_TERMINATING = "NamespaceTerminating"
TOO_LONG = "FieldValueTooLong"


REASON = re.compile("[A-Za-z]{1,64}")
DENIED = re.compile(
    r"""(?:[a-z0-9./-]+ (?:"[^"\s]{1,253}" )?is )?forbidden: User "[^"\s]{1,253}" cannot [a-z]+ """
    r"""(?:path "[^"\s]{1,253}"|resource "[a-z0-9./-]+" in API group "[a-z0-9.-]*")"""
    r"""(?: in the namespace "[a-z0-9-]+"| at the cluster scope)?"""
)
"""How kube-apiserver says that RBAC refused: it names the user, the verb and the resource. Admission webhooks answer
403 in words of their own, in which they may quote the object that they refused."""


class KubeError(LLMBatchError):
    """The API server did not do what it was asked. ``status`` is the HTTP status, None where there was no answer."""

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Conflict(KubeError):
    """The object changed since it was read (409): read it again and decide anew."""


class AlreadyExists(Conflict):
    """There is an object of that name already (409)."""


class Gone(KubeError):
    """The object is not there (404), or another one of that name is (its uid differs)."""

    retryable = False


class Expired(KubeError):
    """The page of a list is too old to be continued (410). ``resume`` continues it on newer data."""

    resume: str = ""


class Unauthenticated(KubeError):
    """The API server does not accept the credentials (401), or there are none to be had."""


class Forbidden(KubeError):
    """RBAC or admission refused (403); ``terminating`` says that the namespace is being deleted."""

    terminating: bool = False


class Invalid(KubeError):
    """The API server refused the content (400, 422); the same content will be refused again."""

    retryable = False


class TooLarge(Invalid):
    """The object is larger than the API server takes (413, or a field that is too long)."""


class Overloaded(KubeError):
    """The API server has no time (429) or no luck (5xx); ``retry_after`` seconds where it said so."""


class Unreachable(KubeError):
    """No connection, a time-out or a cut one. A write may have had an effect."""


class NoConfiguration(KubeError):
    """There is no kubeconfig, or none that can be used; nothing was asked of any API server."""

    retryable = False


class InvalidObject(KubeError):
    """A stored object is not what its schema says; somebody must repair it."""

    retryable = False


class Unreadable(InvalidObject):
    """A stored object that does not fit this version's schema: another one wrote it, or somebody by hand."""

    name: str = ""


BY_STATUS: dict[int, type[KubeError]] = {
    400: Invalid, 401: Unauthenticated, 403: Forbidden, 404: Gone, 409: Conflict, 410: Expired, 413: TooLarge,
    422: Invalid,
}  # fmt: skip


def error_of(what: str, status: int, body: bytes, retry_after: str | None = None) -> KubeError:
    """The error that an answer other than success stands for; ``what`` names the call."""
    told = _status_object(body)
    reason = str(told.get("reason") or "")
    if not REASON.fullmatch(reason):
        reason = f"HTTP {status}"
    details = told.get("details")
    causes = (details or {}).get("causes") or []
    kind = _kind_of(status, reason, causes, untold=details == {})
    error = kind(_message(what, status, reason, told, causes), status=status, retry_after=_seconds(retry_after))
    if isinstance(error, Forbidden):
        error.terminating = any(cause.get("reason") == NAMESPACE_TERMINATING for cause in causes)
    if isinstance(error, Expired):
        error.resume = str((told.get("metadata") or {}).get("continue") or "")
    return error


def _kind_of(status: int, reason: str, causes: list[dict[str, Any]], *, untold: bool) -> type[KubeError]:
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExists
    if status == 422 and any(cause.get("field") == "metadata.uid" for cause in causes):
        return Gone
    if status == 422 and untold:
        # A JSON patch whose `test` fails is answered with empty details (seen with kube-apiserver 1.36); content
        # that does not pass validation always has causes. All our tests are on the uid.
        return Gone
    if status == 422 and any(cause.get("reason") == TOO_LONG for cause in causes):
        return TooLarge
    return BY_STATUS.get(status, Overloaded if status == 429 or status >= 500 else KubeError)


def _message(what: str, status: int, reason: str, told: dict[str, Any], causes: list[dict[str, Any]]) -> str:
    if status == 403:
        denied = DENIED.match(str(told.get("message") or ""))
        reason = f"{reason}: {denied[0]}" if denied else reason
    elif fields := sorted({str(cause.get("field"))[:100] for cause in causes if cause.get("field")})[:5]:
        reason = f"{reason}: {', '.join(fields)}"
    return f"{what}: {reason}"


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _seconds(header: str | None) -> float | None:
    try:
        return float(header) if header else None
    except ValueError:
        return None
