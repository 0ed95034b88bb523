"""The kernel's neighbour table: what its messages say, and how long it is believed."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.rules import Device
from appliance.session import neighbours
from appliance.session.neighbours import Neighbours

CARD = "02:00:5e:10:00:01"
ADDRESS = IPv6Address("fd00:1::2").packed


def entry(address: bytes, card: bytes, kind: int = 28) -> bytes:
    """A message of the kernel's (linux/neighbour.h)."""
    inner = struct.pack("=BBHiHBB", 10, 0, 0, 2, 4, 0, 1)
    for what, value in ((1, address), (2, card)):
        inner += (struct.pack("=HH", 4 + len(value), what) + value).ljust(4 + len(value) + 3 & ~3, b"\0")
    return struct.pack("=IHHII", 16 + len(inner), kind, 2, 1, 0) + inner


def test_entries_are_taken_up_to_the_end() -> None:
    found: dict[bytes, str] = {}
    card = bytes.fromhex(CARD.replace(":", ""))
    assert neighbours._take(entry(ADDRESS, card) * 2, found)
    assert not neighbours._take(entry(ADDRESS, card) + entry(b"", b"", kind=3), found)
    assert found == {ADDRESS: CARD}


@given(st.binary(max_size=200))
def test_rubbish_is_nobody(data: bytes) -> None:
    found: dict[bytes, str] = {}
    neighbours._take(data, found)
    assert all(len(address) == 16 for address in found)


class Table:
    """A table that is read as often as asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries: dict[bytes, str] = {}
        self.reads = 0
        self.asked: list[Any] = []
        monkeypatch.setattr(neighbours, "read_neighbours", self._read)
        monkeypatch.setattr(neighbours, "_make_the_kernel_ask", self.asked.append)

    def _read(self) -> dict[bytes, str]:
        self.reads += 1
        return self.entries


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    return Table(monkeypatch)


def known() -> Neighbours:
    return Neighbours([Device(name="tablet", macs=(CARD,))])


def test_a_card_is_believed_for_a_while(table: Table) -> None:
    devices = known()
    table.entries[ADDRESS] = CARD
    assert devices.device_of(ADDRESS, 100.0) == "tablet"
    assert devices.device_of(ADDRESS, 101.0) == "tablet"
    assert table.reads == 1
    table.entries[ADDRESS] = "02:00:5e:10:00:02"
    assert devices.device_of(ADDRESS, 100.0 + neighbours.BELIEVED_FOR) == ""


def test_who_is_not_there_is_looked_for_again_but_not_without_end(table: Table) -> None:
    devices = known()
    for number in range(100):
        address = IPv6Address(number).packed
        assert devices.device_of(address, 100.0) == ""
    assert table.reads == neighbours.MAX_LOOKS_PER_SECOND
    table.entries[ADDRESS] = CARD
    assert devices.device_of(ADDRESS, 101.0) == "tablet"


def test_the_kernel_is_made_to_ask_once(table: Table) -> None:
    devices = known()
    assert devices.asked_for(ADDRESS, 100.0)
    assert devices.asked_for(ADDRESS, 100.01)
    assert table.asked == [ADDRESS]
    table.entries[ADDRESS] = CARD
    assert not devices.asked_for(ADDRESS, 100.02)
    assert devices.device_of(ADDRESS, 100.02) == "tablet"


def test_a_host_that_does_not_answer_waits_only_a_moment(table: Table) -> None:
    devices = known()
    assert devices.asked_for(ADDRESS, 100.0)
    assert not devices.asked_for(ADDRESS, 100.0 + 2 * neighbours.PATIENCE)


def test_without_devices_nobody_looks(table: Table) -> None:
    devices = Neighbours(())
    assert devices.device_of(ADDRESS, 100.0) == ""
    assert not devices.asked_for(ADDRESS, 100.0)
    assert table.reads == 0
