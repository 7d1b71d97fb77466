"""Debian packages, with all they depend on, unpacked into the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from e2e.node.errors import NodeError, run
from toolchain.cache import locked
from toolchain.progress import ProgressLine

FORM = "1"
"""Changes when packages are unpacked in another way."""
MERGED = ("bin", "lib", "lib64", "sbin")
"""Debian since 12: these are links into /usr, though packages may still name them."""
RELEASE = Path("/etc/os-release")

# The lists and the downloads are ours, and nothing counts as installed, so all of a package's dependencies come. The
# hooks would tidy up and announce things on a machine that we leave as it is.
CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State::Lists "{home}/lists";
Dir::State::status "{home}/status";
Dir::Cache "{home}/cache";
"""


def unpacked(cache: Path, packages: Sequence[str]) -> Path:
    """A folder that looks like `/` with these packages unpacked, made once. Raises NodeError."""
    if not shutil.which("apt-get"):
        raise NodeError("apt-get is not on PATH: the node takes runc, nft and buildah from Debian packages")
    key = "\0".join([FORM, RELEASE.read_text(), CONFIGURATION, *packages])
    root = cache / "debian" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    progress = ProgressLine()
    with locked(root.parent / "lock", progress, "another process is unpacking Debian packages: waiting for it"):
        if root.is_dir():
            return root
        for stale in root.parent.glob(".unpacking-*"):
            shutil.rmtree(stale)
        progress.say(f"fetching the Debian packages {', '.join(packages)}")
        work = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=root.parent))
        try:
            _unpack(_download(work, packages), work / "root")
            (work / "root").rename(root)
        finally:
            shutil.rmtree(work)
    return root


def _download(work: Path, packages: Sequence[str]) -> list[Path]:
    home = work / "apt"
    archives = home / "cache" / "archives"
    for folder in (home / "lists" / "partial", archives / "partial"):
        folder.mkdir(parents=True)
    (home / "status").touch()
    (home / "apt.conf").write_text(CONFIGURATION.format(home=home))
    apt = ["apt-get", "-c", str(home / "apt.conf"), "--quiet"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A source that can't be reached may be one that nothing is wanted from: the download will tell.
    subprocess.run([*apt, "update"], env=environment, capture_output=True, check=False)
    run([*apt, "install", "--download-only", "--yes", *packages], environment=environment)
    return sorted(archives.glob("*.deb"))


def _unpack(archives: Sequence[Path], root: Path) -> None:
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    tar = ["tar", "--extract", "--keep-directory-symlink", "--directory", str(root)]
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as content:
            done = subprocess.run(tar, stdin=content.stdout, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode or content.returncode:
            raise NodeError(f"{archive.name} could not be unpacked\n{done.stderr}")
