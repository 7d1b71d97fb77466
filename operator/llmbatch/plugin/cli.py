"""The command line. A command's module is imported when it is called, so that help and completion come at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from llmbatch import __version__

PROGRAM = "kubectl llmbatch"
CONTEXT = {"help_option_names": ["-h", "--help"]}
EVERYWHERE = ("-n", "--namespace", "--context", "--kubeconfig")
"""Options that are also taken before the command's name, where users of kubectl put them."""


class Command(NamedTuple):
    """Where a command's function is, and what the list of commands says of it."""

    module: str
    function: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    "submit": Command("submit", "submit", "Run a file of requests on a model."),
    "validate": Command("validate", "validate", "Check a file of requests, without a cluster."),
    "results": Command("results", "results", "Fetch the results of a job."),
    "errors": Command("errors", "errors", "List the requests of a job that failed, and why."),
    "watch": Command("watch", "watch", "Follow jobs: progress, rate, time left, cost."),
    "logs": Command("logs", "logs", "Tell what happened to a job, in order."),
    "cancel": Command("control", "cancel", "Cancel jobs; what is done is collected."),
    "suspend": Command("control", "suspend", "Hold jobs that are not submitted yet."),
    "resume": Command("control", "resume", "Let suspended jobs go on."),
    "retry": Command("retry", "retry", "Run the file of a job that has ended again, as a new job."),
    "cost": Command("cost", "cost", "Add up what jobs have cost."),
    "models": Command("models", "models", "List the models that a namespace may use, and their deployments."),
    "completion": Command("completion", "completion", "Print the completion for a shell."),
}


class Usage(TyperCommand):
    """A command whose usage line has its arguments as their metavars say."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``[OPTIONS] FILE``."""
        return ["[OPTIONS]", *(param.metavar or "" for param in self.params if param.param_type_name == "argument")]


class Commands(TyperGroup):
    """The group of all commands, which knows them by name and loads the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, imported now; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            wanted = COMMANDS[cmd_name]
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            function = getattr(import_module(f"llmbatch.plugin.commands.{wanted.module}"), wanted.function)
            single.command(cmd_name, cls=Usage, context_settings=CONTEXT)(function)
            self.commands[cmd_name] = typer.main.get_command(single)
        return self.commands[cmd_name]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As TyperGroup, with what stands before the command's name put behind it."""
        early, rest = [], list(args)
        while rest and rest[0].partition("=")[0] in EVERYWHERE:
            early += [rest.pop(0) for _ in range(1 if "=" in rest[0] else 2) if rest]
        return super().parse_args(ctx, [*rest[:1], *early, *rest[1:]])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As TyperGroup, but with a suggestion from the table where there is no such command."""
        if args[0] not in COMMANDS and (near := get_close_matches(args[0], COMMANDS, n=1)):
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=CONTEXT,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _frame(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run batches of requests on LLM providers: submit files, watch jobs, fetch results."""


def main() -> None:
    """The command line, with what it is called with."""
    # Libraries log to stderr where nobody has said otherwise; what matters is told by the commands.
    logging.getLogger().addHandler(logging.NullHandler())
    app(prog_name=PROGRAM)
