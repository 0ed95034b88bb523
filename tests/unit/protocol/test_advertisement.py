"""Other routers' advertisements: what is read of them, and what is discarded."""

from __future__ import annotations

import struct
from ipaddress import IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol.advertisement import (
    MAX_PREFIXES,
    Advertisement,
    Head,
    of_mtu,
    parse,
    solicits,
)

MAC = b"\x01\x01" + bytes.fromhex("02aabbccddee")


def prefix(text: str, valid: int = 86_400) -> bytes:
    network = IPv6Network(text)
    head = struct.pack("!BBBBIII", 3, 4, network.prefixlen, 0xC0, valid, valid, 0)
    return head + network.network_address.packed


def message(*options: bytes, lifetime: int = 1_800) -> bytes:
    return struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0) + b"".join(options)


def test_router_card_and_prefixes() -> None:
    found = parse(message(MAC, prefix("2001:db8:bad::/64"), b"\x05\x01" + bytes(6)))
    assert found == Advertisement(1_800, "02:aa:bb:cc:dd:ee", (IPv6Network("2001:db8:bad::/64"),))


def test_a_prefix_that_ends_is_none() -> None:
    assert parse(message(prefix("fd00::/64", valid=0), lifetime=0)) == Advertisement(0, "", ())


def test_many_prefixes_are_some() -> None:
    found = parse(message(*(prefix(f"fd00:{n:x}::/64") for n in range(40))))
    assert found is not None and len(found.prefixes) == MAX_PREFIXES


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        message()[:15],
        b"\x85" + message()[1:],
        b"\x86\x01" + message()[2:],
        message(b"\x01"),
        message(b"\x01\x00" + bytes(6)),
        message(MAC[:-1]),
    ],
)
def test_what_is_discarded(wrong: bytes) -> None:
    assert parse(wrong) is None


@given(st.binary(max_size=400))
def test_any_octets_are_read_or_discarded(data: bytes) -> None:
    for candidate in (data, message(data)):
        found = parse(candidate)
        assert found is None or len(found.prefixes) <= MAX_PREFIXES


def test_an_mtu_is_told_with_the_head_of_the_other_advertisements() -> None:
    told = of_mtu(Head(1_800, managed=True, other=False, preference="low"), 1_400)
    assert told == bytes.fromhex("8600 0000 00 98 0708 00000000 00000000" + "05 01 0000 00000578")
    assert of_mtu(Head(0, managed=False, other=True, preference="high"), 1_280)[5] == 0x48
    assert parse(told) == Advertisement(1_800, "", ())


def test_a_solicitation_is_told_from_other_messages() -> None:
    assert solicits(bytes((133, 0)) + bytes(6))
    for wrong in (b"", bytes((133, 0)) + bytes(5), bytes((133, 1)) + bytes(6), message()):
        assert not solicits(wrong)
