"""The sets of programs: each is a folder here with the go.mod that they can be built from, and pins their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KUBERNETES_VERSION = "1.36.3"
ETCD_VERSION = "3.6.8"
PROMETHEUS_VERSION = "3.13.5"
CONTAINERD_VERSION = "2.3.5"
CNI_PLUGINS_VERSION = "1.9.1"
HELM_VERSION = "3.22.0"


def stamped(values: Mapping[str, str]) -> str:
    """Linker flags that leave out the symbol table and set these string variables: the versions that programs tell."""
    return " ".join(["-s -w", *(f"-X {variable}={value}" for variable, value in values.items())])


@dataclass(frozen=True)
class ProgramSet:
    """Programs that are built together: `packages` by program name, in the module of `folder`."""

    name: str
    folder: Path
    packages: Mapping[str, str]
    ldflags: str = "-s -w"
    tags: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        """The arguments of `go build`."""
        tags = ("-tags", self.tags) if self.tags else ()
        return ("-trimpath", "-buildvcs=false", "-ldflags", self.ldflags, *tags)


def _kubernetes(name: str, packages: Mapping[str, str]) -> ProgramSet:
    at = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES_VERSION.split(".")
    stamp = {f"{at}.gitVersion": f"v{KUBERNETES_VERSION}", f"{at}.gitMajor": major, f"{at}.gitMinor": minor}
    return ProgramSet(name, HERE / "kubernetes", packages, stamped(stamp))


def _helm() -> ProgramSet:
    """Without the stamp that its Makefile gives it, it would take a cluster that it cannot ask for a very old one."""
    at = "helm.sh/helm/v3"
    major, minor, _ = KUBERNETES_VERSION.split(".")
    stamp = {f"{at}/internal/version.version": f"v{HELM_VERSION}"}
    for part in ("chartutil", "lint/rules"):
        stamp |= {f"{at}/pkg/{part}.k8sVersionMajor": major, f"{at}/pkg/{part}.k8sVersionMinor": minor}
    return ProgramSet("helm", HERE / "helm", {"helm": f"{at}/cmd/helm"}, stamped(stamp))


def _runtime() -> ProgramSet:
    containerd, plugins = "github.com/containerd/containerd/v2", "github.com/containernetworking/plugins"
    programs = ("containerd", "containerd-shim-runc-v2", "ctr")
    stamp = {
        f"{containerd}/version.Version": f"v{CONTAINERD_VERSION}",
        f"{plugins}/pkg/utils/buildversion.BuildVersion": f"v{CNI_PLUGINS_VERSION}",
    }
    return ProgramSet(
        "runtime",
        HERE / "runtime",
        {
            **{name: f"{containerd}/cmd/{name}" for name in programs},
            "bridge": f"{plugins}/plugins/main/bridge",
            "loopback": f"{plugins}/plugins/main/loopback",
            "host-local": f"{plugins}/plugins/ipam/host-local",
            "pause": ".",
        },
        stamped(stamp),
        tags="no_btrfs no_devmapper no_zfs",
    )


_SETS = (
    _kubernetes(
        "controlplane",
        {
            "etcd": "go.etcd.io/etcd/server/v3",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        },
    ),
    _kubernetes(
        "node",
        {
            "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
        },
    ),
    _runtime(),
    ProgramSet("coredns", HERE / "coredns", {"coredns": "."}),
    _helm(),
    ProgramSet("kstatus", HERE / "kstatus", {"kstatus": "."}),
    ProgramSet(
        "prometheus",
        HERE / "prometheus",
        {
            "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
            "promtool": "github.com/prometheus/prometheus/cmd/promtool",
        },
        stamped({"github.com/prometheus/common/version.Version": PROMETHEUS_VERSION}),
        tags="remove_all_sd",  # the clients of twenty clouds, for finding what to scrape
    ),
)
SETS = {one.name: one for one in _SETS}
