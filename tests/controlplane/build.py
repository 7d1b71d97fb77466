"""The control plane's programs: those of KUBEBUILDER_ASSETS, else built once from Go modules into the user's cache.

A build happens in a temporary folder under a file lock and is renamed into place, so an interrupted one leaves nothing
half-made and of two at the same time the second waits for the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane.leash import leashed
from controlplane.progress import ProgressLine
from controlplane.toolchain import HERE, BuildError, find_go, go_environment

KUBERNETES_VERSION = "1.36.3"
_STAMP = "k8s.io/component-base/version"
LDFLAGS = (
    f"-s -w -X {_STAMP}.gitVersion=v{KUBERNETES_VERSION}"
    f" -X {_STAMP}.gitMajor={KUBERNETES_VERSION.split('.')[0]} -X {_STAMP}.gitMinor={KUBERNETES_VERSION.split('.')[1]}"
)
FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags", LDFLAGS)
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
BUILT_AS = {"etcd": "server"}  # go names a binary after its folder


@dataclass(frozen=True)
class Binaries:
    """Where the four programs are."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where builds are kept: `$XDG_CACHE_HOME`, else `~/.cache`, as the XDG base directory specification has it."""
    root = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "llmbatch-operator" / "controlplane"


def build_key(names: tuple[str, ...]) -> str:
    """Names one build: the same modules, flags, programs and platform give the same key."""
    parts = [(HERE / "go.sum").read_text(), (HERE / "go.mod").read_text(), *FLAGS, *names]
    parts += [platform.system(), platform.machine()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def ensure_binaries(environment: Mapping[str, str], progress: ProgressLine | None = None) -> Binaries:
    """The programs, built first if they have to be. Raises BuildError."""
    paths: dict[str, Path] = {}
    assets = environment.get("KUBEBUILDER_ASSETS")
    if assets:
        folder = Path(assets)
        paths = {name: folder / name for name in PACKAGES if os.access(folder / name, os.X_OK)}
        lacking = [name for name in PACKAGES if name not in paths and name != "kube-controller-manager"]
        if lacking:
            raise BuildError(f"KUBEBUILDER_ASSETS={assets} has no {', '.join(lacking)}; unset it to have them built")
    rest = tuple(name for name in PACKAGES if name not in paths)
    if rest:
        folder = _ensure_built(rest, cache_folder(environment), progress or ProgressLine())
        paths |= {name: folder / name for name in rest}
    return Binaries(**{name.replace("-", "_"): path for name, path in paths.items()})


def _ensure_built(names: tuple[str, ...], cache: Path, progress: ProgressLine) -> Path:
    home = cache / build_key(names)
    if home.is_dir():
        return home / "bin"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock", progress):
        if home.is_dir():
            return home / "bin"
        for stale in cache.glob(".building-*"):
            shutil.rmtree(stale, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
        try:
            _build(names, find_go(cache, progress.say), work, progress)
            (work / "result").rename(home)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return home / "bin"


@contextlib.contextmanager
def _locked(path: Path, progress: ProgressLine) -> Iterator[None]:
    """Hold the file's lock; the kernel lets go of it when the process ends, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("another process is building the control plane: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(names: tuple[str, ...], go: str, work: Path, progress: ProgressLine) -> None:
    binaries, scratch = work / "result" / "bin", work / "scratch"
    binaries.mkdir(parents=True)
    scratch.mkdir()
    environment = {**go_environment(), "GOTMPDIR": str(scratch)}
    packages = [PACKAGES[name] for name in names]
    progress.say(f"building {', '.join(names)} from Go modules: once, some minutes")
    total = _go([go, "list", "-deps", *packages], environment, progress, "fetching modules")
    _go([go, "build", "-v", *FLAGS, "-o", f"{binaries}/", *packages], environment, progress, "compiling", total)
    for name in names:
        if name in BUILT_AS:
            (binaries / BUILT_AS[name]).rename(binaries / name)
    progress.say(f"built {', '.join(names)}")


def _go(command: list[str], environment: dict[str, str], progress: ProgressLine, doing: str, total: int = 0) -> int:
    """Run go and count its lines that name a package; SIGINT lets it clean up when we are the one who ends."""
    count = fetched = 0
    tail: list[str] = []
    process = subprocess.Popen(
        leashed(command, signal.SIGINT), cwd=HERE, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        progress.show(f"{doing}…")
        for line in process.stdout:
            tail = [*tail[-30:], line]
            fetched += line.startswith("go: downloading")
            count += not line.startswith(("go: ", "#", "\t"))
            if total:
                progress.show(f"{doing}: {count} packages of at most {total}, the rest cached")
            else:
                progress.show(f"{doing}: {fetched} fetched")
        if process.wait():
            raise BuildError(f"{' '.join(command[:2])} failed:\n{''.join(tail)}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
    return count
