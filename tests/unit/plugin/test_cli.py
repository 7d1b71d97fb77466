"""The frame of the plugin: help, options, exit codes, and the one line that tells what went wrong."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
import typer

from llmbatch.domain import errors
from llmbatch.kube import errors as kube
from llmbatch.plugin import cli
from llmbatch.plugin.exits import Exit, Stop, code_of, leave, say
from llmbatch.plugin.options import duration, job_name
from support.plugin import Plugin, invoked
from support.requests import a_file, a_line


def test_help_lists_every_command_without_loading_any():
    """Help comes at once: it imports neither the Kubernetes client nor the resources."""
    code = (
        "import sys; from llmbatch.plugin.cli import main; sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "except SystemExit: print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=Plugin().environ, capture_output=True, text=True, check=True
    )

    assert all(f"  {name} " in done.stdout for name in cli.COMMANDS)
    assert not {"kubernetes", "pydantic", "aiohttp", "obstore", "rich", "yaml"} & set(done.stderr.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_of_the_list_is_there_and_says_what_it_does(name):
    """Each entry leads to a function, which begins with a sentence for its own help."""
    command = cli.COMMANDS[name]

    function = getattr(import_module(f"llmbatch.plugin.commands.{command.module}"), command.function)

    assert (function.__doc__ or "").splitlines()[0].endswith(".")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--version"], 0, "kubectl llmbatch "),
        (["submt"], 2, "Did you mean 'submit'?"),
        (["frobnicate"], 2, "No such command"),
        (["results"], 2, "JOB"),
        (["results", "run", "--errors", "--summary"], 2, "choose one of"),
        (["submit", "file", "--timeout", "soon"], 2, "a duration is written"),
        (["validate", "file", "-o", "xml"], 2, "'table', 'json', 'yaml'"),
        (["results", "--help"], 0, "Fetch the results of a job."),
    ],
)
def test_what_is_said_wrong_is_told_with_the_code_of_usage(arguments, code, says):
    """A misspelt command, a missing argument and a value of the wrong form leave with 2 and say what is right."""
    done = invoked(*arguments, code=code)

    assert says in done.out + done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("early", [["-n", "team"], ["--namespace=team"], ["--kubeconfig", "/nowhere", "-n", "team"]])
def test_a_namespace_may_stand_before_the_command_too(tmp_path, early):
    """Users of kubectl put it there; what stands behind the command's name wins."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(a_file(a_line("a")))

    def namespace(*arguments: str) -> str:
        done = invoked(*early, "submit", file, "--dry-run", "client", "-o", "json", *arguments)
        return done.json["items"][0]["metadata"]["namespace"]

    assert namespace() == "team"
    assert namespace("-n", "other") == "other"
    assert "Usage: kubectl llmbatch" in invoked(early[0].partition("=")[0], code=2).err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("30s", 30), ("1h30m", 5400), ("7d", 604_800), ("1.5h", 5400), ("0s", 0)]
)
def test_durations_are_written_as_kubectl_has_them_and_in_days(text, seconds):
    """Seconds without a unit, and any of d, h, m and s one after the other."""
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "5x", "-5s", "1h 30m", "h", "36501d", "9" * 400])
def test_what_is_no_duration_is_refused(text):
    """Anything else is refused as a value of the option."""
    with pytest.raises(typer.BadParameter):
        duration(text)


@pytest.mark.parametrize("text", ["run", "batchjob/run", "batchjob.llmbatch.dev/run"])
def test_a_job_is_named_as_kubectl_prints_it(text):
    """What `kubectl get -o name` prints can be pasted."""
    assert job_name(text) == "run"


