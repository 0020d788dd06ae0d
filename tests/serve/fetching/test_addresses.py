"""Which addresses images may be fetched from, as a pure function over a table."""

from ipaddress import ip_address, ip_network

import pytest

from plumbline_serve.fetching.addresses import is_public, may_fetch_from

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.1", "151.101.1.69", "168.63.129.15", "169.253.255.255", "169.255.0.0",
    "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
    "198.20.0.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "2001:200::1", "2001:4860:4860::8888", "2003::1",
    "2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "2600:1f18::1",
]  # fmt: skip
"""The neighbours of what is refused among them."""
REFUSED = {
    "this network": ["0.0.0.0", "0.0.0.1", "0.255.255.255"],
    "private": ["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"],
    "carriers": ["100.64.0.0", "100.127.255.255"],
    "loopback": ["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"],
    "link-local": ["169.254.0.0", "169.254.255.255", "fe80::1", "fe80::1%eth0", "febf::1"],
    "site-local": ["fec0::1", "feff::1"],
    "unique local": ["fc00::1", "fd00::1", "fdff:ffff::1"],
    "protocol assignments": ["192.0.0.0", "192.0.0.170", "192.0.0.255", "2001::1", "2001:2::1", "2001:1ff::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "2001:db8:ffff::1", "3fff:fff::1"],
    "benchmarks": ["198.18.0.0", "198.19.255.255"],
    "relays": ["192.88.99.1"],
    "multicast": ["224.0.0.0", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.0", "255.255.255.254", "255.255.255.255", "4000::1", "5f00::1", "8000::1", "100::1"],
    "unspecified": ["::"],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:1.1.1.1"],
    "IPv4-compatible": ["::127.0.0.1", "::10.0.0.1", "::1.1.1.1"],
    "IPv4-translated": ["::ffff:0:127.0.0.1", "::ffff:0:1.1.1.1"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::101:101", "64:ff9b:1::7f00:1", "64:ff9b:1::101:101"],
    "6to4": ["2002:7f00:1::1", "2002:a9fe:a9fe::1", "2002:101:101::1"],
    "Teredo": ["2001:0:101:101::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "metadata": [
        "169.254.169.254", "169.254.169.253", "169.254.170.2", "169.254.170.23", "169.254.0.23", "168.63.129.16",
        "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe",
    ],
}  # fmt: skip
EVERYTHING = [ip_network("0.0.0.0/0"), ip_network("::/0")]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_fetched_from(address: str) -> None:
    assert is_public(ip_address(address))
    assert may_fetch_from(ip_address(address), [])


@pytest.mark.parametrize(
    "address", [pytest.param(address, id=f"{kind} {address}") for kind, group in REFUSED.items() for address in group]
)
def test_all_others_are_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not may_fetch_from(ip_address(address), [])


@pytest.mark.parametrize("address", REFUSED["metadata"])
def test_metadata_is_refused_in_networks_that_are_allowed_too(address: str) -> None:
    assert not may_fetch_from(ip_address(address), EVERYTHING)


@pytest.mark.parametrize(
    ("address", "networks", "is_allowed"),
    [
        pytest.param("10.1.2.3", ["10.1.0.0/16"], True, id="within"),
        pytest.param("10.2.0.0", ["10.1.0.0/16"], False, id="beside"),
        pytest.param("127.0.0.1", ["127.0.0.1/32"], True, id="loopback"),
        pytest.param("::1", ["::1/128"], True, id="loopback of IPv6"),
        pytest.param("fd12::1", ["10.0.0.0/8", "fd12::/16"], True, id="unique local"),
        pytest.param("::ffff:10.1.2.3", ["10.1.0.0/16"], False, id="mapped, whose IPv4 network is allowed"),
        pytest.param("64:ff9b::101:101", ["64:ff9b::/96"], True, id="a public address through NAT64"),
        pytest.param("64:ff9b::a00:1", ["64:ff9b::/96"], False, id="a private address through NAT64"),
        pytest.param("64:ff9b::a00:1", ["64:ff9b::/96", "10.0.0.0/8"], True, id="an allowed one through NAT64"),
        pytest.param("64:ff9b::a9fe:a9fe", ["64:ff9b::/96", "0.0.0.0/0"], False, id="metadata through NAT64"),
        pytest.param("::ffff:169.254.169.254", ["::/0", "0.0.0.0/0"], False, id="metadata, mapped"),
        pytest.param("::169.254.169.254", ["::/0", "0.0.0.0/0"], False, id="metadata, compatible"),
        pytest.param("2002:a9fe:a9fe::1", ["::/0", "0.0.0.0/0"], False, id="metadata through 6to4"),
        pytest.param("2001::5601:5601", ["::/0", "0.0.0.0/0"], False, id="metadata through Teredo"),
    ],
)
def test_networks_may_be_allowed_that_are_not_public(address: str, networks: list[str], is_allowed: bool) -> None:
    allowed = [ip_network(network) for network in networks]
    assert may_fetch_from(ip_address(address), allowed) is is_allowed
