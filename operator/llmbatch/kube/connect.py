"""How the operator finds its API server: a kubeconfig, or the pod's ServiceAccount."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.request import getproxies

from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration

from llmbatch.kube.transport import Api, Observe

DEFAULT_KUBECONFIG = "~/.kube/config"


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
