"""The endpoint that a request line's URL names, in whichever of its known forms it is written."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

VERSION = "/v1"
"""What an endpoint begins with, as OpenAI writes it; Azure's examples leave it out."""
MAX_CHARACTERS = 64
_MAX_URL_CHARACTERS = 512
_PATH = re.compile(r"/(?:v1/)?(?!v1/?\Z)([a-z][a-z0-9_-]*(?:/[a-z0-9_-]+)*)")
_VERSIONED = re.compile(r"/(?:api/)?v(?!1/)\d+[a-z0-9]*(?:/[a-z][a-z0-9_-]*)+")
_ABSOLUTE = re.compile(
    r"https://(?:(?:[a-z]{2}\.)?api\.openai\.com"
    r"|[a-z0-9-]+\.(?:openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com))(?::443)?(/.*)",
    re.IGNORECASE,
)
_AZURE = re.compile(r"/openai/(?:deployments/([A-Za-z0-9._-]{1,64})|v1)(/[^?]+)(?:\?api-version=[A-Za-z0-9._-]{1,32})?")


class Address(NamedTuple):
    """What a line's URL says. ``deployment`` is Azure's, where its path names one."""

    endpoint: str
    deployment: str | None = None


@lru_cache(maxsize=256)
def address_of(url: str) -> Address | None:
    """The endpoint with ``/v1``, or with another version as it is written; None where the URL names none.

    ``/v1/chat/completions``, ``/chat/completions``, Azure's ``/openai/deployments/NAME/chat/completions`` with or
    without ``?api-version=…`` and ``/openai/v1/…``, and any of them below a host of OpenAI's or Azure's.
    """
    if len(url) > _MAX_URL_CHARACTERS:
        return None
    if absolute := _ABSOLUTE.fullmatch(url):
        url = absolute[1]
    deployment = None
    if azure := _AZURE.fullmatch(url):
        deployment, url = azure[1], azure[2]
    found = _PATH.fullmatch(url)
    endpoint = url if _VERSIONED.fullmatch(url) else f"{VERSION}/{found[1]}" if found else ""
    return Address(endpoint, deployment) if 0 < len(endpoint) <= MAX_CHARACTERS else None


def path_of(endpoint: str, prefix: str) -> str:
    """An endpoint as a provider writes it whose paths begin with ``prefix`` (``/v1`` or nothing)."""
    return prefix + endpoint.removeprefix(VERSION) if endpoint.startswith(f"{VERSION}/") else endpoint
