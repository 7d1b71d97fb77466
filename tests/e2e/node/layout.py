"""Names, addresses and folders of the node. The addresses are fixed, so a machine has one node at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolchain.cache import cache_folder

NAME = "node"
LINK = "llmbatch-node"
"""This machine's end of the wire to the node."""
HOST_ADDRESS = "10.98.0.1"
NODE_ADDRESS = "10.98.0.2"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.0.0.0/24"
API_PORT = 6443
CGROUP = "llmbatch-node"
"""Everything that the kubelet makes lies below it, in every hierarchy."""
CGROUPS = Path("/sys/fs/cgroup")
SOCKET = "/run/containerd/containerd.sock"
MOUNT_POINTS = (Path("/var/lib/cni"), Path("/var/lib/kubelet"))
"""Fixed in the programs; the node mounts its own folders there, out of everyone else's sight."""
SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
"""What the kubelet sets, for the whole machine."""


@dataclass(frozen=True)
class Layout:
    """Where things are kept: `cache` for good, `state` for the life of one node."""

    cache: Path

    @classmethod
    def of_user(cls) -> Layout:
        """Below the user's cache folder."""
        return cls(cache_folder() / "e2e")

    @property
    def state(self) -> Path:
        """All that one node writes."""
        return self.cache / "state"

    @property
    def logs(self) -> Path:
        """A log for each of its programs; they stay until the next node comes up."""
        return self.cache / "log"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.kubeconfig_of("admin")

    @property
    def held(self) -> Path:
        """Locked by the process that runs the node."""
        return self.cache / "node.lock"

    @property
    def before(self) -> Path:
        """How the machine was before the node came up: what to put back, also after a SIGKILL."""
        return self.cache / "before.json"

    def kubeconfig_of(self, user: str) -> Path:
        """The kubeconfig of one of the node's users."""
        return self.state / f"{user.removeprefix('system:').replace(':', '-')}.kubeconfig"


def cgroups() -> list[Path]:
    """The node's cgroup in each hierarchy that the machine has mounted: one with cgroup v2, several with v1."""
    roots = [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else list(CGROUPS.iterdir())
    return [root / CGROUP for root in roots if root.is_dir() and not root.is_symlink()]
