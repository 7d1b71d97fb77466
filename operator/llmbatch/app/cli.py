"""The command line: run, emulator, crds."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from llmbatch import __version__

main = typer.Typer(
    name="llmbatch-operator",
    help="A Kubernetes operator that runs batch jobs on LLM providers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Texts = list[str] | None


def _option(flag: str, help_: str, **more: Any) -> Any:
    name = flag.removeprefix("--").split("/")[0].replace("-", "_").upper()
    return typer.Option(flag, help=f"{help_} [env: LLMBATCH_{name}]", show_default=False, **more)


@main.command()
def run(
    namespace: Annotated[Texts, _option("--namespace", "Work in this namespace; repeatable. Default: all.")] = None,
    shared_deployment_namespace: Annotated[
        Texts, _option("--shared-deployment-namespace", "Its deployments may admit other namespaces; repeatable.")
    ] = None,
    allow_network: Annotated[
        Texts, _option("--allow-network", "A private network (CIDR) that endpoints may lead to; repeatable.")
    ] = None,
    metrics_address: Annotated[str | None, _option("--metrics-address", "Default: 0.0.0.0:8080.")] = None,
    health_address: Annotated[str | None, _option("--health-address", "Default: 0.0.0.0:8081.")] = None,
    log_format: Annotated[str | None, _option("--log-format", "json or text. Default: json.")] = None,
    log_level: Annotated[str | None, _option("--log-level", "debug, info or warning. Default: info.")] = None,
    leader_elect: Annotated[
        bool | None,
        _option("--leader-elect/--no-leader-elect", "Work only while holding the Lease. Default: yes."),
    ] = None,
    lease_namespace: Annotated[
        str | None, _option("--lease-namespace", "Where the Lease is. Default: the pod's namespace.")
    ] = None,
    lease_name: Annotated[str | None, _option("--lease-name", "Default: llmbatch-operator.")] = None,
    cluster_id: Annotated[
        str | None, _option("--cluster-id", "Names this cluster in batches. Default: UID of kube-system.")
    ] = None,
    poll_interval: Annotated[
        float | None, _option("--poll-interval", "Seconds between looks at running batches. Default: 30.")
    ] = None,
    probe_interval: Annotated[
        float | None, _option("--probe-interval", "Seconds between looks at idle accounts. Default: 30.")
    ] = None,
    create_timeout: Annotated[float | None, _option("--create-timeout", "Seconds for one create. Default: 60.")] = None,
    create_grace: Annotated[
        float | None, _option("--create-grace", "Seconds added before a lost create is repeated. Default: 60.")
    ] = None,
    not_found_grace: Annotated[
        float | None, _option("--not-found-grace", "Seconds for which a 404 is a lag. Default: 600.")
    ] = None,
    retry_scale: Annotated[
        float | None, _option("--retry-scale", "Multiplies the waits between attempts. Default: 1.")
    ] = None,
    workers: Annotated[int | None, _option("--workers", "Reconciles at a time. Default: 16.")] = None,
    uploads: Annotated[int | None, _option("--uploads", "Uploads to one deployment at a time. Default: 8.")] = None,
) -> None:
    """Run the operator (KUBECONFIG, or the pod's own account)."""
    flags = {name: value for name, value in locals().items() if value not in (None, [])}
    from llmbatch.app.settings import Settings
    from llmbatch.observability import logs

    try:
        settings = Settings(**flags)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            flag = "--" + str(found["loc"][0]).replace("_", "-")
            typer.echo(f"{flag}: {found['msg']}", err=True)
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
