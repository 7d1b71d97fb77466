"""Which addresses the operator may connect to for a tenant: the public internet, and what the administrator allows."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google Cloud and most others
        "169.254.170.2",  # AWS: credentials of ECS tasks
        "169.254.170.23",  # AWS: EKS pod identity
        "168.63.129.16",  # Azure's wire server, on a public address
        "100.100.100.200",  # Alibaba Cloud
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google Cloud
    )
)
_SHARED = IPv4Network("100.64.0.0/10")
_SIX_TO_FOUR_RELAYS = IPv4Network("192.88.99.0/24")
_TRANSLATED = IPv6Network("64:ff9b::/96")
_PUBLIC_V6 = IPv6Network("2000::/3")
_ISATAP = (0x00005EFE, 0x02005EFE)
_LOW_32 = 0xFFFF_FFFF


class NetworkPolicy:
    """Refuses what is not public, unless it is in one of the ``allowed`` networks.

    An address that holds an IPv4 address which the packets go to in the end (IPv4-mapped, 6to4, NAT64, ISATAP) is
    judged by that one. A metadata address is allowed only by name, as a network of that single address, so that
    opening a cluster's own range does not open it.
    """

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = tuple(allowed)

    def refusal(self, address: str) -> str | None:
        """Why no connection may be made to this IP address, in words without the address, or None if it may.

        The address is as a socket takes it, a zone (``%eth0``) included. Anything else is refused.
        """
        try:
            outer = ip_address(address.partition("%")[0])
        except ValueError:
            return "it is no IP address"
        inner = _destination(outer)
        why = _why(inner)
        if why is None or self._allows(inner, exactly=inner in METADATA):
            return None
        return f"it is {why}" if inner is outer else f"it leads to {why} over IPv4"

    def _allows(self, address: Address, *, exactly: bool) -> bool:
        return any(
            address in network and (not exactly or network.num_addresses == 1)
            for network in self._allowed
            if network.version == address.version
        )


def _destination(address: Address) -> Address:
    """The IPv4 address inside of an IPv6 address, where packets go there, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    low = int(address) & _LOW_32
    if address in _TRANSLATED or (int(address) >> 32) & _LOW_32 in _ISATAP:
        return IPv4Address(low)
    return address


def _why(address: Address) -> str | None:
    """What kind of address must not be connected to, or None for a public one.

    IANA's special-purpose registries, as Python's ipaddress has them; of IPv6 only global unicast is in use.
    """
    kinds = (
        (address in METADATA, "a metadata address"),
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (isinstance(address, IPv4Address) and address in _SHARED, "a carrier's shared address"),
        (
            isinstance(address, IPv6Address) and address not in _PUBLIC_V6 and not address.is_private,
            "a reserved address",
        ),
        (address.is_reserved, "a reserved address"),
        (address.is_private, "a private address"),
        (not address.is_global, "an address that is not public"),
        (isinstance(address, IPv4Address) and address in _SIX_TO_FOUR_RELAYS, "a reserved address"),
    )
    return next((kind for holds, kind in kinds if holds), None)
