"""What a deployment's provider block comes down to: everything about a provider that is not its key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from llmbatch.api.base import KeyReference
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError, Refused
from llmbatch.domain.remote import Capabilities, FileState
from llmbatch.providers.http.calls import Account
from llmbatch.providers.protocol import BatchProvider

_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Target:
    """One deployment at its provider.

    ``label`` is the provider in status and metrics, ``price_provider`` in the price list. ``model`` replaces the
    model's name in every line. ``api_url`` is what ``/files`` and ``/batches`` hang on, ``query`` goes with each of
    them. ``endpoint``, ``organization`` and ``project`` make the account, together with the key.
    """

    label: str
    price_provider: str
    endpoint: str
    organization: str
    project: str
    model: str
    key_reference: KeyReference
    capabilities: Capabilities
    api_url: str
    query: Mapping[str, str]
    authorize: Callable[[str], Mapping[str, str]]
    """The headers that a key is sent in."""
    file_states: Mapping[str, FileState]
    """By the provider's name in lower case, without separators; ``""`` where it names none."""
    files_query: Mapping[str, str]
    """What narrows a listing of files to those of batches, where the provider is known to call them so."""
    files_page: int | None
    """How many files to ask for at a time; None where the provider lists them all at once."""
    adapter: Callable[[Target, Account], BatchProvider]


def checked_key(key: str) -> str:
    """A key that can be sent in a header; CredentialsError otherwise, without saying what it is."""
    stripped = key.strip()
    if not _VISIBLE.fullmatch(stripped):
        message = "the key is empty or holds characters that no key has"
        raise CredentialsError(message, reason=Reason.CREDENTIALS_INVALID)
    return stripped


def checked_header(name: str, value: str) -> str:
    """A value from a spec that can be sent in a header."""
    if not _VISIBLE.fullmatch(value):
        raise Refused(f"{name} holds characters that cannot be sent", reason=Reason.PROVIDER_ERROR)
    return value


def normalized(url: str) -> str:
    """A base URL in one form: scheme and host in lower case, no default port, no slash at the end.

    What is no URL stays as it is, and every call to it is refused: so the deployment says what is wrong with it, and
    nobody else is concerned.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    host = parts.netloc.lower()
    default = {"https": ":443", "http": ":80"}.get(parts.scheme.lower())
    if default:
        host = host.removesuffix(default)
    return f"{parts.scheme.lower()}://{host}{parts.path.rstrip('/')}"
