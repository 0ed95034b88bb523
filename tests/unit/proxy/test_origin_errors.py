"""ICMP errors about datagrams: what is read of them, and that rubbish is not."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.addressing import TranslationPrefix
from appliance.protocol import packet as wire
from appliance.proxy.origin_errors import OriginError, parse_error

OWN, ORIGIN, ROUTER = (IPv4Address(a).packed for a in ("203.0.113.2", "192.31.196.80", "193.0.0.1"))
SERVER = bytes(16)


def error(kind: int, code: int, offender: bytes, quoted: bytes, mtu: int = 0) -> bytes:
    """An ICMP error as a raw socket gives it."""
    body = bytes((kind, code, 0, 0, 0, 0)) + mtu.to_bytes(2, "big") + quoted
    total = 0xFFFF - wire.ones_sum(body)
    body = body[:2] + total.to_bytes(2, "big") + body[4:]
    return b"\x45\0" + bytes(7) + b"\x01\0\0" + offender + OWN + body


def sent(payload: bytes = b"question") -> bytes:
    return wire.udp_v4(OWN + ORIGIN + b"\x30\x39\0\x35", payload, 64)


def test_a_closed_port() -> None:
    found = parse_error(error(3, 3, ORIGIN, sent()))
    assert found == (OWN + b"\x30\x39", OriginError(ORIGIN + b"\0\x35", b"question", (1, 4, 0), ORIGIN))


def test_a_hop_is_shown_by_the_address_that_stands_for_it() -> None:
    found = parse_error(error(11, 0, ROUTER, sent()))
    assert found is not None
    prefix = TranslationPrefix.parse("64:ff9b::/96")
    assert found[1].source(prefix, SERVER) == prefix.embed_packed(ROUTER)
    private = parse_error(error(11, 0, IPv4Address("10.0.0.1").packed, sent()))
    assert private is not None
    assert private[1].source(prefix, SERVER) is None, "a private hop is not shown by the well-known prefix"


def test_what_the_box_itself_says_is_the_servers() -> None:
    found = parse_error(error(3, 1, OWN, sent()))
    assert found is not None
    assert found[1].offender == b""
    assert found[1].source(TranslationPrefix.parse("64:ff9b::/96"), SERVER) == SERVER


@pytest.mark.parametrize("place", [20, 21, 24, 30, 50])
def test_a_wrong_checksum_is_not_believed(place: int) -> None:
    packet = bytearray(error(3, 3, ORIGIN, sent()))
    packet[place] ^= 1
    assert parse_error(bytes(packet)) is None


def test_errors_about_tcp_are_others() -> None:
    quoted = bytearray(sent())
    quoted[9] = wire.TCP
    assert parse_error(error(3, 3, ORIGIN, bytes(quoted))) is None


@given(st.binary(max_size=80), st.integers(0, 80))
def test_rubbish_and_cut_errors_are_refused(data: bytes, length: int) -> None:
    assert parse_error(b"\x45" + bytes(19) + data) is None or len(data) >= 36
    parse_error(error(3, 3, ORIGIN, sent())[: 20 + length])
