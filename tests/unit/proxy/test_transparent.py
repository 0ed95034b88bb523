"""Clients that wait for their origin: no order of SYNs, handshakes and resets ends the worker."""

from __future__ import annotations

import errno
import json
import os
import socket
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.proxy.relay import Pipes, RelayContext
from appliance.proxy.transparent import ACCEPT_TIMEOUT, MAX_SYN
from appliance.proxy.worker import MAX_HEIRLOOM, Worker
from tests.unit.proxy import simulation
from tests.unit.proxy.plain import plain
from tests.unit.proxy.simulation import World

ORIGIN = "8.8.8.8"
Transparent = plain("transparent").Transparent


class Kernel(simulation.Kernel):
    """With a listener; ``came``: the four-tuples of the connections that wait to be accepted."""

    def __init__(self, hosts: dict[str, tuple[float, int]]) -> None:
        super().__init__(hosts)
        self.came: list[bytes] = []

    def accept(self, listener: int) -> int:
        if not self.came:
            return -errno.EAGAIN
        self.endpoints = self.came.pop(0)
        self._fd += 1
        self.open[self._fd] = "client"
        return self._fd

    def adopt(self, fd: int) -> None:
        self.open[fd] = "adopted"


class Bench:
    """The TCP part of a worker. ``paired``: how many clients have met their origin."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fate: tuple[float, int], config: dict[str, Any] | None = None
    ) -> None:
        self.kernel = Kernel({ORIGIN: fate})
        self.world = World(self.kernel, config)
        self.tcp = Transparent(self.world, RelayContext(self.world, Pipes(self.kernel, 1)), -1)
        self.tcp.configure()
        self.paired = 0

        def pair(held: Any, fd: int) -> None:
            self.tcp._forget(held)
            self.world.drop(held.session)
            self.paired += 1

        monkeypatch.setattr(self.tcp, "_pair", pair, raising=False)
        monkeypatch.setattr(self.world, "write", lambda _packet: None)

    def accepted(self, key: bytes) -> None:
        """A handshake of the four-tuple is done."""
        self.kernel.came.append(key)
        self.tcp.on_event(1)


def syn(port: int = 5_000, data: bytes = b"") -> bytes:
    """A client's first packet."""
    ends = ip_address("fd00::7").packed + ip_address("64:ff9b::808:808").packed
    tcp = port.to_bytes(2, "big") + (80).to_bytes(2, "big") + bytes(8) + b"\x50\x02" + bytes(6) + data
    return b"\x60\0\0\0" + len(tcp).to_bytes(2, "big") + b"\x06\x40" + ends + tcp


KEY = syn()[8:44]


def test_a_client_that_resets_and_comes_again_from_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted first: the dial for the connection that it reset is given up."""
    bench = Bench(monkeypatch, (3.0, 0))
    bench.accepted(KEY)
    bench.world.run(1.0)
    bench.accepted(KEY)
    assert (len(bench.tcp.dialling), len(bench.world.sessions)) == (1, 1)
    bench.world.run(5.0)
    assert (bench.paired, len(bench.tcp.dialling), len(bench.world.sessions)) == (1, 0, 0)
    assert not bench.tcp._half_open


def test_a_handshake_that_is_done_after_its_syn_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client answers an old SYN-ACK while a new SYN of its is held."""
    bench = Bench(monkeypatch, (0.1, 0))
    bench.tcp.on_syn(syn())
    bench.world.run(1.0)
    assert len(bench.tcp.released) == 1
    bench.world.run(ACCEPT_TIMEOUT + 1.0)
    bench.tcp.every_second()
    assert not bench.tcp.released
    bench.kernel.hosts[ip_address(ORIGIN).packed] = (3.0, 0)
    bench.tcp.on_syn(syn())
    bench.accepted(KEY)
    bench.world.run(5.0)
    assert (bench.paired, len(bench.tcp.dialling), len(bench.world.sessions)) == (1, 0, 0)


def test_a_held_syn_that_comes_twice_from_the_worker_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client has sent the SYN again meanwhile, and this worker holds it already."""
    before, after = Bench(monkeypatch, (float("inf"), 0)), Bench(monkeypatch, (float("inf"), 0))
    before.tcp.on_syn(syn())
    after.tcp.on_syn(syn())
    ((entry, _fd),) = list(before.tcp.hand_over())
    after.tcp.adopt(entry, 700)
    assert (len(after.tcp.dialling), len(after.world.sessions)) == (1, 1)
    assert after.kernel.closed == ["adopted"]


@pytest.mark.parametrize(("size", "held"), [(0, True), (1_400, True), (MAX_SYN - 60, True), (2_500, False)])
def test_the_data_of_a_syn_is_handed_over_whole(
    monkeypatch: pytest.MonkeyPatch, size: int, held: bool
) -> None:
    """One with more than a packet holds is malformed: it would be cut off on its way to another worker."""
    bench = Bench(monkeypatch, (float("inf"), 0))
    bench.tcp.on_syn(syn(data=bytes(size)))
    assert len(bench.tcp.dialling) == held
    assert bench.world.counters.malformed == (not held)
    for entry, _fd in bench.tcp.hand_over():
        assert len(json.dumps(entry)) < MAX_HEIRLOOM


def test_what_was_cut_off_costs_nothing_else() -> None:
    """A message that nobody can read does not end the worker that takes over."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    for data in (b'{"kind": "held", "syn": "' + b"0" * 2 * MAX_HEIRLOOM + b'"}', b'{"kind": "held"}'):
        socket.send_fds(theirs, [data], [reading])
    theirs.close()
    taken: list[dict[str, Any]] = []
    worker = SimpleNamespace(
        transparent=SimpleNamespace(adopt=lambda entry, fd: taken.append({**entry, "fd": fd}))
    )
    Worker._adopt_all(cast(Worker, worker), ours)
    assert [entry["kind"] for entry in taken] == ["held"]
    for fd in (reading, writing, taken[0]["fd"]):
        os.close(fd)
