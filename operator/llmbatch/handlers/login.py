"""kopf's way in, taken from the client's: its own asks cluster DNS, and knows no kubeconfig that we were given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import kopf

from llmbatch.kube.connect import Access

LIFETIME = timedelta(minutes=5)
"""A pod's token is replaced in its file by the hour, one of a plugin sooner; then kopf asks again."""


def connection(access: Access) -> kopf.ConnectionInfo:
    """How to reach the API server, with the credentials as they are now."""
    scheme, _, token = access.authorization.partition(" ")
    return kopf.ConnectionInfo(
        server=access.server,
        ca_path=access.ca_path,
        insecure=access.insecure,
        scheme=scheme or None,
        token=token or None,
        certificate_path=access.certificate_path,
        private_key_path=access.private_key_path,
        expiration=datetime.now(UTC) + LIFETIME if token else None,
    )
