"""Programs that a machine has already are used where their version is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.machine import Machine, a_program
from toolchain.find import Found, find, folders, told
from toolchain.go import BuildError
from toolchain.ready import is_right, store_folder
from toolchain.releases import this_platform

PLATFORM = "-".join(this_platform())
HAD = {"etcd": "3.6.5", "kube-apiserver": "1.36.1", "kubectl": "1.36.1"}
ALL = {**HAD, "kube-controller-manager": "1.36.1"}


def put_store(machine: Machine, folder: str, kubernetes: str, etcd: str = "3.6.8") -> Path:
    """What `setup-envtest use` leaves for one version."""
    home = store_folder(this_platform()[0], machine.folder / "home", None) / "k8s" / folder
    for name, version in {**dict.fromkeys(HAD, kubernetes), "etcd": etcd}.items():
        machine.put(home / name, a_program(version))
    return home


def test_the_folder_of_kubebuilder_is_used_and_only_what_it_lacks_is_built(here: Machine, monkeypatch):
    """KUBEBUILDER_ASSETS of envtest has no controller manager: that one alone comes from Go."""
    for name in HAD:
        here.put(here.folder / "assets" / name, "")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(here.folder / "assets"))

    found = find("controlplane")

    assert told(found) == ("etcd, kube-apiserver, kubectl: from KUBEBUILDER_ASSETS; kube-controller-manager: built")
    assert found["etcd"].path == here.folder / "assets" / "etcd"
    assert [path.name for path in here.cache.glob("*/bin/*")] == ["kube-controller-manager"]


def test_assets_without_an_api_server_are_refused_by_name(here: Machine, monkeypatch):
    """The message says which program is missing, and what to do."""
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(here.folder))

    with pytest.raises(BuildError, match=r"no etcd, kube-apiserver, kubectl; unset it"):
        find("controlplane")


def test_of_envtests_store_the_newest_of_a_right_version_is_used(here: Machine):
    """Other minor versions, other platforms and what a killed setup-envtest left half are passed over."""
    put_store(here, f"1.35.4-{PLATFORM}", "1.35.4")
    put_store(here, f"1.36.9-{PLATFORM}", "1.36.9")
    whole = put_store(here, f"1.36.10-{PLATFORM}", "1.36.10")
    half = put_store(here, f"1.36.11-{PLATFORM}", "1.36.11")
    (half / "etcd").write_text("half")
    put_store(here, f"1.38.1-{PLATFORM}", "1.38.1", etcd="3.7.0")
    put_store(here, "1.36.12-plan9-amd64", "1.36.12")

    found = find("controlplane", HAD)

    wanted = {"etcd": whole, "kube-apiserver": half, "kubectl": half}
    assert found == {name: Found(folder / name, "from envtest's store") for name, folder in wanted.items()}


def test_programs_of_the_right_version_on_path_are_used(here: Machine):
    """Nothing is downloaded or built where all is there."""
    for name, version in ALL.items():
        here.put(here.folder / "bin" / name, a_program(version))

    found = find("controlplane")

    assert told(found) == "etcd, kube-apiserver, kube-controller-manager, kubectl: on PATH"
    assert folders("controlplane") == []
    assert not here.cache.exists()


def test_with_llmbatch_build_everything_is_built(here: Machine, monkeypatch):
    """A ready-made program is no way round the pinned modules then."""
    for name, version in ALL.items():
        here.put(here.folder / "bin" / name, a_program(version))
    monkeypatch.setenv("LLMBATCH_BUILD", "1")

    assert {one.how for one in find("controlplane").values()} == {"built"}


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("kube-apiserver", ["1.36.0", "1.36.14"], ["1.35.9", "1.37.0"]),
        ("kubectl", ["1.35.0", "1.36.3", "1.37.2"], ["1.34.9", "1.38.0"]),
        ("etcd", ["3.6.0", "3.6.20"], ["3.5.21", "3.7.0"]),
        ("helm", ["3.17.0", "3.22.1"], ["3.16.4", "4.0.0", "2.17.0"]),
        ("kstatus", [], ["1.0.0"]),
    ],
)
def test_a_program_is_asked_for_its_version(machine: Machine, name: str, right: list[str], wrong: list[str]):
    """kubectl may be one minor version off the API server (Kubernetes' skew policy); what is our own is on no PATH."""
    for version in [*right, *wrong]:
        machine.put(machine.folder / version, a_program(version))

    assert [version for version in [*right, *wrong] if is_right(name, machine.folder / version)] == right


@pytest.mark.parametrize("content", ["no program", "#!/bin/sh\nexit 1\n", "#!/bin/sh\necho nothing\n"])
def test_a_program_that_says_no_version_is_not_used(machine: Machine, content: str):
    """One for another machine, a broken one, and one that is something else."""
    machine.put(machine.folder / "etcd", content)

    assert not is_right("etcd", machine.folder / "etcd")
    assert not is_right("etcd", machine.folder / "absent")


def test_the_store_is_where_setup_envtest_keeps_it():
    """Its package `store`, DefaultStoreDir, on Linux and macOS."""
    home = Path("/home/ann")

    assert store_folder("linux", home, None) == home / ".local/share/kubebuilder-envtest"
    assert store_folder("linux", home, "/data") == Path("/data/kubebuilder-envtest")
    assert store_folder("darwin", home, "/data") == home / "Library/Application Support/io.kubebuilder.envtest"
