"""S3 with the operator's own credentials, on the prefixes that the administrator opened to tenants.

The credentials are whatever the process has: keys in its environment, the web identity of its ServiceAccount, EKS Pod
Identity, or the node's role. They go to the operator's own endpoint only, which no tenant can name. It is trusted: its
network is not checked, and its proxy is the process's own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from obstore.exceptions import BaseError
from obstore.store import S3Store

from llmbatch.domain.ambient import AmbientPrefix, covered
from llmbatch.storage.credentials import CLIENT, RETRIES, invalid

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

logger = logging.getLogger(__name__)

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
SHAPING = (
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_BUCKET_KEY_ENABLED",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AWS_SSE_KMS_KEY_ID",
    "AWS_CHECKSUM_ALGORITHM",
    "AWS_CONDITIONAL_PUT",
    "AWS_COPY_IF_NOT_EXISTS",
)
"""Variables that the client puts into requests, and of which no value means none: see ``Ambient``."""

_ASKED = re.compile(r"Error performing [A-Z]+ https?://(?:[^/\s]*@)?([^/\s@]+)")
"""The host, without what may stand before it to log in."""


class Ambient:
    """Opens buckets with the credentials of the process. ``environ`` is its environment, which the client reads too.

    Whatever shapes requests is taken out of it: the client would read it for the stores of tenants as well, and send
    them the operator's own keys of encryption.
    """

    def __init__(self, prefixes: Sequence[AmbientPrefix] = (), environ: MutableMapping[str, str] | None = None) -> None:
        found = {} if environ is None else environ
        self._prefixes = tuple(prefixes)
        self._endpoint = next((value for name in ENDPOINTS if (value := found.get(name))), None)
        self._shaping = _taken_out(found)
        self._stores: dict[str, S3Store] = {}
        self._told: set[str] = set()

    def way_to(self, bucket: str, key: str, namespace: str) -> Way | None:
        """How to open the bucket for this object of a tenant; None where the administrator does not let that be."""
        return Way(self, bucket) if covered(self._prefixes, bucket, key, namespace) else None

    def tell(self, error: Exception) -> None:
        """Log what kind of failure there was, each kind once: what to do about it is not in the tenants' hands."""
        if (kind := _kind(error)) not in self._told:
            self._told.add(kind)
            logger.warning("a store cannot be used with the operator's own credentials: %s", kind)

    def store(self, bucket: str) -> S3Store:
        """The bucket. Raises CredentialsError (CredentialsInvalid)."""
        # Kept, because each store asks for credentials of its own. The prefixes bound how many there are.
        if bucket not in self._stores:
            self._stores[bucket] = self._connect(bucket)
        return self._stores[bucket]

    def _connect(self, bucket: str) -> S3Store:
        config: S3Config = {"virtual_hosted_style_request": False, "disable_tagging": True, **self._shaping}
        if self._endpoint:
            config |= {"endpoint": self._endpoint, "aws_endpoint_url_s3": self._endpoint}
        http = (self._endpoint or "").startswith("http://")
        options: ClientConfig = {**CLIENT, "allow_http": http}
        try:
            return S3Store(bucket, config=config, client_options=options, retry_config=RETRIES)
        except (BaseError, ValueError):
            raise invalid(
                "the operator's own AWS_… variables cannot be used; ask the administrator to correct them, or set"
                " credentialsSecretRef"
            ) from None


@dataclass(frozen=True, slots=True)
class Way:
    """To one bucket, with the operator's own credentials."""

    ambient: Ambient
    bucket: str

    def store(self) -> S3Store:
        """The bucket. Raises CredentialsError (CredentialsInvalid)."""
        return self.ambient.store(self.bucket)

    def tell(self, error: Exception) -> None:
        """Something failed there."""
        self.ambient.tell(error)


def _taken_out(environ: MutableMapping[str, str]) -> S3Config:
    # The client tells small letters from capitals in AWS_ only.
    names = [name for name in environ if name.startswith("AWS_") and name.upper() in SHAPING]
    return cast("S3Config", {name.lower(): environ.pop(name) for name in names})


def _kind(error: Exception) -> str:
    """What can be told of a failure without quoting an answer: its kind, and whom it was that was asked."""
    text = str(error)
    if found := _ASKED.search(text):
        return f"{type(error).__name__} at {found[1]}"
    return f"{type(error).__name__}, the token file cannot be read" if "token file" in text else type(error).__name__
