"""What is never dialled: every forbidden address in every embedding, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.addressing import NEVER_DIALLED_IPV4, TranslationPrefix
from appliance.policy.forbidden import METADATA_IPV4, METADATA_IPV6, Forbidden, lan_networks, unmapped

PREFIXES = [
    TranslationPrefix.parse(text)
    for text in (
        "fd10::/32",
        "fd20:1::/40",
        "fd30:1:2::/48",
        "fd40:1:2::/56",
        "fd50:1:2:3::/64",
        "fd60::/96",
        "64:ff9b:1:7::/96",  # inside the block that is refused where it is not ours
    )
]
LAN = IPv6Network("fd00:1:0:0::/64")
OWN = {ip_address(text).packed for text in ("203.0.113.2", "203.0.113.12", "2001:db8:5::2", "fd00:1::1")}
FORBIDDEN = Forbidden(PREFIXES, [LAN])

TEREDO = bytes.fromhex("20010000")
SERVER = IPv4Address("192.31.196.1").packed  # a Teredo server that may be dialled


def is_own(address: bytes) -> bool:
    return address in OWN


def _inverted(address: bytes) -> bytes:
    return bytes(octet ^ 0xFF for octet in address)


# Four octets in, the sixteen of an IPv6 address that embeds them out.
EMBEDDINGS: dict[str, Callable[[bytes], bytes]] = {
    **{str(prefix.network): prefix.embed_packed for prefix in PREFIXES},
    "well-known": lambda a: bytes.fromhex("0064ff9b") + bytes(8) + a,
    "mapped": lambda a: bytes(10) + b"\xff\xff" + a,
    "compatible": lambda a: bytes(12) + a,
    "translated": lambda a: bytes(8) + b"\xff\xff\0\0" + a,
    "6to4": lambda a: b"\x20\x02" + a + bytes(9) + b"\1",
    "teredo server": lambda a: TEREDO + a + bytes(4) + _inverted(SERVER),
    "teredo client": lambda a: TEREDO + SERVER + bytes(4) + _inverted(a),
}
embedding = st.sampled_from(sorted(EMBEDDINGS))
ipv4 = st.ip_addresses(v=4).map(lambda address: address.packed)
ipv6 = st.ip_addresses(v=6).map(lambda address: address.packed)


def _within(networks: Sequence[IPv4Network] | Sequence[IPv6Network]) -> st.SearchStrategy[bytes]:
    """Addresses of the networks, their first and last ones rather often."""

    def of(network: IPv4Network | IPv6Network) -> st.SearchStrategy[bytes]:
        ends = st.sampled_from([network[0].packed, network[-1].packed])
        return ends | st.ip_addresses(network=network).map(lambda address: address.packed)

    return st.one_of([of(network) for network in networks])


bad_ipv4 = _within(NEVER_DIALLED_IPV4 + METADATA_IPV4) | st.sampled_from(
    sorted(a for a in OWN if len(a) == 4)
)


def _is_bad(address: bytes) -> bool:
    """The same question asked of Python's library, which knows nothing of this module."""
    found = IPv4Address(address)
    return (
        found.is_loopback
        or found.is_link_local
        or found.is_multicast
        or found.is_reserved
        or found in IPv4Network("0.0.0.0/8")
        or any(found in network for network in METADATA_IPV4)
        or address in OWN
    )


@given(bad_ipv4, embedding)
def test_a_forbidden_ipv4_is_refused_in_every_form(address: bytes, form: str) -> None:
    assert FORBIDDEN.why(address, is_own)
    assert FORBIDDEN.why(EMBEDDINGS[form](address), is_own)


@given(ipv4, embedding)
def test_any_ipv4_is_judged_alike_in_every_form(address: bytes, form: str) -> None:
    assert bool(FORBIDDEN.why(address, is_own)) == _is_bad(address)
    assert bool(FORBIDDEN.why(EMBEDDINGS[form](address), is_own)) == _is_bad(address)


@given(ipv6)
def test_python_and_we_agree_on_ipv6(packed: bytes) -> None:
    found = IPv6Address(packed)
    bad = found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified
    if bad or found.is_site_local or found in LAN:
        assert FORBIDDEN.why(packed, is_own)


@given(_within((IPv6Network("2000::/16"), IPv6Network("2001:db8:6::/48"), IPv6Network("fd00:1:0:1::/64"))))
def test_other_ipv6_is_none_of_ours(address: bytes) -> None:
    assert FORBIDDEN.why(address, is_own) == ""


@given(_within((LAN,)) | _within(METADATA_IPV6) | st.sampled_from(sorted(a for a in OWN if len(a) == 16)))
def test_the_lan_metadata_and_the_box(address: bytes) -> None:
    assert FORBIDDEN.why(address, is_own)


@given(_within((IPv6Network("fd77::/64"),)))
def test_a_lan_that_only_the_moment_knows(address: bytes) -> None:
    assert not FORBIDDEN.why(address, is_own)
    assert FORBIDDEN.why(address, is_own, lan_networks([IPv6Network("fd77::/64")])) == "the LAN"


@given(st.binary(min_size=16, max_size=16) | ipv6)
def test_readings_are_addresses(address: bytes) -> None:
    readings = FORBIDDEN.readings(address)
    assert readings
    assert all(len(reading) in (4, 16) for reading in readings)
    assert sum(len(reading) == 16 for reading in readings) <= 1


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("255.255.255.255", "multicast or reserved"),
        ("169.254.169.254", "link-local"),
        ("168.63.129.16", "metadata"),
        ("203.0.113.12", "the box itself"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("fe80::1", "link-local"),
        ("ff02::1", "multicast"),
        ("fd00:ec2::254", "metadata"),
        ("fd00:1::77", "the LAN"),
        ("2001:db8:5::2", "the box itself"),
        ("64:ff9b:1::808:808", "a foreign translation prefix"),
        ("64:ff9b:1:7::8.8.8.8", ""),
        ("64:ff9b::169.254.169.254", "link-local"),
        ("64:ff9b::8.8.8.8", ""),
        ("fd50:1:2:3:ff08:808:800::", "no address of a translation prefix"),  # bits 64 to 71 are not zero
        ("2002:7f00:1::1", "loopback"),
        ("2002:cb00:7102::1", "the box itself"),
        ("2002:808:808::1", ""),
        ("10.0.0.1", ""),  # private: which way may carry it is another question
        ("192.31.196.80", ""),
        ("2001:db8::80", ""),
    ],
)
def test_known_addresses(address: str, reason: str) -> None:
    assert FORBIDDEN.why(ip_address(address).packed, is_own) == reason


def test_unmapped() -> None:
    assert unmapped(ip_address("::ffff:1.2.3.4").packed) == bytes((1, 2, 3, 4))
    assert unmapped(ip_address("::1").packed) == ip_address("::1").packed
    assert unmapped(bytes((1, 2, 3, 4))) == bytes((1, 2, 3, 4))
