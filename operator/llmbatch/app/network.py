"""What tenants may reach, and how the hosts that they name are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmbatch.domain.networks import NetworkPolicy
from llmbatch.engine.resolver import Resolver


@dataclass(frozen=True, slots=True)
class Network:
    """The administrator's policy, and one resolver for all."""

    policy: NetworkPolicy
    resolver: Resolver

    def refusal(self, address: str) -> str | None:
        """Why no connection may be made to this IP address, or None if it may."""
        return self.policy.refusal(address)

    async def resolve(self, host: str) -> Sequence[str]:
        """All addresses of a host. Raises OSError."""
        return await self.resolver.resolve(host)
