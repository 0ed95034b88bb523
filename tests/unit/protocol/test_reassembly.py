"""Fragments of clients: whole again, or dropped; never a packet that nobody sent."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol import packet as wire
from appliance.protocol.reassembly import MAX_PACKETS, Reassembly

CLIENT = IPv6Address("fd00::2").packed
SERVER = IPv6Address("64:ff9b::c01f:c450").packed


def pieces(size: int, identification: int = 7) -> tuple[bytes, list[bytes]]:
    """A datagram, and the fragments of it."""
    whole = wire.udp(CLIENT, SERVER, b"\x11\x22\x33\x44", bytes(i & 0xFF for i in range(size)))
    return whole, wire.fragments(whole, identification, wire.MIN_MTU)


@given(st.lists(st.integers(1300, 60_000), min_size=1, max_size=4), st.randoms())
def test_packets_come_back_whole_however_they_are_mixed(sizes: list[int], random: object) -> None:
    queues = []
    wanted = []
    for number, size in enumerate(sizes):
        whole, parts = pieces(size, number)
        wanted.append(whole)
        queues.append(parts)
    reassembly = Reassembly()
    found = []
    while any(queues):
        queue = random.choice([q for q in queues if q])  # type: ignore[attr-defined]
        packet = reassembly.add(queue.pop(0))
        if packet is not None:
            found.append(packet)
    assert sorted(found) == sorted(wanted)
    assert reassembly.dropped == 0


def test_a_missing_piece_drops_the_packet() -> None:
    _whole, parts = pieces(5000)
    reassembly = Reassembly()
    assert [reassembly.add(part) for part in (parts[0], *parts[2:])] == [None] * (len(parts) - 1)
    assert reassembly.dropped == 1


def test_unfinished_packets_are_bounded() -> None:
    reassembly = Reassembly()
    for number in range(MAX_PACKETS + 10):
        assert reassembly.add(pieces(3000, number)[1][0]) is None
    assert reassembly.dropped == 10
    whole, parts = pieces(3000, MAX_PACKETS + 9)
    assert [reassembly.add(part) for part in parts[1:]][-1] == whole


@given(st.lists(st.binary(min_size=0, max_size=80).map(lambda b: b"\x60\0\0\0\0\0\x2c\x40" + b), max_size=30))
def test_rubbish_is_dropped(packets: list[bytes]) -> None:
    reassembly = Reassembly()
    for packet in packets:
        found = reassembly.add(packet)
        assert found is None or len(found) >= wire.IPV6_HEADER
