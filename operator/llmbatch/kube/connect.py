"""How the operator finds its API server: a kubeconfig, or the pod's ServiceAccount."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.request import getproxies

from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration

from llmbatch.kube.transport import Api, Observe

DEFAULT_KUBECONFIG = "~/.kube/config"


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
) -> Api:
    """The API server that ``environ`` names: KUBECONFIG first, then the pod's, then the user's kubeconfig.

    ``pool_size`` is the number of calls at a time and must not be below that of workers; ``timeout_seconds``
    is for a whole call. Raises kubernetes.aio.config.ConfigException.
    """
    configuration = Configuration()
    configuration.connection_pool_maxsize = pool_size
    # Looking into .netrc and the proxy variables costs time on every call; only proxies are worth it.
    configuration.client_session_kwargs = {"trust_env": bool(getproxies())}
    refresh = None
    if not environ.get("KUBECONFIG") and environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(configuration)
    else:
        file = environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
        loader = await config.load_kube_config(file, client_configuration=configuration, persist_config=False)
        # Ends at once unless the credentials come from a plugin, whose tokens live for minutes.
        refresh = partial(config.refresh_token, loader, configuration)
    return Api(configuration, timeout_seconds=timeout_seconds, user_agent=user_agent, observe=observe, refresh=refresh)
