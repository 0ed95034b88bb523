"""The system calls: both implementations over real sockets give the same answers."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from appliance import engine
from appliance.proxy import kernel as preferred
from tests.unit.proxy.plain import plain

IN, OUT = select.EPOLLIN, select.EPOLLOUT


IMPLEMENTATIONS = {"plain": plain("kernel"), "preferred": preferred}


@pytest.fixture(params=IMPLEMENTATIONS)
def kernel(request: pytest.FixtureRequest) -> Any:
    return IMPLEMENTATIONS[request.param].Kernel(4096)


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest, kernel: Any) -> Iterator[tuple[int, tuple[str, int]]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    sock = socket.create_server((request.param, 0), family=family)
    sock.setblocking(False)
    name = sock.getsockname()[:2]
    fd = sock.detach()
    kernel.adopt(fd)
    yield fd, name
    kernel.close(fd)


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def wait_for(kernel: Any, fd: int, events: int) -> int:
    """What ``wait`` says of ``fd``; it is watched for this question only."""
    assert kernel.watch(fd, events) == 0
    assert kernel.wait(5.0) == 1
    assert kernel.event_fd(0) == fd
    mask = int(kernel.event_mask(0))
    assert kernel.ignore(fd) == 0
    return mask


def pair(kernel: Any, listener: tuple[int, tuple[str, int]]) -> tuple[int, int]:
    """A dialled socket and the accepted one."""
    fd, (address, port) = listener
    dialled = kernel.dial(packed(address), port, b"", b"")
    assert dialled >= 0
    wait_for(kernel, fd, IN)
    accepted = kernel.accept(fd)
    assert accepted >= 0
    return dialled, accepted


def test_a_session(kernel: Any, listener: tuple[int, tuple[str, int]]) -> None:
    assert kernel.accept(listener[0]) == -errno.EAGAIN
    dialled, accepted = pair(kernel, listener)
    client, server = kernel.endpoints[:16], kernel.endpoints[16:32]
    address = packed(listener[1][0])
    assert client == server == (address if len(address) == 16 else bytes(10) + b"\xff\xff" + address)
    assert int.from_bytes(kernel.endpoints[34:36], "big") == listener[1][1]
    with socket.socket(fileno=os.dup(dialled)) as sock:
        assert int.from_bytes(kernel.endpoints[32:34], "big") == sock.getsockname()[1]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
        assert not os.get_inheritable(accepted)
        assert not os.get_blocking(accepted)

    assert kernel.receive(accepted) == -errno.EAGAIN
    assert kernel.send(dialled, b"question") == 8
    assert wait_for(kernel, accepted, IN) & IN
    assert kernel.receive(accepted) == 8
    assert kernel.received(2, 8) == b"estion"
    assert kernel.forward(accepted, 8) == 8
    wait_for(kernel, dialled, IN)
    assert kernel.receive(dialled) == 8
    assert kernel.received(0, 8) == b"question"

    assert kernel.half_close(dialled) == 0
    wait_for(kernel, accepted, IN)
    assert kernel.receive(accepted) == 0
    assert kernel.send(dialled, b"x") == -errno.EPIPE
    kernel.close(dialled)
    kernel.close(accepted)


def test_a_reset_is_told(kernel: Any, listener: tuple[int, tuple[str, int]]) -> None:
    dialled, accepted = pair(kernel, listener)
    kernel.reset_on_close(accepted)
    kernel.close(accepted)
    wait_for(kernel, dialled, IN)
    assert kernel.receive(dialled) == -errno.ECONNRESET
    assert kernel.half_close(dialled) == -errno.ENOTCONN
    kernel.close(dialled)


def test_a_refused_dial(kernel: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    fd = kernel.dial(packed("127.0.0.1"), port, b"", b"")
    if fd >= 0:
        wait_for(kernel, fd, OUT)
        assert kernel.error_of(fd) == errno.ECONNREFUSED
        assert kernel.error_of(fd) == 0  # read once
        kernel.close(fd)
    else:
        assert fd == -errno.ECONNREFUSED


def test_a_dial_from_an_address_and_a_device(kernel: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        fd = kernel.dial(packed("127.0.0.1"), sock.getsockname()[1], b"lo", packed("127.9.8.7"))
        assert fd >= 0
        accepted, (peer, _port) = sock.accept()
        accepted.close()
        assert peer == "127.9.8.7"
        kernel.close(fd)
    assert kernel.dial(packed("127.0.0.1"), 9, b"nothere", b"") == -errno.ENODEV
    assert kernel.dial(packed("127.0.0.1"), 9, b"", packed("192.0.2.1")) == -errno.EADDRNOTAVAIL


def test_splice_by_a_pipe(kernel: Any, listener: tuple[int, tuple[str, int]]) -> None:
    dialled, accepted = pair(kernel, listener)
    assert kernel.open_pipe(1 << 16) == 0
    from_pipe, into_pipe = kernel.pipe_ends
    assert kernel.splice(accepted, into_pipe, 100) == -errno.EAGAIN
    assert kernel.send(dialled, b"through a pipe") == 14
    wait_for(kernel, accepted, IN)
    assert kernel.splice(accepted, into_pipe, 100) == 14
    assert kernel.splice(from_pipe, accepted, 14) == 14
    wait_for(kernel, dialled, IN)
    assert kernel.receive(dialled) == 14
    assert kernel.received(0, 14) == b"through a pipe"
    kernel.half_close(dialled)
    wait_for(kernel, accepted, IN)
    assert kernel.splice(accepted, into_pipe, 100) == 0
    for fd in (from_pipe, into_pipe, dialled, accepted):
        kernel.close(fd)


def test_packets(kernel: Any) -> None:
    """A TUN is a file of packets, as a datagram socket is."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        near.setblocking(False)
        assert kernel.read_packet(near.fileno()) == -errno.EAGAIN
        far.send(b"packet one")
        far.send(b"two")
        assert kernel.read_packet(near.fileno()) == b"packet one"
        assert kernel.read_packet(near.fileno()) == b"two"
        assert kernel.write_packet(near.fileno(), b"answer") == 6
        assert far.recv(100) == b"answer"
        far.close()
        assert kernel.write_packet(near.fileno(), b"nobody") == -errno.EPIPE


def test_the_clock_and_time_outs(kernel: Any) -> None:
    before = kernel.now
    assert kernel.wait(0.02) == 0
    assert kernel.now - before >= 0.015
    assert kernel.wait(-1.0) == 0  # a time that has passed


def test_what_is_not_there(kernel: Any) -> None:
    assert kernel.watch(9_999, IN) == -errno.EBADF
    assert kernel.ignore(9_999) < 0


def test_the_compiled_engine_runs_where_it_is_not_forbidden() -> None:
    """make setup compiles it; a test run over stale or missing modules would test the wrong thing."""
    if os.environ.get("ISTHMUS_ENGINE") == "plain":
        assert engine.describe() == "plain (ISTHMUS_ENGINE=plain)"
        assert str(preferred.__file__).endswith(".py")
    else:
        assert engine.describe() == "compiled"
        assert not str(preferred.__file__).endswith(".py")
