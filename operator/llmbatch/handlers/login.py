"""kopf's way in, taken from the client's: its own asks cluster DNS, and knows no kubeconfig that we were given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import kopf
from kubernetes.aio.client.configuration import Configuration

LIFETIME = timedelta(minutes=5)
"""A pod's token is replaced in its file by the hour, one of a plugin sooner; then kopf asks again."""


async def connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """How to reach the API server, with the credentials as they are now."""
    header = await configuration.get_api_key_with_prefix("BearerToken")
    scheme, _, token = header.partition(" ") if header else ("", "", "")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        expiration=datetime.now(UTC) + LIFETIME if token else None,
    )
