"""Which addresses may be connected to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbatch.domain.networks import NetworkPolicy

NONE_ALLOWED = NetworkPolicy([])


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "20.1.2.3", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1"],
)
def test_public_addresses_are_fine(address: str):
    """The internet may be connected to, also just outside of the ranges that are refused."""
    assert NONE_ALLOWED.refusal(address) is None


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "a loopback address"),
        ("127.255.255.254", "a loopback address"),
        ("::1", "a loopback address"),
        ("0.0.0.0", "the unspecified address"),
        ("::", "the unspecified address"),
        ("0.1.2.3", "a private address"),
        ("10.0.0.1", "a private address"),
        ("172.16.0.1", "a private address"),
        ("172.31.255.255", "a private address"),
        ("192.168.1.1", "a private address"),
        ("192.0.2.1", "a private address"),
        ("198.18.0.1", "a private address"),
        ("fc00::1", "a private address"),
        ("fd12:3456::1", "a private address"),
        ("2001:db8::1", "a private address"),
        ("2001::1", "a private address"),
        ("100.64.0.1", "a carrier's shared address"),
        ("100.127.255.255", "a carrier's shared address"),
        ("169.254.1.1", "a link-local address"),
        ("fe80::1", "a link-local address"),
        ("fe80::1%eth0", "a link-local address"),
        ("224.0.0.1", "a multicast address"),
        ("ff02::1", "a multicast address"),
        ("240.0.0.1", "a reserved address"),
        ("255.255.255.255", "a reserved address"),
        ("192.88.99.1", "a reserved address"),
        ("fec0::1", "a reserved address"),
        ("4000::1", "a reserved address"),
        ("::7f00:1", "a reserved address"),
        ("169.254.169.254", "a metadata address"),
        ("169.254.170.2", "a metadata address"),
        ("168.63.129.16", "a metadata address"),
        ("100.100.100.200", "a metadata address"),
        ("192.0.0.192", "a metadata address"),
        ("fd00:ec2::254", "a metadata address"),
        ("fd20:ce:0::254", "a metadata address"),
    ],
)
def test_other_addresses_are_refused_with_their_kind(address: str, why: str):
    """Each range that leads to the operator's own surroundings is refused, and said to be what it is."""
    assert NONE_ALLOWED.refusal(address) == f"it is {why}"


def forms(address: str) -> dict[str, str]:
    """The ways in which an IPv6 address carries this IPv4 address."""
    number = int(IPv4Address(address))
    return {
        "mapped": str(IPv6Address((0xFFFF << 32) | number)),
        "6to4": str(IPv6Address((0x2002 << 112) | (number << 80) | 1)),
        "NAT64": str(IPv6Address((0x64_FF9B << 96) | number)),
        "ISATAP": str(IPv6Address((0x2A00_1450 << 96) | (0x5EFE << 32) | number)),
    }


@pytest.mark.parametrize("form", forms("1.1.1.1"))
def test_ipv6_forms_of_ipv4_addresses_are_judged_as_those(form: str):
    """Loopback, private and metadata addresses are not reached by another way of writing them, and public ones are."""
    assert NONE_ALLOWED.refusal(forms("127.0.0.1")[form]) == "it leads to a loopback address over IPv4"
    assert NONE_ALLOWED.refusal(forms("10.1.2.3")[form]) == "it leads to a private address over IPv4"
    assert NONE_ALLOWED.refusal(forms("169.254.169.254")[form]) == "it leads to a metadata address over IPv4"
    assert NONE_ALLOWED.refusal(forms("8.8.8.8")[form]) is None

    allowing = NetworkPolicy([ip_network("10.1.0.0/16"), ip_network("::/0")])
    assert allowing.refusal(forms("10.1.2.3")[form]) is None
    assert allowing.refusal(forms("127.0.0.1")[form])


def test_other_translations_are_refused():
    """A network's own NAT64 prefix and Teredo are not public, wherever they lead."""
    assert NONE_ALLOWED.refusal("64:ff9b:1::808:808")
    assert NONE_ALLOWED.refusal("2001:0:808:808::1")


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("127.0.0.1/32", "127.0.0.1", "127.0.0.2"),
        ("fd00::/8", "fd00::1", "fc00::1"),
        ("100.64.0.0/10", "100.64.0.1", "10.0.0.1"),
        ("::1/128", "::1", "127.0.0.1"),
        ("0.0.0.0/0", "10.0.0.1", "fd00::1"),
    ],
)
def test_allowed_networks_are_allowed(network: str, inside: str, outside: str):
    """What the administrator lists may be connected to, and nothing else of the same kind."""
    policy = NetworkPolicy([ip_network("192.168.7.0/24"), ip_network(network)])

    assert policy.refusal(inside) is None
    assert outside == "11.0.0.1" or policy.refusal(outside)


def test_metadata_is_allowed_by_its_very_address_only():
    """Opening a range around it does not open the cloud's credentials."""
    wide = NetworkPolicy([ip_network(n) for n in ("0.0.0.0/0", "::/0", "169.254.0.0/16", "fd00::/8")])
    narrow = NetworkPolicy([ip_network("169.254.169.254/32")])

    assert wide.refusal("169.254.169.254") == "it is a metadata address"
    assert wide.refusal("fd00:ec2::254") == "it is a metadata address"
    assert wide.refusal("169.254.1.1") is None
    assert narrow.refusal("169.254.169.254") is None
    assert narrow.refusal("::ffff:169.254.169.254") is None


@pytest.mark.parametrize(
    "address", ["", "localhost", "127.1", "0x7f000001", "2130706433", "010.0.0.1", "8.8.8.8/32", "[::1]"]
)
def test_what_is_no_address_is_refused(address: str):
    """Only an address in its plain form can be judged."""
    assert NONE_ALLOWED.refusal(address) == "it is no IP address"


@given(st.ip_addresses())
def test_no_address_that_is_not_global_passes(address: IPv4Address | IPv6Address):
    """Whatever passes is a global address to Python's own registry or leads to one, and reasons name no address."""
    why = NONE_ALLOWED.refusal(str(address))

    if why is None:
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        assert inner.is_global
        assert not inner.is_multicast
    else:
        assert str(address) not in why
