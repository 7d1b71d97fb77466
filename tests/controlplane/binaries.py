"""The control plane's programs: those of KUBEBUILDER_ASSETS, else built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolchain.build import ensure
from toolchain.go import BuildError
from toolchain.sets import SETS

SET = "controlplane"


@dataclass(frozen=True)
class Binaries:
    """Where the four programs are."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path


def ensure_binaries(environment: Mapping[str, str]) -> Binaries:
    """The programs, built first if they have to be. Raises BuildError."""
    names = tuple(SETS[SET].packages)
    paths: dict[str, Path] = {}
    assets = environment.get("KUBEBUILDER_ASSETS")
    if assets:
        folder = Path(assets)
        paths = {name: folder / name for name in names if os.access(folder / name, os.X_OK)}
        lacking = [name for name in names if name not in paths and name != "kube-controller-manager"]
        if lacking:
            raise BuildError(f"KUBEBUILDER_ASSETS={assets} has no {', '.join(lacking)}; unset it to have them built")
    if rest := tuple(name for name in names if name not in paths):
        built = ensure(SET, rest)
        paths |= {name: built / name for name in rest}
    return Binaries(**{name.replace("-", "_"): path for name, path in paths.items()})
