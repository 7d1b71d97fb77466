"""Programs that the machine has already: in `KUBEBUILDER_ASSETS`, in the store of `setup-envtest`, on PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from toolchain.go import BuildError
from toolchain.releases import ENVTEST_PROGRAMS, this_platform
from toolchain.sets import ETCD_VERSION, HELM_VERSION, KUBERNETES_VERSION, PROMETHEUS_VERSION

Version = tuple[int, ...]

ASK_SECONDS = 20.0
_ASKED = {"kubectl": ("version", "--client"), "helm": ("version", "--short")}  # the others: --version


def _numbers(version: str) -> Version:
    return tuple(int(part) for part in version.split("."))


def _minors(version: str, before: int = 0, after: int = 0) -> tuple[Version, Version]:
    """From `before` minor versions below to `after` above: the first that is right, and the first beyond."""
    major, minor, *_ = _numbers(version)
    return (major, minor - before), (major, minor + after + 1)


_RIGHT: Mapping[str, tuple[Version, Version]] = {
    **{
        name: _minors(KUBERNETES_VERSION)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet")
    },
    "kubectl": _minors(KUBERNETES_VERSION, before=1, after=1),  # Kubernetes' version skew policy
    "etcd": _minors(ETCD_VERSION),
    "helm": ((3, 17), (_numbers(HELM_VERSION)[0] + 1,)),  # from what the README asks of a user
    **{name: _minors(PROMETHEUS_VERSION) for name in ("prometheus", "promtool")},
}


def version_of(name: str, path: Path) -> Version | None:
    """The version that a program says it is; None where it can't be run, or says none."""
    try:
        answer = subprocess.run(
            [str(path), *_ASKED.get(name, ("--version",))], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, errors="replace", timeout=ASK_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\d+\.\d+\.\d+", answer.stdout)
    return _numbers(found[0]) if found else None


def is_right(name: str, path: Path) -> bool:
    """Whether a program runs here and is of a version that the tests can use."""
    first, past = _RIGHT.get(name, ((), ()))
    return bool(past) and first <= (version_of(name, path) or ()) < past


def of_assets(names: Iterable[str]) -> dict[str, Path]:
    """Those of `KUBEBUILDER_ASSETS`, whatever their version: somebody chose them. Raises BuildError.

    What envtest has must be there; the controller manager, which it has not, may be.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        return {}
    found = {name: Path(assets, name) for name in names if os.access(Path(assets, name), os.X_OK)}
    if lacking := [name for name in names if name in ENVTEST_PROGRAMS and name not in found]:
        raise BuildError(
            f"KUBEBUILDER_ASSETS={assets} has no {', '.join(lacking)}; unset it to have them found or made"
        )
    return found


def in_store(names: Iterable[str]) -> dict[str, Path]:
    """The newest of a right version of each in the store of `setup-envtest`."""
    system, machine = this_platform()
    folders: dict[Version, Path] = {}
    store = store_folder(system, Path.home(), os.environ.get("XDG_DATA_HOME"))
    for folder in store.glob(f"k8s/*-{system}-{machine}"):
        if version := re.match(r"(\d+\.\d+\.\d+)-", folder.name):
            folders[_numbers(version[1])] = folder
    newest_first = [folder for _, folder in sorted(folders.items(), reverse=True)]
    found = {name: next((at / name for at in newest_first if is_right(name, at / name)), None) for name in names}
    return {name: path for name, path in found.items() if path}


def store_folder(system: str, home: Path, data_home: str | None) -> Path:
    """Where `setup-envtest` keeps what it fetches, if not told otherwise (DefaultStoreDir in its package `store`)."""
    if system == "darwin":
        return home / "Library" / "Application Support" / "io.kubebuilder.envtest"
    return Path(data_home or home / ".local" / "share") / "kubebuilder-envtest"


def on_path(names: Iterable[str]) -> dict[str, Path]:
    """Those on PATH that are of a right version."""
    found = {name: Path(path) for name in names if (path := shutil.which(name))}
    return {name: path for name, path in found.items() if is_right(name, path)}
