"""The `emulator` command. What it needs is imported when it runs: it shares its program with the operator."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmbatch.emulator.settings import AccountSettings, EmulatorSettings

DEFAULT_PORT = 8787


def emulator(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes any free one.")
    ] = DEFAULT_PORT,
    config: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A YAML file with accounts; without it there are three."),
    ] = None,
    pace: Annotated[
        float,
        typer.Option(min=0.0, help="Multiplies every duration: 0.1 is ten times as fast, 60 makes minutes of seconds."),
    ] = 1.0,
) -> None:
    """Run a provider to try the operator with: OpenAI's and Azure OpenAI's Files and Batches APIs on one port."""
    import yaml
    from pydantic import ValidationError

    from llmbatch.emulator.server import serve
    from llmbatch.emulator.settings import default_settings, read_settings

    try:
        settings = default_settings() if config is None else read_settings(config)
    except (OSError, ValueError, yaml.YAMLError) as error:
        told = "; ".join(one["msg"] for one in error.errors()) if isinstance(error, ValidationError) else str(error)
        raise typer.BadParameter(told, param_hint="--config") from error
    settings = settings.at_pace(pace)
    typer.echo(welcome(settings))
    asyncio.run(serve(host, port, settings))


def welcome(settings: EmulatorSettings) -> str:
    """What a person needs to know to use these accounts."""
    lines = [
        "An emulator of OpenAI's and Azure OpenAI's batch APIs. Nothing leaves this machine, nothing costs money.",
        "",
    ]
    for account in settings.accounts:
        lines += [f"  {line}" for line in _account(account)] + [""]
    lines.append("What it holds: GET /_emulator/accounts/NAME. What it was asked: GET /_emulator/accounts/NAME/calls.")
    return "\n".join(lines)


def _account(account: AccountSettings) -> list[str]:
    if account.provider == "openai":
        models = ", ".join(account.models) if account.models is not None else "those of OpenAI, as gpt-4o-mini"
        return [f"{account.name}: OpenAI at /v1", f"    key {account.keys[0]}", f"    models: {models}"]
    deployments = ", ".join(f"{name} ({model})" for name, model in account.deployments.items())
    return [
        f"{account.name}: Azure OpenAI at /azure/{account.resource}",
        f"    key {account.keys[0]}",
        f"    deployments: {deployments}",
    ]
