"""Finds the programs that tests run, and gets those that the machine has not.

In this order: `KUBEBUILDER_ASSETS`, what was downloaded or built before, envtest's store, PATH; then a download; then a
build. `LLMBATCH_BUILD=1` leaves the build alone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolchain import ready
from toolchain.build import build, build_key
from toolchain.cache import cache_folder, kept, locked, making
from toolchain.download import DownloadError, address_of, download
from toolchain.progress import ProgressLine
from toolchain.releases import Downloads
from toolchain.sets import SETS, ProgramSet

Way = Callable[[Sequence[str]], Mapping[str, Path]]


@dataclass(frozen=True)
class Found:
    """Where a program is, and how it came there."""

    path: Path
    how: str


def find(
    name: str,
    programs: Iterable[str] | None = None,
    progress: ProgressLine | None = None,
    downloads: Downloads | None = None,
) -> dict[str, Found]:
    """The programs of a set, all of them or some. Raises BuildError."""
    search = _Search(SETS[name], progress or ProgressLine(), downloads or Downloads())
    return search.find(tuple(programs or SETS[name].packages))


@functools.cache
def program(name: str) -> Path:
    """One program, of whichever set. Raises BuildError."""
    of = next(one.name for one in SETS.values() if name in one.packages)
    return find(of, [name])[name].path


def folders(*sets: str) -> list[str]:
    """What to put before PATH to have these sets on it. Raises BuildError."""
    usual = os.environ["PATH"].split(os.pathsep)
    needed = [str(found.path.parent) for name in sets for found in find(name).values()]
    return [folder for folder in dict.fromkeys(needed) if folder not in usual]


def told(found: Mapping[str, Found]) -> str:
    """In one line which program came which way."""
    ways: dict[str, list[str]] = {}
    for name, one in found.items():
        ways.setdefault(one.how, []).append(name)
    return "; ".join(f"{', '.join(names)}: {how}" for how, names in ways.items())


@dataclass(frozen=True)
class _Search:
    wanted: ProgramSet
    progress: ProgressLine
    downloads: Downloads

    def find(self, names: Sequence[str]) -> dict[str, Found]:
        there: list[tuple[str, Way]] = [
            ("from KUBEBUILDER_ASSETS", ready.of_assets),
            ("downloaded", self._downloaded),
            ("built", self._built),
            ("from envtest's store", ready.in_store),
            ("on PATH", ready.on_path),
        ]
        made: list[tuple[str, Way]] = [
            ("downloaded", self._downloaded),  # by another process, while we waited for the lock
            ("built", self._built),
            ("downloaded", self._download),
            ("built", self._build),
        ]
        if os.environ.get("LLMBATCH_BUILD"):
            there, made = [("built", self._built)], [("built", self._built), ("built", self._build)]
        found = _through(there, names)
        if missing := [name for name in names if name not in found]:
            waiting = f"another process is downloading or building {', '.join(missing)}: waiting for it"
            with locked(self._cache / "lock", self.progress, waiting):
                found |= _through(made, missing)
        return {name: found[name] for name in names}

    @property
    def _cache(self) -> Path:
        return cache_folder() / self.wanted.name

    @property
    def _build_home(self) -> Path:
        return self._cache / build_key(self.wanted)

    def _built(self, names: Sequence[str]) -> dict[str, Path]:
        return {name: path for name in names if (path := kept(self._build_home, name))}

    def _downloaded(self, names: Sequence[str]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for release in self.downloads.here():
            home = self._cache / release.digest[:16]
            found |= {name: path for name in release.programs if name in names and (path := kept(home, name))}
        return found

    def _download(self, names: Sequence[str]) -> dict[str, Path]:
        for release in self.downloads.here():
            if lacking := [name for name in release.programs if name in names]:
                try:
                    with making(self._cache / release.digest[:16]) as folder:
                        download(release, folder, self.progress, self.downloads.patience)
                except DownloadError as error:
                    self.progress.say(f"{address_of(release)}: {error}; {', '.join(lacking)} will be built instead")
        return self._downloaded(names)

    def _build(self, names: Sequence[str]) -> dict[str, Path]:
        with making(self._build_home) as folder:
            build(self.wanted, names, folder, self.progress)
        return self._built(names)


def _through(ways: Sequence[tuple[str, Way]], names: Sequence[str]) -> dict[str, Found]:
    """What each way has of what those before it have not."""
    found: dict[str, Found] = {}
    for how, way in ways:
        if missing := [name for name in names if name not in found]:
            found |= {name: Found(path, how) for name, path in way(missing).items()}
    return found
