"""The operator as a release of the chart would run it, but for the pod."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.cluster import Cluster
from support.helm import Rendered
from support.rights import account_of


@dataclass(frozen=True)
class Installed:
    """What a process needs to be the operator of a release: its account's way to the cluster, and the pod's flags."""

    cluster: Cluster
    flags: tuple[str, ...]


def install(cluster: Cluster, release: Rendered, folder: Path) -> Installed:
    """Make the account of a release with its roles; its kubeconfig goes to `folder`."""
    account = release.one("ServiceAccount")["metadata"]
    cluster.apply(account_of(release), account["namespace"])
    _, *arguments = release.container["args"]
    flags = tuple(argument.replace("$(POD_NAMESPACE)", account["namespace"]) for argument in arguments)
    return Installed(cluster.as_account(account["name"], account["namespace"], folder), flags)
