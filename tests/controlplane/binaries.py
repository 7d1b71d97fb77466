"""The control plane's programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolchain.find import Found, find

CONTROLLERS = "kube-controller-manager"
WITHOUT_CONTROLLERS = ("etcd", "kube-apiserver", "kubectl")


@dataclass(frozen=True)
class Binaries:
    """Where the programs are. Without controllers nothing collects garbage or empties a deleted namespace."""

    etcd: Path
    kube_apiserver: Path
    kubectl: Path
    kube_controller_manager: Path | None = None


def find_programs(*, controllers: bool = True) -> Mapping[str, Found]:
    """The programs and how they came, got first if they have to be. Raises BuildError."""
    return find("controlplane", (*WITHOUT_CONTROLLERS, *[CONTROLLERS] * controllers))


def ensure_binaries(*, controllers: bool = True) -> Binaries:
    """The same, to be run."""
    found = find_programs(controllers=controllers)
    return Binaries(**{name.replace("-", "_"): one.path for name, one in found.items()})
