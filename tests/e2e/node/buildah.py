"""Images from Dockerfiles without an engine, a registry or an installed program: buildah out of Debian packages.

Needs root. The packages are laid over /usr in a mount namespace of each call, since buildah starts itself again and
would not find its libraries elsewhere. A RUN is confined by chroot alone.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from e2e.node.debian import unpacked
from e2e.node.errors import require_root, run
from e2e.node.overlay import over_usr

PACKAGES = ("buildah", "iproute2", "nftables", "openssl", "runc")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
MANY_LAYERS = 200
"""Each build that changes something leaves some; they are what makes the next build quick."""


def programs(cache: Path) -> Path:
    """The folder that looks like `/` with the node's Debian programs in it; only root can use them."""
    require_root()
    return unpacked(cache, PACKAGES)


@dataclass(frozen=True)
class Buildah:
    """A store of images below `home`."""

    root: Path
    home: Path

    def has(self, name: str) -> bool:
        """Whether the store has an image of that name."""
        return bool(self._run("images", "--quiet", "--filter", f"reference={name}").strip())

    def build(self, name: str, context: Path, *, dockerfile: Path, online: bool = False, **arguments: str) -> None:
        """Build `context` as `name`; the images that it is built from must be in the store. Raises NodeError.

        One that is `online`, to fetch packages, trusts whom the machine trusts: a proxy may have its own certificate.
        """
        flags = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        if online and CERTIFICATES.exists():
            flags.append(f"--volume={CERTIFICATES}:{CERTIFICATES}:ro")
        self._run(
            "build", "--layers", "--isolation=chroot", "--pull-never", f"--file={dockerfile}", f"--tag={name}",
            *flags, str(context),
        )  # fmt: skip

    def save(self, name: str, archive: Path) -> None:
        """Write an image of the store as an archive, whole or not at all. Raises NodeError.

        In Docker's form, since containerd completes a short name only there, the way the kubelet does.
        """
        archive.parent.mkdir(parents=True, exist_ok=True)
        half = archive.with_suffix(".half")
        half.unlink(missing_ok=True)
        self._run("push", "--quiet", name, f"docker-archive:{half}:{name}")
        half.rename(archive)

    def tidy(self) -> None:
        """Begin the store anew when many builds have left their layers in it."""
        if self.home.is_dir() and len(self._run("images", "--all", "--quiet").split()) > MANY_LAYERS:
            shutil.rmtree(self.home)

    def _run(self, command: str, *arguments: str) -> str:
        etc = self.root / "etc" / "containers"
        self.home.mkdir(parents=True, exist_ok=True)
        (own := self.home / "containers.conf").touch()  # not the machine's
        names = {"CONTAINERS_CONF": str(own), "CONTAINERS_REGISTRIES_CONF": str(etc / "registries.conf")}
        policy = [f"--signature-policy={etc / 'policy.json'}"] if command in ("build", "push") else []
        store = [f"--root={self.home / 'store'}", f"--runroot={self.home / 'run'}", "--storage-driver=overlay"]
        return run(
            [*over_usr(self.root), "buildah", *store, command, *policy, *arguments], environment={**os.environ, **names}
        )