@pytest.mark.parametrize("text", ["", "batchjob/", "a,b", "a=b", "A", "run_1", "..", "-a", "a" * 254, "run\n"])
def test_what_cannot_be_a_name_is_refused(text):
    """Before it gets into a path or a selector, where it would mean something else."""
    with pytest.raises(typer.BadParameter):
        job_name(text)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (kube.NoConfiguration("x"), Exit.USAGE),
        (kube.Gone("x"), Exit.NOT_FOUND),
        (kube.Forbidden("x"), Exit.FORBIDDEN),
        (kube.Unauthenticated("x"), Exit.FORBIDDEN),
        (kube.Unreachable("x"), Exit.UNREACHABLE),
        (kube.Overloaded("x"), Exit.UNREACHABLE),
        (kube.Invalid("x"), Exit.NO),
        (kube.Conflict("x"), Exit.NO),
        (errors.NotFound("x"), Exit.NOT_FOUND),
        (errors.Unauthorized("x"), Exit.FORBIDDEN),
        (errors.Unavailable("x"), Exit.UNREACHABLE),
        (errors.RateLimited("x"), Exit.UNREACHABLE),
        (errors.NotSent("x"), Exit.UNREACHABLE),
        (errors.CredentialsError("x"), Exit.FORBIDDEN),
        (errors.SourceNotFound("x"), Exit.NOT_FOUND),
        (errors.SourceDenied("x"), Exit.FORBIDDEN),
        (errors.StorageError("x"), Exit.UNREACHABLE),
    ],
)
def test_each_error_has_its_exit_code(error, code):
    """Scripts tell by the code whether to ask again, to ask for a right, or to give up."""
    assert code_of(error) is code


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (Stop("no such thing", Exit.NOT_FOUND), 3, "error: no such thing\n"),
        (kube.Forbidden("get secrets: Forbidden"), 4, "error: get secrets: Forbidden\n"),
        (FileNotFoundError(2, "No such file", "answers.jsonl"), 3, "error: answers.jsonl: No such file\n"),
        (PermissionError(13, "Permission denied", "answers.jsonl"), 1, "error: answers.jsonl: Permission denied\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_command_leaves_with_one_line_and_a_code(raised, code, says, capsys):
    """Whatever ends a command, it is told in one line on stderr."""

    def work() -> None:
        raise raised

    with pytest.raises(typer.Exit) as left:
        leave(work)

    assert left.value.exit_code == code
    assert capsys.readouterr() == ("", says)


def test_our_own_mistakes_are_not_dressed_up():
    """An error that is not known is a fault of the program, and shows where."""

    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave(work)


def test_a_message_moves_no_cursor(capsys):
    """What others wrote into a message, such as a name or a provider's words, cannot change the screen."""
    say("job \x1b[2J\x9b2J\r\nis gone")

    assert capsys.readouterr().err == "job  [2J 2J  is gone\n"


def test_the_console_script_is_what_kubectl_looks_for():
    """kubectl runs `kubectl-llmbatch` for `kubectl llmbatch`."""
    project = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text()

    assert 'kubectl-llmbatch = "llmbatch.plugin.__main__:main"' in project


@pytest.mark.parametrize("module", ["typer", "llmbatch.plugin.commands.validate"])
def test_ctrl_c_while_the_program_starts_is_no_traceback(module: str):
    """However early it comes: 130, as later on."""
    code = f"""
import os, signal, sys
class Now:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
sys.meta_path.insert(0, Now())
sys.argv[1:] = ["validate", os.devnull]
from llmbatch.plugin.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], env=Plugin().environ, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_streams_that_a_shell_closed_are_as_empty_as_can_be(tmp_path: Path):
    """Nothing is read, what is written is lost, and the exit code says the same as ever."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(a_file(a_line("a")))

    def code(*arguments: str | Path, closed: str) -> tuple[int, bytes]:
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *Plugin().command("validate", *map(str, arguments))]
        done = subprocess.run(command, env=Plugin().environ, capture_output=True, check=False)
        return done.returncode, done.stderr

    assert code(file, closed="<&- >&- 2>&-") == (0, b"")
    assert code(file, closed=">&-") == (0, b"")
    told = code("-", closed="<&-")
    assert told[0] == 1
    assert told[1].startswith(b"error: standard input: ")
