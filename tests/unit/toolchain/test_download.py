"""Downloading programs: whole, of the right sum and soon, or they are built. The files are a server's of this suite."""

from __future__ import annotations

import hashlib
import io
import re
import signal
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import poll
from support.file_server import FileServer, Manner, serving_files
from support.machine import Machine, a_program
from toolchain import sets
from toolchain.find import find, told
from toolchain.progress import ProgressLine
from toolchain.releases import ENVTEST_PROGRAMS, ENVTEST_VERSION, Downloads, Patience, pinned, releases, this_platform

DEADLINE = 60.0
PLATFORMS = [("linux", "amd64"), ("linux", "arm64"), ("darwin", "amd64"), ("darwin", "arm64")]
BUILT = "etcd, kube-apiserver, kubectl: built"
NOISE = bytes(range(256)) * 40

pytestmark = pytest.mark.skipif(this_platform() not in PLATFORMS, reason="nothing is released for this platform")


def an_archive(*names: str, version: str = "1.36.2") -> bytes:
    """A tar.gz as envtest's, with what nobody wants, and paths that lead out of it."""
    made = io.BytesIO()
    contents = {name: a_program("3.6.8" if name == "etcd" else version).encode() for name in names}
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for path, content in {"controller-tools/envtest/README": NOISE, "../../../escaped": NOISE}.items():
            _add(archive, path, content)
        for name, content in contents.items():
            _add(archive, f"controller-tools/envtest/{name}", content)
        link = tarfile.TarInfo("../kubectl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return made.getvalue()


def _add(archive: tarfile.TarFile, path: str, content: bytes) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))


class Mirror:
    """The suite's file server as a mirror of the real ones, with files and sums of its own."""

    def __init__(self, server: FileServer) -> None:
        self.server = server
        self.sums: dict[str, str] = {}
        self.said = io.StringIO()

    def serve(self, program: str, content: bytes, *, summed: bytes | None = None) -> None:
        """Have the release with a program, and pin the sum of `content`, or of what was expected instead."""
        url = next(one.url for one in releases(pinned(), *this_platform()) if program in one.programs)
        self.server.files[url.removeprefix("https://")] = content
        algorithm = hashlib.sha512 if url.endswith(".tar.gz") else hashlib.sha256
        self.sums[url] = algorithm(summed or content).hexdigest()

    def find(self, *names: str, **patience: float) -> str:
        """Look for programs, and tell which way each came."""
        downloads = Downloads(self.sums, Patience(**patience))
        return told(find("controlplane", names or ENVTEST_PROGRAMS, ProgressLine(self.said), downloads))


@pytest.fixture
def mirror(here: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror that this machine is told of."""
    with serving_files() as server:
        monkeypatch.setenv("LLMBATCH_DOWNLOADS", server.url)
        yield Mirror(server)


def kept(machine: Machine) -> set[str]:
    """All files of the cache below the folder of the control plane, but the lock."""
    return {path.name for path in machine.cache.rglob("*") if path.is_file()} - {"lock"}


def test_programs_are_unpacked_from_the_archive_and_nothing_else_is(mirror: Mirror, here: Machine):
    """Neither other members nor paths that lead elsewhere; what was unpacked can be run."""
    mirror.serve("etcd", an_archive(*ENVTEST_PROGRAMS))

    assert mirror.find() == "etcd, kube-apiserver, kubectl: downloaded"
    assert kept(here) == set(ENVTEST_PROGRAMS)
    assert not list(here.folder.rglob("escaped"))
    assert here.go_builds == 0


@pytest.mark.skipif(this_platform()[0] != "linux", reason="released for Linux alone")
def test_a_program_that_is_released_by_itself_is_downloaded_too(mirror: Mirror):
    """The controller manager comes from Kubernetes' own releases."""
    mirror.serve("kube-controller-manager", a_program("1.36.3").encode())

    assert mirror.find("kube-controller-manager") == "kube-controller-manager: downloaded"


def test_what_was_downloaded_once_is_not_asked_for_again(mirror: Mirror):
    """All programs of an archive are kept, also those that were not looked for."""
    mirror.serve("etcd", an_archive(*ENVTEST_PROGRAMS))
    mirror.find("etcd")

    assert mirror.find() == "etcd, kube-apiserver, kubectl: downloaded"
    assert len(mirror.server.asked) == 1


def test_a_wrong_sum_is_told_loudly_and_the_programs_are_built(mirror: Mirror, here: Machine):
    """Both sums are told, and nothing of the file is kept."""
    wrong, right = an_archive(*ENVTEST_PROGRAMS), an_archive("etcd")
    mirror.serve("etcd", wrong, summed=right)

    assert mirror.find() == BUILT
    assert "WRONG SUM" in mirror.said.getvalue()
    assert hashlib.sha512(wrong).hexdigest() in mirror.said.getvalue()
    assert hashlib.sha512(right).hexdigest() in mirror.said.getvalue()
    assert len(here.left_in_cache()) == 1


@pytest.mark.parametrize(
    ("manner", "patience", "why"),
    [
        (Manner.CUT, {}, r"cut after \d+ of \d+ bytes"),
        (Manner.STALLED, {"silence": 0.2}, r"timed out"),
        (Manner.DRIPPING, {"whole": 0.2}, r"slower than building: \d+ of \d+ bytes in \d s"),
    ],
)
def test_a_file_that_does_not_come_is_given_up(
    mirror: Mirror, here: Machine, manner: Manner, patience: dict[str, float], why: str
):
    """It is said why, the programs are built, and nothing half-made stays."""
    mirror.serve("etcd", an_archive(*ENVTEST_PROGRAMS))
    mirror.server.manner = manner

    assert mirror.find(**patience) == BUILT
    assert re.search(rf"{why}; etcd, kube-apiserver, kubectl will be built instead", mirror.said.getvalue())
    assert len(here.left_in_cache()) == 1


def test_a_file_that_is_not_there_is_built(mirror: Mirror):
    """A mirror may lack it."""
    mirror.serve("etcd", b"")
    mirror.server.files.clear()

    assert mirror.find() == BUILT
    assert "404" in mirror.said.getvalue()


def test_without_a_way_to_the_server_programs_are_built(mirror: Mirror, here: Machine, monkeypatch):
    """Nobody listens where the files should be."""
    mirror.serve("etcd", b"")
    monkeypatch.setenv("LLMBATCH_DOWNLOADS", here.environment["LLMBATCH_DOWNLOADS"])

    assert mirror.find() == BUILT
    assert "refused" in mirror.said.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (an_archive("etcd", "kubectl"), "holds no kube-apiserver"),
        (an_archive(*ENVTEST_PROGRAMS, version="1.99.0"), "its kube-apiserver does not run here, or is of another"),
        (b"no archive", "not a gzip file"),
        (an_archive(*ENVTEST_PROGRAMS)[:-400], "ended"),
    ],
)
def test_an_archive_of_the_right_sum_that_is_of_no_use_is_not_used(mirror: Mirror, content: bytes, why: str):
    """A wrong pin, or a machine that cannot run what is released for it."""
    mirror.serve("etcd", content)

    assert mirror.find() == BUILT
    assert why in mirror.said.getvalue()


