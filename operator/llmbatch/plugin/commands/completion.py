"""Completion: what a shell is given to ask us, and what kubectl asks by itself."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

FILES, NO_FILES = 0, 4
"""kubectl's completion directives (cobra's ShellCompDirective): file names fit, or they do not."""


class Shell(StrEnum):
    """Shells that have a completion."""

    BASH = "bash"
    ZSH = "zsh"


BASH = r"""# Completion of kubectl-llmbatch for bash; load it with: source <(kubectl llmbatch completion bash)
_kubectl_llmbatch() {
    local line
    local -a found=()
    COMPREPLY=()
    while IFS= read -r line; do
        found+=("$line")
    done < <(kubectl_complete-llmbatch "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if ((${#found[@]} == 0)) || [[ ${found[-1]} == :0 ]]; then
        compopt -o default
        return
    fi
    unset 'found[-1]'
    COMPREPLY=("${found[@]}")
    if [[ ${COMP_WORDS[COMP_CWORD]} == --*=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#*=}")
    fi
}
complete -F _kubectl_llmbatch kubectl-llmbatch
"""
ZSH = r"""#compdef kubectl-llmbatch
# Completion of kubectl-llmbatch for zsh; load it with: source <(kubectl llmbatch completion zsh)
_kubectl_llmbatch() {
    local -a found
    found=("${(@f)$(kubectl_complete-llmbatch "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ ${found[-1]} != :4 ]]; then
        _files
        return
    fi
    found[-1]=()
    compadd -a found
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _kubectl_llmbatch "$@"
else
    compdef _kubectl_llmbatch kubectl-llmbatch
fi
"""
SCRIPTS = {Shell.BASH: BASH, Shell.ZSH: ZSH}


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash or zsh.", show_default=False)],
) -> None:
    """Print the completion for a shell, to be loaded: source <(kubectl llmbatch completion bash).

    It completes kubectl-llmbatch. For "kubectl llmbatch", with a blank, kubectl's own completion asks this program,
    once kubectl_complete-llmbatch is on PATH: it is installed beside kubectl-llmbatch.
    """
    typer.echo(SCRIPTS[shell], nl=False)


def main() -> None:
    """The console script ``kubectl_complete-llmbatch``: the words that the last argument can become, one a line, and
    kubectl's directive.

    https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/ says how kubectl calls it. Nothing is ever told
    on stderr, and it never fails: a person is typing.
    """
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        from llmbatch.plugin.candidates import ask_cluster, candidates

        words, files = candidates(sys.argv[1:] or [""], ask_cluster)
    except Exception:
        words, files = [], False
    # A name that a terminal would obey, or a shell would split, is none of ours.
    names = [word for word in words if word.isprintable() and " " not in word]
    sys.stdout.write("".join(f"{name}\n" for name in names) + f":{FILES if files else NO_FILES}\n")
    sys.stdout.flush()
    # Without the interpreter's own end: it would wait for threads that may still resolve a name.
    os._exit(0)
