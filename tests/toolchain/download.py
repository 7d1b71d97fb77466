"""Downloads released files: whole, of the right sum and soon, or not at all.

Certificates are verified and a proxy of the environment is used, as `urllib` does.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from toolchain.progress import ProgressLine
from toolchain.ready import is_right
from toolchain.releases import Patience, Release

CHUNK = 1 << 20
MEGABYTE = 1e6


class DownloadError(Exception):
    """The file could not be had, or can't be used; the message says why."""


def download(release: Release, folder: Path, progress: ProgressLine, patience: Patience) -> None:
    """Put the release's programs into an empty folder. Raises DownloadError."""
    file = folder.with_name(release.name)
    progress.say(f"downloading {release.name} for {', '.join(release.programs)}")
    try:
        _fetch(release, file, progress, patience)
        _unpack(release, file, folder)
    except urllib.error.URLError as error:
        raise DownloadError(str(error if isinstance(error, urllib.error.HTTPError) else error.reason)) from error
    except (OSError, ValueError, EOFError, http.client.HTTPException, tarfile.TarError, zlib.error) as error:
        raise DownloadError(str(error) or type(error).__name__) from error
    for name in release.programs:
        if not is_right(name, folder / name):
            raise DownloadError(f"its {name} does not run here, or is of another version")


def address_of(release: Release) -> str:
    """Where the file is fetched: `LLMBATCH_DOWNLOADS` names a server that has each under its host's name."""
    mirror = os.environ.get("LLMBATCH_DOWNLOADS")
    return f"{mirror.rstrip('/')}/{release.url.removeprefix('https://')}" if mirror else release.url


def _fetch(release: Release, file: Path, progress: ProgressLine, patience: Patience) -> None:
    deadline = time.monotonic() + patience.whole
    summed, got = hashlib.new(release.algorithm), 0
    with _opener(patience).open(address_of(release), timeout=patience.connect) as answer, file.open("wb") as output:
        total = int(answer.headers.get("Content-Length") or 0)
        for piece in _pieces(answer):
            output.write(piece)
            summed.update(piece)
            got += len(piece)
            progress.show(f"downloading {release.name}: {got / MEGABYTE:.0f} of {total / MEGABYTE:.0f} MB")
            if time.monotonic() > deadline:
                raise DownloadError(f"slower than building: {got} of {total} bytes in {patience.whole:.0f} s")
    if got < total:
        raise DownloadError(f"cut after {got} of {total} bytes")
    if summed.hexdigest() != release.digest:
        raise DownloadError(
            f"WRONG SUM, so it is thrown away: its {release.algorithm} is {summed.hexdigest()}, not {release.digest}"
        )


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := answer.read1(CHUNK):
        yield piece


def _opener(patience: Patience) -> urllib.request.OpenerDirector:
    """What waits shortly for a connection, and longer for what comes through it."""

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(patience.silence)

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(patience.silence)

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, req, context=ssl.create_default_context())

    return urllib.request.build_opener(PlainHandler, SecureHandler)


def _unpack(release: Release, file: Path, folder: Path) -> None:
    """The programs alone, under their own names: no path of the archive is followed."""
    if not file.name.endswith(".tar.gz"):
        file.replace(folder / release.programs[0])
    else:
        with tarfile.open(file, "r:gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if member.isreg() and name in release.programs and (content := archive.extractfile(member)):
                    with (folder / name).open("wb") as output:
                        shutil.copyfileobj(content, output)
    for name in release.programs:
        if not (folder / name).exists():
            raise DownloadError(f"holds no {name}")
        (folder / name).chmod(0o755)
