"""Packets: checksums against a plain sum, and the answers a client gets."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol import packet as wire

CLIENT = IPv6Address("fd00::2").packed
SERVER = IPv6Address("64:ff9b::c01f:c450").packed

addresses = st.binary(min_size=16, max_size=16)


def plain_checksum(source: bytes, target: bytes, protocol: int, payload: bytes) -> int:
    """RFC 1071 word by word, as the reference."""
    data = source + target + len(payload).to_bytes(4, "big") + bytes((0, 0, 0, protocol)) + payload
    if len(data) % 2:
        data += b"\0"
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@given(addresses, addresses, st.sampled_from([6, 17, 58]), st.binary(max_size=300))
def test_checksum_is_the_plain_sum(source: bytes, target: bytes, protocol: int, payload: bytes) -> None:
    found = wire.checksum(source, target, protocol, payload)
    assert found % 0xFFFF == plain_checksum(source, target, protocol, payload) % 0xFFFF
    assert found != 0


@given(st.binary(max_size=1600), st.integers(0, 65535), st.integers(0, 65535))
def test_udp_packets_hold_and_a_flipped_bit_does_not(payload: bytes, from_port: int, to_port: int) -> None:
    ports = from_port.to_bytes(2, "big") + to_port.to_bytes(2, "big")
    packet = wire.udp(SERVER, CLIENT, ports, payload)
    assert wire.checksum_holds(packet)
    assert packet[48:] == payload
    assert not wire.checksum_holds(packet[:41] + bytes((packet[41] ^ 1,)) + packet[42:])


def test_reset_answers_the_syn() -> None:
    segment = b"\x30\x39\x00\x50" + b"\xff\xff\xff\xff" + b"\0" * 4 + b"\x50\x02\xff\xff\0\0\0\0"
    reset = wire.tcp_reset(wire.header(CLIENT, SERVER, wire.TCP, len(segment)) + segment)
    assert wire.checksum_holds(reset)
    assert reset[8:24] == SERVER
    assert reset[24:40] == CLIENT
    assert reset[40:44] == b"\x00\x50\x30\x39"
    assert reset[48:52] == b"\0\0\0\0"  # acknowledges sequence + 1, modulo 2**32
    assert reset[53] == 0x14


@given(st.binary(min_size=40, max_size=3000))
def test_errors_quote_within_the_least_mtu(offending: bytes) -> None:
    error = wire.icmpv6_error(SERVER, 1, 3, offending)
    assert wire.checksum_holds(error)
    assert len(error) <= wire.MIN_MTU
    assert offending.startswith(error[48:])


@given(st.integers(0, 9000))
def test_fragments_put_together_are_the_packet(size: int) -> None:
    packet = wire.udp(SERVER, CLIENT, b"\0\1\0\2", bytes(i & 0xFF for i in range(size)))
    pieces = wire.fragments(packet, 7, 1500)
    if len(packet) <= 1500:
        assert pieces == [packet]
        return
    body = bytearray(len(packet) - 40)
    for number, piece in enumerate(pieces):
        assert len(piece) <= wire.MIN_MTU
        assert piece[6] == 44
        assert piece[40] == wire.UDP
        field = int.from_bytes(piece[42:44], "big")
        offset, more = field & ~7, field & 1
        assert bool(more) == (number < len(pieces) - 1)
        body[offset : offset + len(piece) - 48] = piece[48:]
    assert bytes(body) == packet[40:]


def test_icmp_errors_as_icmpv6() -> None:
    assert wire.icmp_error_to_v6(3, 3, 0) == (1, 4, 0)
    assert wire.icmp_error_to_v6(3, 1, 0) == (1, 3, 0)
    assert wire.icmp_error_to_v6(3, 13, 0) == (1, 1, 0)
    assert wire.icmp_error_to_v6(3, 4, 905) == (2, 0, 1280)
    assert wire.icmp_error_to_v6(3, 4, 1400) == (2, 0, 1420)
    assert wire.icmp_error_to_v6(11, 0, 0) == (3, 0, 0)
    assert wire.icmp_error_to_v6(12, 0, 0) is None


@given(st.binary(max_size=1600), st.integers(1, 255))
def test_udp_over_ipv4_bears_the_right_checksum(payload: bytes, ttl: int) -> None:
    ends = b"\xc0\0\2\1\xc6\x33\x64\1\x30\x39\0\x35"
    packet = wire.udp_v4(ends, payload, ttl)
    assert (packet[8], packet[12:24], packet[28:]) == (ttl, ends, payload)
    body = packet[20:]
    assert (wire.ones_sum(ends[:8]) + wire.ones_sum(body) + len(body) + wire.UDP) % 0xFFFF == 0
    assert packet[26:28] != b"\0\0"


@given(st.binary(min_size=1, max_size=6000), st.integers(68, 1500))
def test_fragments_of_ipv4_make_the_whole(payload: bytes, mtu: int) -> None:
    whole = wire.udp_v4(b"\xc0\0\2\1\xc6\x33\x64\1\x30\x39\0\x35", payload, 9)
    pieces = wire.fragments_v4(whole, 77, mtu)
    body = b""
    for piece in pieces:
        place = int.from_bytes(piece[6:8], "big")
        assert len(piece) <= mtu
        assert (place & 0x1FFF) * 8 == len(body)
        assert bool(place & 0x2000) == (piece is not pieces[-1])
        assert (piece[4:6], piece[8], piece[9], piece[12:20]) == (b"\0M", 9, wire.UDP, whole[12:20])
        body += piece[20:]
    assert body == whole[20:]
