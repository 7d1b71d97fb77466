"""ConfigMaps and Secrets in memory, with the rules of the real ones that matter to sources and sinks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmbatch.domain.errors import OutputConflict
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.storage import OutputKind


@dataclass
class StoredObjects:
    """What exists, by (kind, namespace, name): the data, and whose it is."""

    data: dict[tuple[str, str, str], Mapping[str, bytes]] = field(default_factory=dict)
    owners: dict[tuple[str, str, str], str] = field(default_factory=dict)
    retained: set[tuple[str, str, str]] = field(default_factory=set)

    async def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.data.get(("ConfigMap", namespace, name))

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.data.get(("Secret", namespace, name))

    async def check_output(self, kind: OutputKind, namespace: str, name: str, *, owner: OutputOwner) -> None:
        key = (kind, namespace, name)
        if key in self.data and self.owners.get(key) != owner.uid:
            raise OutputConflict(f"{kind} {name} exists")

    async def write_output(
        self,
        kind: OutputKind,
        namespace: str,
        name: str,
        data: Mapping[str, bytes],
        *,
        owner: OutputOwner,
        retain: bool,
    ) -> None:
        await self.check_output(kind, namespace, name, owner=owner)
        key = (kind, namespace, name)
        self.data[key], self.owners[key] = dict(data), owner.uid
        if retain:
            self.retained.add(key)


@dataclass(frozen=True)
class Networks:
    """Refuses the addresses it is told of, and no others."""

    refused: frozenset[str] = frozenset()

    async def resolve(self, host: str) -> Sequence[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def refusal(self, address: str) -> str | None:
        return f"{address} is refused here" if address in self.refused else None
