"""What a Secret says of an S3 store, and the client that uses that and nothing of the operator's environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store

from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError
from llmbatch.storage.gate import Target

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential

REQUIRED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
OPTIONAL = ("AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL")
RETRIES: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=90),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5), "base": 2},
}
CLIENT: ClientConfig = {
    "connect_timeout": timedelta(seconds=15),
    "timeout": timedelta(seconds=60),  # for one request, which moves at most a part of a few MiB
    "user_agent": "llmbatch-operator",
}


_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_ENDPOINT = re.compile(r"https?://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a Secret says of an S3 store. Values never show in a representation or in a message."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    region: str = field(repr=False)
    session_token: str | None = field(repr=False)
    endpoint: str = field(repr=False)

    @classmethod
    def of(cls, secret: Mapping[str, bytes], name: str) -> Credentials:
        """Read and check a Secret's data. Raises CredentialsError (CredentialsInvalid), naming the key."""
        values = {key: _text(secret[key], key, name) for key in (*REQUIRED, *OPTIONAL) if secret.get(key, b"").strip()}
        if missing := [key for key in REQUIRED if key not in values]:
            raise invalid(f"Secret {name} lacks {', '.join(missing)}; add what is missing")
        region = values["AWS_REGION"]
        if not _REGION.fullmatch(region):
            raise invalid(f"AWS_REGION in Secret {name} is not the name of a region, e.g. eu-central-1; correct it")
        endpoint = values.get("AWS_ENDPOINT_URL", _regional_endpoint(region)).rstrip("/")
        if not _ENDPOINT.fullmatch(endpoint) or not _has_target(endpoint):
            raise invalid(
                f"AWS_ENDPOINT_URL in Secret {name} is not a URL of the form https://HOST[:PORT][/PATH]; correct it"
            )
        return cls(
            access_key_id=values["AWS_ACCESS_KEY_ID"],
            secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
            region=region,
            session_token=values.get("AWS_SESSION_TOKEN"),
            endpoint=endpoint,
        )


def connect(bucket: str, credentials: Credentials, proxy: str) -> S3Store:
    """The bucket with these credentials, reached through this proxy only."""
    # Given even where it is the default: what is not given is read from the operator's environment. What cannot be
    # given as a default is taken out of that (ambient.SHAPING).
    config: S3Config = {
        "endpoint": credentials.endpoint,
        "aws_endpoint_url_s3": credentials.endpoint,
        "region": credentials.region,
        "default_region": credentials.region,
        "virtual_hosted_style_request": False,
        "skip_signature": False,
        "unsigned_payload": False,
        "s3_express": False,
        "request_payer": False,
        "disable_tagging": True,
        "disable_bulk_delete": False,
        "imdsv1_fallback": False,
    }
    options: ClientConfig = {
        **CLIENT,
        "proxy_url": proxy,
        "proxy_excludes": "",
        "allow_http": credentials.endpoint.startswith("http://"),
        "allow_invalid_certificates": False,
    }

    def provide() -> S3Credential:
        return {
            "access_key_id": credentials.access_key_id,
            "secret_access_key": credentials.secret_access_key,
            "token": credentials.session_token,
            "expires_at": None,
        }

    return S3Store(bucket, config=config, client_options=options, retry_config=RETRIES, credential_provider=provide)


def _regional_endpoint(region: str) -> str:
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{suffix}"


def _has_target(endpoint: str) -> bool:
    try:
        Target.of(endpoint)
    except ValueError:
        return False
    return True


def _text(value: bytes, key: str, name: str) -> str:
    text = value.strip().decode("ascii", errors="replace")
    if not _TOKEN.fullmatch(text):
        raise invalid(f"{key} in Secret {name} is not one line of printable characters; correct it")
    return text


def invalid(message: str) -> CredentialsError:
    """The error of credentials that cannot be used."""
    return CredentialsError(message, reason=Reason.CREDENTIALS_INVALID)
