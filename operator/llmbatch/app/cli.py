"""The command line: run, emulator, crds."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import typer
from pydantic import ValidationError

from llmbatch import __version__
from llmbatch.app.flags import flags_of, refusals
from llmbatch.app.settings import Settings

main = typer.Typer(
    name="llmbatch-operator",
    help="A Kubernetes operator that runs batch jobs on LLM providers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take [env: …] for markup
)


@main.command()
@flags_of(Settings)
def run(**flags: Any) -> None:
    """Run the operator (KUBECONFIG, or the pod's own account)."""
    from llmbatch.observability import logs

    try:
        settings = Settings(**{name: value for name, value in flags.items() if value not in (None, [])})
    except ValidationError as error:
        for line in refusals(error):
            typer.echo(line, err=True)
        raise typer.Exit(2) from None
    logs.configure(settings.log_format, level=getattr(logging, settings.log_level.upper()))
    from llmbatch.app.process import run as run_operator

    sys.exit(asyncio.run(run_operator(settings)))


@main.command()
def crds() -> None:
    """Print the CustomResourceDefinitions, for kubectl apply -f -."""
    import yaml

    from llmbatch.api.crdgen import crds as generated

    typer.echo(yaml.safe_dump_all(generated(), sort_keys=False, width=120), nl=False)


@main.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _register_emulator() -> None:
    from llmbatch.emulator.cli import emulator

    main.command(name="emulator")(emulator)


_register_emulator()
