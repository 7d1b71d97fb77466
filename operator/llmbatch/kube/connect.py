"""How the operator, or a person, finds the API server: a kubeconfig, or the pod's ServiceAccount."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from urllib.request import getproxies

import yaml
from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.incluster_config import InClusterConfigLoader
from kubernetes.aio.config.kube_config import ConfigNode

from llmbatch.kube.errors import NoConfiguration, Unauthenticated
from llmbatch.kube.transport import Api, Observe

DEFAULT_KUBECONFIG = "~/.kube/config"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has the token, the namespace and the API server's authority of its ServiceAccount."""

_HEADER_CHARACTERS = "!#$&'*+^`|"
"""Besides letters, digits and ``-_.~``; RFC 9110 (tokens), but for the ``%`` of the escapes."""


@dataclass(frozen=True, slots=True)
class Access:
    """An API server's address and the credentials for it, for another client than ours. Paths are of PEM files."""

    server: str
    authorization: str = field(repr=False)
    """The Authorization header; empty where a certificate does."""
    ca_path: str | None
    insecure: bool
    certificate_path: str | None
    private_key_path: str | None


async def access(api: Api) -> Access:
    """What ``connect`` found, as it is now: tokens are renewed under way."""
    configuration = api.configuration
    return Access(
        server=configuration.host,
        authorization=await configuration.get_api_key_with_prefix("BearerToken") or "",
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )


async def connect(
    environ: Mapping[str, str],
    *,
    pool_size: int = 64,
    timeout_seconds: float = 30.0,
    user_agent: str = "llmbatch-operator",
    observe: Observe = lambda verb, resource, code, seconds: None,
    service_account: Path = SERVICE_ACCOUNT,
) -> Api:
    """The API server that ``environ`` names: KUBECONFIG first, then the pod's, then the user's kubeconfig.

    ``pool_size`` is the number of calls at a time and must not be below that of workers; ``timeout_seconds``
    is for a whole call. Raises NoConfiguration, and kubernetes.aio.config.ConfigException for a kubeconfig.
    """
    configuration = _configuration(pool_size)
    refresh = None
    if not environ.get("KUBECONFIG") and environ.get("KUBERNETES_SERVICE_HOST"):
        _load_service_account(configuration, environ, service_account)
    else:
        file = environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
        loader = await config.load_kube_config(file, client_configuration=configuration, persist_config=False)
        if _impersonation(loader._user):
            raise NoConfiguration(
                "the kubeconfig impersonates somebody; name one with credentials of the operator's own"
            )
        # Ends at once unless the credentials come from a plugin, whose tokens live for minutes.
        refresh = partial(config.refresh_token, loader, configuration)
    return Api(configuration, timeout_seconds=timeout_seconds, user_agent=user_agent, observe=observe, refresh=refresh)


class UserAccess(NamedTuple):
    """The API server as a person reaches it, and the namespace that their context names."""

    api: Api
    namespace: str


async def connect_as_user(
    environ: Mapping[str, str],
    *,
    kubeconfig: str | None = None,
    context: str | None = None,
    user_agent: str,
    timeout_seconds: float = 30.0,
    service_account: Path = SERVICE_ACCOUNT,
) -> UserAccess:
    """As kubectl finds it: ``kubeconfig``, KUBECONFIG (files joined by colons), the user's own, then the pod's where
    neither file nor context is named. Impersonation (``as``, ``as-groups``, …) is taken over.

    Raises NoConfiguration, and Unauthenticated where a credential plugin fails; neither quotes the kubeconfig.
    """
    files = kubeconfig or environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    configuration = _configuration(pool_size=8)
    if not _exists(files):
        if kubeconfig or context or not environ.get("KUBERNETES_SERVICE_HOST"):
            raise NoConfiguration(f"there is no kubeconfig at {files}; name one with --kubeconfig or KUBECONFIG")
        _load_service_account(configuration, environ, service_account)
        api = Api(configuration, timeout_seconds=timeout_seconds, user_agent=user_agent)
        return UserAccess(api, _pod_namespace(service_account))
    try:
        loader = await config.load_kube_config(
            files, context=context, client_configuration=configuration, persist_config=False
        )
        chosen: Mapping[str, Any] = loader.current_context["context"]
        impersonation = _impersonation(loader._user)
    except (config.ConfigException, yaml.YAMLError, AttributeError, KeyError, OSError, TypeError, ValueError):
        # The loader's own messages may quote the entry, credentials included.
        place = f"context {context} of the kubeconfig" if context else "the kubeconfig"
        raise NoConfiguration(
            f"{place} cannot be used; see: kubectl config get-contexts, kubectl config view"
        ) from None
    if "exec" in (loader._user or {}) and not (configuration.api_key or configuration.cert_file):
        raise Unauthenticated(
            "the credential plugin that the kubeconfig names gave no credentials; try: kubectl get ns"
        )
    api = Api(
        configuration,
        timeout_seconds=timeout_seconds,
        user_agent=user_agent,
        impersonation=impersonation,
        refresh=partial(config.refresh_token, loader, configuration) if loader._user else None,
    )
    return UserAccess(api, str(chosen.get("namespace") or "default"))


def _exists(files: str) -> bool:
    return any(Path(file).expanduser().exists() for file in files.split(os.pathsep) if file)


def _configuration(pool_size: int) -> Configuration:
    configuration = Configuration()
    configuration.connection_pool_maxsize = pool_size
    # Looking into .netrc and the proxy variables costs time on every call; only proxies are worth it.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
    return configuration


def _impersonation(user: ConfigNode | None) -> list[tuple[str, str]]:
    """The headers by which the user of a kubeconfig acts as somebody else; none where they do not.

    Names and escapes are those of client-go's impersonating round tripper. Raises TypeError, ValueError.
    """
    entry: Mapping[str, Any] = user.value if user else {}
    name, uid = entry.get("as") or "", entry.get("as-uid") or ""
    headers = [("Impersonate-User", name), ("Impersonate-Uid", uid)]
    headers += [("Impersonate-Group", group) for group in entry.get("as-groups") or ()]
    for key, values in (entry.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{quote(key, safe=_HEADER_CHARACTERS)}", value) for value in values]
    headers = [(key, value) for key, value in headers if value]
    if headers and not name:
        raise ValueError("impersonation without a user, which the API server refuses")
    if not all(isinstance(value, str) and value.isprintable() for _, value in headers):
        raise ValueError("impersonation of what is no name")
    return headers


def _load_service_account(configuration: Configuration, environ: Mapping[str, str], folder: Path) -> None:
    """The token is read again every minute, as the kubelet replaces it."""
    loader = InClusterConfigLoader(
        token_filename=str(folder / "token"), cert_filename=str(folder / "ca.crt"), environ=environ
    )
    try:
        loader.load_and_set(configuration)
    except (config.ConfigException, OSError):
        raise NoConfiguration(
            "this pod has no ServiceAccount token; set automountServiceAccountToken, or KUBECONFIG"
        ) from None


def _pod_namespace(folder: Path) -> str:
    try:
        return (folder / "namespace").read_text().strip() or "default"
    except OSError:
        return "default"
