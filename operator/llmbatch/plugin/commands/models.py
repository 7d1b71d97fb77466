"""``kubectl llmbatch models``: the models that a namespace may use, and the deployments behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from llmbatch.api import ModelDeployment
from llmbatch.kube.errors import Forbidden, Unreadable
from llmbatch.plugin.connection import Connection, connected, left_out
from llmbatch.plugin.exits import Exit, run, say
from llmbatch.plugin.offers import Offer, limits_text, offers, provider_of
from llmbatch.plugin.options import Context, Format, Kubeconfig, Namespace, Output, Where
from llmbatch.plugin.terminal.printing import NONE, Cell, Column, Table, show

Shared = Annotated[
    list[str] | None,
    typer.Option(
        "--shared-namespace",
        help="A namespace that shares deployments, for who may not list those of all; repeatable.",
        show_default=False,
    ),
]


def models(
    shared_namespace: Shared = None,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List the models that a namespace may use, with each deployment's health, share of the work and limits.

    FROM tells whose a deployment is: the namespace's own, one that is shared with it, or unclear, where it admits
    the namespace and only the operator knows whether the administrator has shared its namespace.
    """
    run(_models(Where(namespace, context, kubeconfig), shared_namespace or [], output))


async def _models(where: Where, shared: Sequence[str], form: Format) -> Exit:
    async with connected(where) as connection:
        labels = await _labels(connection)
        unreadable = list[str]()
        deployments = await _deployments(connection, shared, lambda error: unreadable.append(error.name))
        found = offers(deployments, connection.namespace, labels)
    show(
        form,
        lambda: data(found),
        lambda: table(found, connection.namespace),
        empty=f"no deployment of any model may be used from namespace {connection.namespace}",
    )
    for model, offered in found.items():
        if form is Format.TABLE and not any(offer.ready and not offer.deployment.spec.suspend for offer in offered):
            say(f"no deployment of {model} is Ready: {offered[0].message or offered[0].reason}")
    if unreadable:
        say(f"error: {left_out(unreadable, 'deployments')}")
    return Exit.NO if unreadable else Exit.DONE


async def _deployments(
    connection: Connection, shared: Sequence[str], on_unreadable: Callable[[Unreadable], None]
) -> list[ModelDeployment]:
    """Those of all namespaces, or else of this one and those that are named. Raises Forbidden for these."""
    try:
        return [found async for found in connection.kube.list(ModelDeployment, on_unreadable=on_unreadable)]
    except Forbidden:
        if not shared:
            say("deployments of other namespaces may not be listed; name those that share some: --shared-namespace")
    return [
        found
        for namespace in dict.fromkeys([connection.namespace, *shared])
        async for found in connection.kube.list(ModelDeployment, namespace, on_unreadable=on_unreadable)
    ]


async def _labels(connection: Connection) -> Mapping[str, str] | None:
    try:
        found = await connection.kube.namespace(connection.namespace)
    except Forbidden:
        return None
    return found.labels if found else {}


def data(found: Mapping[str, Sequence[Offer]]) -> dict[str, Any]:
    """The models for programs."""
    return {
        "models": [
            {
                "name": model,
                "readyDeployments": sum(offer.ready is True for offer in offered),
                "deployments": [offer.data() for offer in offered],
            }
            for model, offered in found.items()
        ]
    }


def table(found: Mapping[str, Sequence[Offer]], namespace: str) -> Table:
    """A row a deployment."""
    columns = [
        Column("MODEL", least=12),
        Column("DEPLOYMENT", least=12),
        Column("READY"),
        Column("REASON", least=10),
        Column("PROVIDER", rank=3),
        Column("WEIGHT", right=True, rank=2),
        Column("ACTIVE", right=True, rank=1),
        Column("LIMITS", least=10, rank=4),
        Column("FROM", rank=5),
    ]
    return Table(columns, [_row(model, offer, namespace) for model, offered in found.items() for offer in offered])


def _row(model: str, offer: Offer, namespace: str) -> list[str | Cell]:
    meta, spec = offer.deployment.metadata, offer.deployment.spec
    most, active = spec.limits.max_active_batches, offer.deployment.status.active_batches
    ready = {True: Cell("yes", "green"), False: Cell("no", "red"), None: Cell("unknown", "yellow")}
    return [
        model,
        meta.name if meta.namespace == namespace else f"{meta.namespace}/{meta.name}",
        ready[offer.ready],
        offer.reason,
        provider_of(offer.deployment),
        str(spec.weight),
        f"{NONE if active is None else active}{f'/{most}' if most else ''}",
        limits_text(spec.limits),
        offer.access,
    ]
