"""What can be completed is what can be said."""

from __future__ import annotations

import pytest

from llmbatch.plugin.candidates import Answer, Live, candidates, parameters_of
from llmbatch.plugin.cli import COMMANDS
from llmbatch.plugin.options import Where


def no_cluster(what: Live, where: Where) -> list[str]:
    """A cluster that does not answer."""
    return []


def a_cluster(what: Live, where: Where) -> list[str]:
    """A cluster with two jobs in one namespace, and one of each other thing."""
    if what == "job":
        return ["run-1", "run-2"] if where.namespace in (None, "team") else ["other"]
    return [f"{what}-1"]


def words(line: str) -> list[str]:
    """What can come at the end of ``kubectl llmbatch`` and this line."""
    return candidates(line.split(" "), a_cluster).words


def test_commands_come_first():
    """Every command is offered, and options of the program."""
    assert words("") == list(COMMANDS)
    assert words("re") == ["results", "resume", "retry"]
    assert words("--v") == ["--version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_completes_its_options(command: str):
    """No command is forgotten, and none has an option that cannot be completed."""
    flags = {flag for one in parameters_of(command) for flag in one.flags if flag.startswith("--")}

    assert set(words(f"{command} --")) == {*flags, "--help"}


def test_jobs_come_from_the_namespace_that_was_named():
    """Names are those that the command would find; one that is there already is not offered again."""
    assert words("watch ") == ["run-1", "run-2"]
    assert words("cancel run-1 ") == ["run-2"]
    assert words("logs -n elsewhere ") == ["other"]
    assert words("logs --namespace=elsewhere ") == ["other"]
    assert words("logs --follow r") == ["run-1", "run-2"]


def test_options_may_stand_before_the_command():
    """Users of kubectl put the namespace first."""
    assert words("-n elsewhere logs ") == ["other"]
    assert words("--namespace=elsewhere wa") == ["watch"]
    assert words("-n ") == ["namespace-1"]
    assert words("-n name") == ["namespace-1"]
    assert words("-n team ") == list(COMMANDS)
    assert words("--con") == ["--context"]


def test_values_of_options_are_completed():
    """What an option can be is offered behind it, with a blank or an equals sign."""
    assert words("cost --by ") == ["model", "namespace", "deployment"]
    assert words("cost --by=na") == ["--by=namespace"]
    assert words("cost -o j") == ["json"]
    assert words("watch --namespace ") == ["namespace-1"]
    assert words("submit x.jsonl --model ") == ["model-1"]
    assert words("watch --context ") == ["context-1"]
    assert words("completion z") == ["zsh"]


def test_bash_may_take_an_equals_sign_for_a_word():
    """COMP_WORDS has `--by`, `=` and `mo` where one types `--by=mo`."""
    assert candidates(["cost", "--by", "=", "mo"], no_cluster).words == ["model"]
    assert candidates(["cost", "--by", "="], no_cluster).words == ["model", "namespace", "deployment"]


@pytest.mark.parametrize("line", ["submit ", "validate a", "results run-1 --output ", "watch --kubeconfig "])
def test_files_are_the_shells_own_to_complete(line: str):
    """Where a file is wanted, the shell is told so."""
    assert candidates(line.split(" "), a_cluster) == Answer([], files=True)


@pytest.mark.parametrize("line", ["nonsense ", "models ", "watch --timeout ", "logs --nonsense=", "logs --nonsense "])
def test_what_is_not_known_is_not_made_up(line: str):
    """An unknown command or option, and free text, offer nothing of their own and break nothing."""
    assert candidates(line.split(" "), no_cluster) == Answer([])
