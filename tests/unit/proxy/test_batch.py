"""Datagrams by the batch: both implementations over real sockets; the kernel judges what they send."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from appliance.proxy import batch as preferred
from tests.unit.proxy.plain import plain

SIZES = (0, 1, 2, 3, 64, 1472, 2047, 2048, 2049, 2051, 9_000)
ADDRESSES = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
OPTIONS = {
    socket.AF_INET: [(socket.IPPROTO_IP, 20)],  # IP_RECVORIGDSTADDR
    socket.AF_INET6: [(socket.IPPROTO_IPV6, 74), (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT)],
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets need root")


IMPLEMENTATIONS = {"plain": plain("batch"), "preferred": preferred}


@pytest.fixture(params=IMPLEMENTATIONS)
def module(request: pytest.FixtureRequest) -> Any:
    return IMPLEMENTATIONS[request.param]


class Ends:
    """A peer, and the socket that a batch is taken off."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.family = family
        self.peer, self.own = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (self.peer, self.own):
            sock.bind((ADDRESSES[family], 0))
            sock.settimeout(2)
        for level, option in OPTIONS[family]:
            self.own.setsockopt(level, option, 1)
        self.ports = [sock.getsockname()[1] for sock in (self.peer, self.own)]
        self.address = (IPv6Address if family == socket.AF_INET6 else IPv4Address)(ADDRESSES[family]).packed

    def send(self, *contents: bytes) -> None:
        for content in contents:
            self.peer.sendto(content, self.own.getsockname())


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    made = Ends(request.param)
    with made.peer, made.own:
        yield made


def test_what_is_known_of_a_datagram(module: Any, ends: Ends) -> None:
    batch = module.Batch(ends.family)
    contents = [os.urandom(size) for size in SIZES[:5]]
    ends.send(*contents)
    assert batch.receive(ends.own.fileno()) == len(contents)
    ports = struct.pack("!HH", *ends.ports)
    for number, content in enumerate(contents):
        assert batch.payload(number) == content
        assert batch.size(number) == len(content)
        assert batch.ends(number) == ends.address * 2 + ports
        assert batch.peer(number) == ends.address + ports[:2]
        assert batch.own_port(number) == ends.ports[1]
        assert batch.hop_limit(number) == (64 if ends.family == socket.AF_INET6 else 0)


def test_many_come_in_batches_and_none_is_an_errno(module: Any, ends: Ends) -> None:
    batch = module.Batch(ends.family)
    count = 3 * module.BATCH + 1
    ends.send(*(number.to_bytes(2, "big") for number in range(count)))
    seen = []
    while (taken := batch.receive(ends.own.fileno())) > 0:
        assert taken <= module.BATCH
        seen += [int.from_bytes(batch.payload(number), "big") for number in range(taken)]
    assert taken == -errno.EAGAIN
    assert seen == list(range(count))


def test_the_sizes_of_large_datagrams(module: Any, ends: Ends) -> None:
    batch = module.Batch(ends.family)
    for size in (*SIZES, 65_507, 1):
        content = os.urandom(size)
        ends.send(content)
        assert batch.receive(ends.own.fileno()) == 1
        assert batch.payload(0) == content


@needs_root
def test_what_is_sent_on_passes_the_kernels_checks(module: Any, ends: Ends) -> None:
    """To who sent it: the kernel drops a packet whose checksum or length is wrong."""
    batch = module.Batch(ends.family)
    raw = socket.socket(ends.family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        for size in SIZES:
            content = os.urandom(size)
            ends.send(content)
            assert batch.receive(ends.own.fileno()) == 1
            if ends.family == socket.AF_INET:
                back = ends.address * 2 + struct.pack("!HH", ends.ports[1], ends.ports[0])
                batch.to_origin(0, back, 7)
            else:
                batch.to_client(0, batch.ends(0))
            assert batch.flush(raw.fileno()) == 0
            data, sender = ends.peer.recvfrom(70_000)
            assert data == content
            assert sender[:2] == (ADDRESSES[ends.family], ends.ports[1])


@needs_root
def test_the_ttl_is_the_callers(module: Any) -> None:
    made = Ends(socket.AF_INET)
    with made.peer, made.own, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        made.peer.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        batch = module.Batch(socket.AF_INET)
        made.send(b"x")
        assert batch.receive(made.own.fileno()) == 1
        batch.to_origin(0, made.address * 2 + struct.pack("!HH", made.ports[1], made.ports[0]), 3)
        assert batch.flush(raw.fileno()) == 0
        _data, control, _flags, _sender = made.peer.recvmsg(10, 100)
        assert [int.from_bytes(value, "little") for _level, _kind, value in control] == [3]


@needs_root
def test_what_cannot_be_sent_is_named_and_the_others_leave(module: Any) -> None:
    """The second of three goes where no route leads."""
    made = Ends(socket.AF_INET)
    with made.peer, made.own, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        batch = module.Batch(socket.AF_INET)
        made.send(b"0", b"1", b"2")
        assert batch.receive(made.own.fileno()) == 3
        ports = struct.pack("!HH", made.ports[1], made.ports[0])
        nowhere = IPv4Address("255.255.255.255").packed  # EACCES without SO_BROADCAST, or ENETUNREACH
        for number in range(3):
            target = nowhere if number == 1 else made.address
            batch.to_origin(number, made.address + target + ports, 64)
        assert batch.flush(raw.fileno()) == 1
        ((number, code),) = batch.failures()
        assert number == 1
        assert code in (errno.EACCES, errno.ENETUNREACH)
        assert [made.peer.recv(10) for _ in range(2)] == [b"0", b"2"]
        assert batch.flush(raw.fileno()) == 0


def test_a_whole_packet_that_cannot_be_sent_is_an_errno(module: Any) -> None:
    assert module.send_packet(2**20, bytes(16), bytes(48)) == -errno.EBADF
