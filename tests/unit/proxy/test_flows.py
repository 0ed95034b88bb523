"""Flows of datagrams: one that ends within a batch, one that two workers have, one of an unknown device."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from typing import Any

import pytest

from appliance.session import neighbours
from tests.unit.protocol.quic import crypto, initial
from tests.unit.protocol.test_sniff import client_hello
from tests.unit.proxy.plain import plain
from tests.unit.proxy.simulation import Kernel, World

CLIENT = ip_address("fd00::7").packed
Datagrams = plain("datagram").Datagrams
CARD = "02:00:5e:10:00:01"
WAN_MTU = 1_500


class Exits:
    """One way out."""

    def exit(self, _way: object, _client: bytes) -> int:
        return 9

    def source(self, *_words: object) -> bytes:
        return b"\xc0\0\2\1"

    def mtu(self, *_words: object) -> int:
        return WAN_MTU


class Batch:
    """What clients have sent: (key, octets) each. The kernel says EMSGSIZE to what is over the WAN's MTU."""

    def __init__(self, got: list[tuple[bytes, bytes]]) -> None:
        self.got = got
        self.queued: list[int] = []
        self.sent: list[int] = []
        self._failed: list[tuple[int, int]] = []

    def receive(self, _fd: int) -> int:
        return len(self.got)

    def hop_limit(self, _number: int) -> int:
        return 64

    def ends(self, number: int) -> bytes:
        return self.got[number][0]

    def size(self, number: int) -> int:
        return len(self.got[number][1])

    def payload(self, number: int) -> bytes:
        return self.got[number][1]

    def to_origin(self, number: int, _ends: bytes, _ttl: int) -> None:
        self.queued.append(number)

    def flush(self, _fd: int) -> int:
        self._failed = [
            (number, errno.EMSGSIZE) for number in self.queued if self.size(number) > WAN_MTU - 28
        ]
        self.sent += [number for number in self.queued if self.size(number) <= WAN_MTU - 28]
        self.queued = []
        return len(self._failed)

    def failures(self) -> list[tuple[int, int]]:
        return self._failed


def datagrams(config: dict[str, Any], *got: tuple[bytes, bytes]) -> tuple[Any, World, Batch]:
    """The UDP part of a worker without its sockets."""
    world, batch = World(Kernel(), config), Batch(list(got))
    made = Datagrams.__new__(Datagrams)
    for name, value in {
        "_context": world, "_from_clients": -1, "_asked": batch, "_exits": Exits(), "_flows": {},
        "_bindings": {}, "_by_port": {}, "_ports": range(1_024, 2_000), "_lifetime": 300, "_random": b"",
        "_drawn": 0,
    }.items():  # fmt: skip
        setattr(made, name, value)
    return made, world, batch


def key(port: int) -> bytes:
    """Client, server, and the ports."""
    server = ip_address("64:ff9b::808:808").packed
    return CLIENT + server + (4_000).to_bytes(2, "big") + port.to_bytes(2, "big")


def test_a_flow_that_its_second_datagram_ends_before_the_first_is_sent() -> None:
    """A first datagram over the WAN's MTU has to be cut, which is found out at the end of the batch."""
    hello = client_hello("blocked.example")[5:]
    first, second = (
        initial(crypto(0, hello[:20]) + bytes(1_500)),
        initial(crypto(20, hello[20:]) + bytes(900), 1),
    )
    rules = {"rule": [{"name": "no", "action": "deny", "domains": ["blocked.example"]}]}
    made, world, batch = datagrams(rules, (key(443), first), (key(443), second))
    made.on_event(1)
    assert not world.sessions and not made._flows
    assert world.counters.denied == 1 and not batch.sent


def test_a_flow_that_the_worker_before_had_too() -> None:
    """With fewer workers the firewall sends a client here before its flow is handed over."""
    made, world, _batch = datagrams({}, (key(9_000), b"x"))
    made.on_event(1)
    (session,) = world.sessions.values()
    entry = {"key": key(9_000).hex(), "port": 1_500, "last": world.now, "waits": None, "started": world.now}
    made.adopt(entry)
    assert list(world.sessions.values()) == [session]
    for _ in range(700):
        world.now += 1
        world.timers.advance(int(world.now))
    assert not world.sessions and not made._flows and not made._bindings and not world.by_client


def test_the_first_datagram_of_a_device_that_is_not_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until that is known: a verdict on nobody's would hold for the flow's life."""
    table: dict[bytes, str] = {}
    monkeypatch.setattr(neighbours, "read_neighbours", lambda: dict(table))
    monkeypatch.setattr(neighbours, "_make_the_kernel_ask", lambda client: table.__setitem__(client, CARD))
    config = {
        "device": [{"name": "kid", "macs": [CARD]}],
        "rule": [{"name": "no-kid", "action": "deny", "devices": ["kid"]}],
    }
    made, world, _batch = datagrams(config, (key(9_000), b"x"))
    made.on_event(1)
    assert not world.sessions and not world.counters.denied
    assert world._put_off == 1
    world.run(0.1)
    denied: int = world.counters.denied
    assert not world.sessions and (world._put_off, denied) == (0, 1)
