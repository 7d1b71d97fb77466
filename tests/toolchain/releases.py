"""What can be downloaded: the released files of other projects, each with its sum in `sums.txt`.

A file without a sum there is not downloaded, whatever its address says; its programs are built. That is so for
Prometheus, whose sums we could not see, for a controller manager on macOS, which Kubernetes does not release, and for
our own kstatus.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toolchain.sets import HELM_VERSION, KUBERNETES_VERSION

SUMS_FILE = Path(__file__).resolve().parent / "sums.txt"
ENVTEST_VERSION = "1.36.2"  # of those that have an archive, the nearest to KUBERNETES_VERSION
ENVTEST_PROGRAMS = ("etcd", "kube-apiserver", "kubectl")

_ENVTEST = (
    "https://github.com/kubernetes-sigs/controller-tools/releases/download/"
    "envtest-v{version}/envtest-v{version}-{system}-{machine}.tar.gz"
)
_KUBERNETES = "https://dl.k8s.io/release/v{version}/bin/{system}/{machine}/{program}"
_HELM = "https://get.helm.sh/helm-v{version}-{system}-{machine}.tar.gz"
_ADDRESSES = (
    (_ENVTEST, ENVTEST_VERSION, ENVTEST_PROGRAMS),
    *((_KUBERNETES, KUBERNETES_VERSION, (name,)) for name in ("kube-controller-manager", "kubelet", "kube-proxy")),
    (_KUBERNETES, KUBERNETES_VERSION, ("kube-scheduler",)),
    (_HELM, HELM_VERSION, ("helm",)),
)
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Release:
    """A released file: a program, or a tar.gz with some; `digest` is its SHA-256 or SHA-512 in hex."""

    url: str
    digest: str
    programs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]

    @property
    def algorithm(self) -> str:
        """What `digest` was made with."""
        return "sha512" if len(self.digest) == 128 else "sha256"


def this_platform() -> tuple[str, str]:
    """System and machine as Go names them."""
    machine = platform.machine()
    return platform.system().lower(), _MACHINES.get(machine, machine)


def pinned() -> Mapping[str, str]:
    """The sums of `sums.txt` by address."""
    lines = [line.split() for line in SUMS_FILE.read_text().splitlines() if line and not line.startswith("#")]
    return {url: digest for digest, url in lines}


def releases(sums: Mapping[str, str], system: str, machine: str) -> list[Release]:
    """What can be downloaded for a platform."""
    found = []
    for address, version, programs in _ADDRESSES:
        url = address.format(version=version, system=system, machine=machine, program=programs[0])
        if url in sums:
            found.append(Release(url, sums[url], programs))
    return found


@dataclass(frozen=True)
class Patience:
    """For how many seconds a download waits: to be connected, between two pieces, and for all of a file.

    A file that takes longer than `whole` is slower than building.
    """

    connect: float = 5.0
    silence: float = 20.0
    whole: float = 300.0


@dataclass(frozen=True)
class Downloads:
    """What a search for programs may download."""

    sums: Mapping[str, str] = field(default_factory=pinned)
    patience: Patience = field(default_factory=Patience)

    def here(self) -> list[Release]:
        """The released files for this machine."""
        return releases(self.sums, *this_platform())
