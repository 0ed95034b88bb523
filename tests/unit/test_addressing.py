"""RFC 6052: the table of section 2.4, and round trips for every prefix length."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.addressing import PREFIX_LENGTHS, TranslationPrefix, is_global_ipv4, is_never_dialled

# RFC 6052 section 2.4, table 1: 192.0.2.33 under each length.
TABLE = {
    "2001:db8::/32": "2001:db8:c000:221::",
    "2001:db8:100::/40": "2001:db8:1c0:2:21::",
    "2001:db8:122::/48": "2001:db8:122:c000:2:2100::",
    "2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
    "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
    "2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
}


@pytest.mark.parametrize(("prefix", "address"), TABLE.items())
def test_the_rfcs_table(prefix: str, address: str) -> None:
    compiled = TranslationPrefix.parse(prefix)
    assert compiled.embed(IPv4Address("192.0.2.33")) == IPv6Address(address)
    assert compiled.extract(IPv6Address(address)) == IPv4Address("192.0.2.33")


@given(
    st.sampled_from(PREFIX_LENGTHS), st.binary(min_size=16, max_size=16), st.binary(min_size=4, max_size=4)
)
def test_round_trip(length: int, head: bytes, ipv4: bytes) -> None:
    base = bytearray(head)
    base[8] = 0
    network = IPv6Network((bytes(base), length), strict=False)
    prefix = TranslationPrefix(network)
    embedded = prefix.embed_packed(ipv4)
    assert embedded[8] == 0
    assert prefix.extract_packed(embedded) == ipv4
    assert IPv6Address(embedded) in network


def test_outside_the_prefix_and_bits_64_to_71() -> None:
    prefix = TranslationPrefix.parse("2001:db8:122:344::/64")
    assert prefix.extract(IPv6Address("2001:db8:122:345::1")) is None
    assert prefix.extract(IPv6Address("2001:db8:122:344:ffc0:2:2100::")) is None


@pytest.mark.parametrize("text", ["64:ff9b::/95", "64:ff9b::1/96", "2001:db8:0:0:100::/96", "nonsense"])
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TranslationPrefix.parse(text)


@pytest.mark.parametrize(
    ("address", "is_global"),
    [
        ("192.31.196.80", True),
        ("192.0.0.9", True),
        ("192.0.0.8", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("172.32.0.1", True),
        ("198.51.100.2", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
    ],
)
def test_global(address: str, is_global: bool) -> None:
    assert is_global_ipv4(IPv4Address(address)) is is_global


def test_what_a_prefix_may_carry() -> None:
    well_known = TranslationPrefix.parse("64:ff9b::/96")
    own = TranslationPrefix.parse("64:ff9b:1::/48")
    private, metadata = IPv4Address("10.0.0.1"), IPv4Address("169.254.169.254")
    assert (well_known.may_carry(private), own.may_carry(private)) == (False, True)
    assert (well_known.may_carry(metadata), own.may_carry(metadata)) == (False, False)
    assert is_never_dialled(IPv4Address("127.0.0.53"))
