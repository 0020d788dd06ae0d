"""Which addresses images may be fetched from: public ones, and those of networks that the settings name.

The table follows the special-purpose registries of IANA (RFC 6890 and its updates), as of 2026. Python's own
`ip_address(…).is_global` says other things in other versions of it.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_PRIVATE_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network, RFC 791
        "10.0.0.0/8",  # private, RFC 1918
        "100.64.0.0/10",  # shared by carriers, RFC 6598
        "127.0.0.0/8",  # loopback, RFC 1122
        "169.254.0.0/16",  # link-local, RFC 3927; metadata of most clouds
        "172.16.0.0/12",  # private, RFC 1918
        "192.0.0.0/24",  # protocol assignments, RFC 6890
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "192.168.0.0/16",  # private, RFC 1918
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",  # documentation, RFC 5737
        "203.0.113.0/24",  # documentation, RFC 5737
        "224.0.0.0/4",  # multicast, RFC 5771
        "240.0.0.0/4",  # reserved, RFC 1112, and broadcast
    )
)
_PUBLIC_IPV6 = IPv6Network("2000::/3")  # all that is assigned as global unicast, RFC 4291
_PRIVATE_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, RFC 2928: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4, RFC 3056
        "3fff::/20",  # documentation, RFC 9637
    )
)
_METADATA = frozenset(
    ip_address(address)
    for address in (
        "168.63.129.16",  # Azure, in public space
        "169.254.169.254",  # AWS, Azure, Google, Oracle and others
        "169.254.169.253",  # AWS, DNS
        "169.254.170.2",  # AWS, credentials of ECS tasks
        "169.254.170.23",  # AWS, credentials of EKS pods
        "169.254.0.23",  # Tencent
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",  # AWS, DNS
        "fd00:ec2::23",  # AWS, credentials of EKS pods
        "fd20:ce::254",  # Google
        "fd00:c1::a9fe:a9fe",  # Oracle
    )
)
"""Where machines of clouds keep their credentials: never fetched from, also in a network that is allowed."""
_IPV4_AT_THE_END = tuple(
    IPv6Network(network)
    for network in (
        "::/96",  # IPv4-compatible, RFC 4291
        "::ffff:0:0/96",  # IPv4-mapped, RFC 4291
        "::ffff:0:0:0/96",  # IPv4-translated, RFC 2765
        "64:ff9b::/96",  # NAT64, RFC 6052
        "64:ff9b:1::/48",  # NAT64 of one's own, RFC 8215
    )
)
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_IPV4 = 2**32 - 1


def is_public(address: Address) -> bool:
    """Whether it is an address of the public internet: one that everybody may reach and that is one host's."""
    if address in _METADATA:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _PRIVATE_IPV4)
    return address in _PUBLIC_IPV6 and not any(address in network for network in _PRIVATE_IPV6)


def may_fetch_from(address: Address, allow_networks: Sequence[Network]) -> bool:
    """Whether images may be fetched from the address.

    Args:
        address: As it was resolved.
        allow_networks: May be fetched from although they are not public.
    """
    if address in _METADATA:
        return False
    inner = _embedded(address)
    if inner is not None and not may_fetch_from(inner, allow_networks):
        return False
    return is_public(address) or any(address in network for network in allow_networks)


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that a gateway or the system would send to in this one's place."""
    if isinstance(address, IPv4Address) or address.is_loopback or address.is_unspecified:
        return None
    if any(address in network for network in _IPV4_AT_THE_END):
        return IPv4Address(int(address) & _IPV4)
    if address in _6TO4:
        return IPv4Address(int(address) >> 80 & _IPV4)
    if address in _TEREDO:
        return IPv4Address(~int(address) & _IPV4)
    return None
