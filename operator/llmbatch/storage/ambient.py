"""S3 with the operator's own credentials, on the prefixes that the administrator opened to tenants.

The credentials are whatever the process has: keys in its environment, the web identity of its ServiceAccount, EKS Pod
Identity, or the node's role. They go to the operator's own endpoint only, which no tenant can name. It is trusted: its
network is not checked, and its proxy is the process's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import S3Store

from llmbatch.domain.ambient import AmbientPrefix, covered
from llmbatch.storage.credentials import CLIENT, RETRIES, invalid

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class Ambient:
    """Opens buckets with the credentials of the process; ``environ`` is its environment, which the client reads too."""

    def __init__(self, prefixes: Sequence[AmbientPrefix] = (), environ: Mapping[str, str] | None = None) -> None:
        self._prefixes = tuple(prefixes)
        self._endpoint = next((found for name in ENDPOINTS if (found := (environ or {}).get(name))), None)
        self._stores: dict[str, S3Store] = {}

    def way_to(self, bucket: str, key: str, namespace: str) -> Callable[[], S3Store] | None:
        """How to open the bucket for this object of a tenant; None where the administrator does not let that be.

        Opening it raises CredentialsError (CredentialsInvalid).
        """
        if not covered(self._prefixes, bucket, key, namespace):
            return None
        return lambda: self._store(bucket)

    def _store(self, bucket: str) -> S3Store:
        # Kept, because each store asks for credentials of its own. The prefixes bound how many there are.
        if bucket not in self._stores:
            self._stores[bucket] = self._connect(bucket)
        return self._stores[bucket]

    def _connect(self, bucket: str) -> S3Store:
        config: S3Config = {"virtual_hosted_style_request": False, "disable_tagging": True}
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