def test_with_llmbatch_build_no_server_is_asked(mirror: Mirror, monkeypatch):
    """Whoever wants it built from the pinned modules gets that."""
    mirror.serve("etcd", an_archive(*ENVTEST_PROGRAMS))
    monkeypatch.setenv("LLMBATCH_BUILD", "1")

    assert mirror.find() == BUILT
    assert mirror.server.asked == []


def test_a_proxy_of_the_environment_is_used(mirror: Mirror, monkeypatch):
    """The server is asked for the other host's address."""
    mirror.serve("etcd", an_archive(*ENVTEST_PROGRAMS))
    mirror.server.files = {f"mirror.invalid/{path}": content for path, content in mirror.server.files.items()}
    monkeypatch.setenv("LLMBATCH_DOWNLOADS", "http://mirror.invalid")
    monkeypatch.setenv("http_proxy", mirror.server.url)

    assert mirror.find() == "etcd, kube-apiserver, kubectl: downloaded"


def test_two_that_look_at_the_same_time_download_once(mirror: Mirror):
    """The second waits, says so, and takes what the first has got."""
    mirror.serve("etcd", an_archive(*ENVTEST_PROGRAMS))
    mirror.server.manner = Manner.STALLED
    ways: list[str] = []
    both = [threading.Thread(target=lambda: ways.append(mirror.find())) for _ in range(2)]
    for one in both:
        one.start()
    assert poll(lambda: "waiting" in mirror.said.getvalue() and len(mirror.server.asked) == 1, DEADLINE)
    mirror.server.released.set()
    for one in both:
        one.join()

    assert ways == ["etcd, kube-apiserver, kubectl: downloaded"] * 2
    assert len(mirror.server.asked) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_download_leaves_nothing(mirror: Mirror, here: Machine, number: signal.Signals):
    """After Ctrl-C the cache is as it was before, and nothing was built."""
    mirror.serve("etcd", NOISE)
    mirror.server.manner = Manner.STALLED
    run = here.run(LLMBATCH_DOWNLOADS=mirror.server.url)
    assert poll(lambda: bool(mirror.server.asked), DEADLINE)
    run.send_signal(number)
    run.communicate(timeout=DEADLINE)

    assert run.returncode == 130
    assert here.left_in_cache() == []
    assert here.go_builds == 0


@pytest.mark.parametrize(("system", "machine"), PLATFORMS)
def test_sums_are_pinned_for_each_platform(system: str, machine: str):
    """A new version without its sums would be built by everybody, unnoticed."""
    found = {name for one in releases(pinned(), system, machine) for name in one.programs}
    of_linux = {"kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet"}

    assert found == {*ENVTEST_PROGRAMS, "helm", *(of_linux if system == "linux" else ())}


def test_every_pinned_sum_is_of_a_file_that_is_downloaded():
    """None is left of an older version, and each is a SHA-256 or a SHA-512."""
    used = {one.url for platform in PLATFORMS for one in releases(pinned(), *platform)}

    assert used == set(pinned())
    assert all(re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{128}", digest) for digest in pinned().values())


def test_versions_are_those_of_the_modules():
    """What is downloaded or found is held against the versions that go.mod builds."""
    required = Path(sets.SETS["controlplane"].folder, "go.mod").read_text()

    assert f"k8s.io/kubernetes v{sets.KUBERNETES_VERSION} " in required
    assert f"go.etcd.io/etcd/server/v3 v{sets.ETCD_VERSION} " in required
    assert ENVTEST_VERSION.rpartition(".")[0] == sets.KUBERNETES_VERSION.rpartition(".")[0]
