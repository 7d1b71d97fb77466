"""What sources and sinks need of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from llmbatch.domain.output_owner import OutputOwner

OutputKind = Literal["ConfigMap", "Secret"]


class Secrets(Protocol):
    """Reads Secrets; asked again on every use, so that a rotated key is noticed."""

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """The decoded data, or None where there is no such Secret."""
        ...


class Objects(Secrets, Protocol):
    """Reads ConfigMaps and Secrets, and writes those that hold the results of a job."""

    async def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """``data`` and ``binaryData`` as bytes, or None where there is no such ConfigMap."""
        ...

    async def check_output(self, kind: OutputKind, namespace: str, name: str, *, owner: OutputOwner) -> None:
        """Raise OutputConflict where an object of that name exists and is not the owner's; write nothing."""
        ...

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
        """Create the object, or replace the owner's own; what is not UTF-8 goes to ``binaryData``.

        Raises OutputConflict where it exists and is not the owner's. With ``retain`` it has no owner reference.
        """
        ...
