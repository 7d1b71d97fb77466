"""`python -m e2e.node up|down|load|shell|image`: a one-node Kubernetes, made of packages, for a person."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from e2e.node import traces
from e2e.node.errors import NodeError
from e2e.node.images import operator_image
from e2e.node.layout import Layout
from e2e.node.node import Node, load, running_node
from toolchain.find import folders
from toolchain.go import BuildError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_SECONDS = 30.0
WELCOME = """\
A Kubernetes of one node is up and has the operator's image; kubectl, kubectl llmbatch and helm are on PATH.
NetworkPolicies are accepted there and not enforced. It ends with this shell. To begin with:

  helm install llmbatch-operator charts/llmbatch-operator --namespace llmbatch-system --create-namespace --wait \\
    --set 'allowNetworks={10.0.0.0/8}'
  kubectl apply --filename examples/emulator
  kubectl llmbatch watch --namespace llmbatch-demo

"""
POLL_SECONDS = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; answers the exit status."""
    options = _parser().parse_args(arguments)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        options.run(Layout.of_user(), options)
    except (NodeError, BuildError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="node", description=__doc__)
    commands = parser.add_subparsers(required=True)
    up = commands.add_parser("up", help="start a node, say how to reach it, and stay until Ctrl-C or `down`")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="end the node, or remove what one that was killed has left")
    down.set_defaults(run=_down)
    loading = commands.add_parser("load", help="give image archives to the running node")
    loading.add_argument("archives", type=Path, nargs="+")
    loading.set_defaults(run=_load)
    shell = commands.add_parser("shell", help="start a node with the operator's image, and a shell to use it")
    shell.set_defaults(run=_shell)
    image = commands.add_parser("image", help="build the operator's image into an archive")
    image.add_argument("name")
    image.add_argument("archive", type=Path)
    image.set_defaults(run=_image)
    return parser


def _up(layout: Layout, _options: argparse.Namespace) -> None:
    with running_node(layout) as node:
        path = os.pathsep.join([*folders("controlplane", "runtime"), "$PATH"])
        sys.stdout.write(f"export KUBECONFIG={node.kubeconfig} PATH={path}\n")
        sys.stdout.flush()
        node.process.wait()
        raise node.failure("the node ended")


def _down(layout: Layout, _options: argparse.Namespace) -> None:
    layout.cache.mkdir(parents=True, exist_ok=True)
    with layout.held.open("a+") as file:
        if not _lock(file.fileno()):
            file.seek(0)
            os.kill(holder := int(file.read()), signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while not _lock(file.fileno()):
                if time.monotonic() > deadline:
                    raise NodeError(f"process {holder}, which runs the node, does not end")
                time.sleep(POLL_SECONDS)
        traces.remove(layout)


def _load(layout: Layout, options: argparse.Namespace) -> None:
    init = traces.init_process(layout)
    if init is None:
        raise NodeError("no node is running")
    load(init, options.archives, {**os.environ, "PATH": os.pathsep.join([*folders("runtime"), os.environ["PATH"]])})


def _shell(layout: Layout, _options: argparse.Namespace) -> None:
    image = operator_image(layout.cache)
    with running_node(layout, [image]) as node:
        sys.stdout.write(WELCOME)
        sys.stdout.flush()
        shell = os.environ.get("SHELL", "/bin/sh")
        subprocess.run([shell], env=_for_a_person(node), check=False)  # how its last command ended is its own


def _for_a_person(node: Node) -> Mapping[str, str]:
    plugin = Path(sys.executable).parent
    path = os.pathsep.join([*folders("controlplane", "helm"), str(plugin), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "KUBECONFIG": str(node.kubeconfig)}


def _image(layout: Layout, options: argparse.Namespace) -> None:
    archive = operator_image(layout.cache, name=options.name)
    options.archive.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(archive, options.archive)
    sys.stdout.write(f"{options.name} is in {options.archive}\n")


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in SIGNALS:  # tidying up is not to be interrupted
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
