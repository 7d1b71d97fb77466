"""Completion as people have it: typed into a real shell, and asked for by the real kubectl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.terminal import Terminal
from support.world import World

SCRIPTS = Path(sys.executable).parent
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "PS1='ready> '; source <(kubectl-llmbatch completion bash)"),
    "zsh": (
        ["zsh", "--no-rcs", "-i"],
        "PS1='ready> '; autoload -Uz compinit; compinit -D -u; source <(kubectl-llmbatch completion zsh)",
    ),
}
PRESENT = [name for name in SHELLS if shutil.which(name)]


def environment(world: World) -> dict[str, str]:
    """With the plugin on PATH, and with the test's namespace as the context's."""
    path = os.pathsep.join([str(SCRIPTS), str(world.cluster.kubectl_path.parent), os.environ["PATH"]])
    return {"KUBECONFIG": str(world.cluster.kubeconfig), "PATH": path}


def jobs(world: World) -> None:
    """Two jobs, with nobody to run them."""
    world.job("first-run")
    world.job("second-run")


def kubectl_complete(world: World, *words: str) -> list[str]:
    """What kubectl's own completion gets for these words; the last is completed."""
    done = subprocess.run(
        [world.cluster.kubectl_path, "__complete", "llmbatch", *words],
        env={**os.environ, **environment(world)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", PRESENT)
def test_a_shell_completes_the_names_of_jobs(world, shell):
    """Tab behind a command fills in the job, behind an option its value, and a file where one is wanted."""
    jobs(world)
    program, setup = SHELLS[shell]

    with Terminal(program, environment(world), columns=200) as terminal:
        terminal.type(f"{setup}\n")
        terminal.wait(lambda text: text.endswith("\nready>"))
        terminal.type(f"kubectl-llmbatch watch -n {world.namespace} f\t")
        terminal.wait(lambda text: text.endswith(f"{world.namespace} first-run"))
        terminal.type("\x15kubectl-llmbatch cost --by=names\t")
        terminal.wait(lambda text: text.endswith("--by=namespace"))
        terminal.type("\x15kubectl-llmbatch validate /etc/passw\t")
        terminal.wait(lambda text: "validate /etc/passwd" in text)


def test_kubectl_completes_the_plugins_words(world):
    """`kubectl llmbatch <Tab>` asks the plugin, and is told when names of files are no help (cobra's directive 4)."""
    jobs(world)

    assert kubectl_complete(world, "watch", "-n", world.namespace, "") == ["first-run", "second-run", ":4"]
    assert kubectl_complete(world, "cost", "--by", "d") == ["deployment", ":4"]
    assert kubectl_complete(world, "submit", "") == [":0"]


def test_completion_is_silent_where_there_is_no_cluster(world, tmp_path):
    """A person who is typing is not told what is wrong with their kubeconfig."""
    broken = tmp_path / "config"
    broken.write_text("no: [kubeconfig")
    done = subprocess.run(
        [SCRIPTS / "kubectl_complete-llmbatch", "watch", ""],
        env={**os.environ, "KUBECONFIG": str(broken)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, ":4\n", "")
