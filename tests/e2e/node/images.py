"""The images that a node needs, built from Dockerfiles and kept as archives, keyed by what they are made of."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from e2e.node.buildah import Buildah, programs
from e2e.node.debian import unpacked
from toolchain.cache import locked
from toolchain.find import program
from toolchain.progress import ProgressLine

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[2]
NAME = "llmbatch-operator"
PAUSE = "localhost/pause:1"
BASE = "localhost/python"
BASE_PACKAGES = ("base-files", "ca-certificates", "coreutils", "dash", "python3.11", "python3.11-venv")
KEPT = 3
"""Archives of the operator that stay in the cache; each has some 170 MB."""


def pause_image(cache: Path) -> Path:
    """An archive of the image that every pod begins with. Raises NodeError, BuildError."""
    pause = program("pause")
    archive = cache / "images" / f"pause-{_key('', pause, HERE / 'pause.Dockerfile')}.tar"
    if not archive.exists():
        with _store(cache) as store, tempfile.TemporaryDirectory() as folder:
            shutil.copy2(pause, folder)
            store.build(PAUSE, Path(folder), dockerfile=HERE / "pause.Dockerfile")
            store.save(PAUSE, archive)
    return archive


def operator_image(cache: Path, project: Path = PROJECT, name: str = "") -> Path:
    """An archive of a project's image, named `llmbatch-operator:VERSION` if not otherwise. Raises NodeError."""
    version = version_of(project)
    name = name or f"{NAME}:{version}"
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        sources = [_copy(path, project, context) for path in _sources(project)]  # what is built is what was read
        archive = cache / "images" / f"{NAME}-{_key(name, HERE / 'base.Dockerfile', *sources)}.tar"
        if archive.exists():
            archive.touch()
            return archive
        with _store(cache) as store:
            base = _base_image(cache, store)
            store.build(name, context, dockerfile=context / "Dockerfile", online=True, BASE_IMAGE=base, VERSION=version)
            store.save(name, archive)
    for old in sorted(archive.parent.glob(f"{NAME}-*.tar"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        old.unlink()
    return archive


def version_of(project: Path) -> str:
    """The version that a project's sources say they are."""
    found = re.search(r'__version__ = "(.+)"', (project / "operator" / "llmbatch" / "__init__.py").read_text())
    return found[1] if found else "unknown"


def _base_image(cache: Path, store: Buildah) -> str:
    dockerfile = HERE / "base.Dockerfile"
    name = f"{BASE}:{_key(' '.join(BASE_PACKAGES), dockerfile)}"
    if not store.has(name):
        store.build(name, unpacked(cache, BASE_PACKAGES), dockerfile=dockerfile)
    return name


@contextlib.contextmanager
def _store(cache: Path) -> Iterator[Buildah]:
    """The store, for one at a time."""
    store = Buildah(programs(cache), cache / "buildah")
    progress = ProgressLine()
    with locked(cache / "buildah.lock", progress, "another process is building an image: waiting for it"):
        progress.say("building an image")
        store.tidy()
        yield store


def _sources(project: Path) -> list[Path]:
    """What an image is built from, as .dockerignore has it."""
    names = ("Dockerfile", "LICENSE", "README.md", "pyproject.toml", "requirements.txt", "requirements-build.txt")
    modules = (path for path in (project / "operator").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return [*(project / name for name in names), *sorted(modules)]


def _copy(path: Path, project: Path, context: Path) -> Path:
    copy = context / path.relative_to(project)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, copy)
    return copy


def _key(name: str, *sources: Path) -> str:
    digest = hashlib.sha256(name.encode())
    for path in sources:
        digest.update(b"\0" + path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
