"""The kernel itself runs out: of memory for sockets, of files in the whole system, of room in its tables.

strace makes the workers' system calls fail as they would then. New work may fail meanwhile; what lives goes
on, and within five seconds after it all is well again, by the same workers.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.netns.conftest import SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import NAME, running
from tests.netns.hosts import connect, status, udp_socket

pytestmark = [pytest.mark.netns, needs_root]

ECHO, UDP_ECHO = 7004, 7101
RECOVERY = 5.0  # seconds
PATIENCE = 2.0
# What no call that moves the octets of a session is among.
MAKING = ("socket", "connect", "accept4", "epoll_ctl", "setsockopt", "getsockopt", "pipe2", "bind")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with the explicit proxy."""
    with running(tmp_path_factory.mktemp("faults")) as box:
        yield box


def workers(box: Box) -> list[int]:
    """Their process ids."""
    return [int(one["pid"]) for one in status(box)["workers"]]


@contextlib.contextmanager
def failing(pids: list[int], calls: str, error: str) -> Iterator[None]:
    """These system calls of the processes fail meanwhile."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null",
         "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}",
         *(f"--attach={pid}" for pid in pids)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: tracer.poll() is not None or all(map(traced, pids)), "strace", 10)
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            pytest.skip(f"strace may not attach here: {tracer.stderr.read()}")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        assert tracer.stderr is not None
        tracer.stderr.close()


def traced(pid: int) -> bool:
    """Whether somebody watches its system calls."""
    with open(f"/proc/{pid}/status") as stream:
        return "TracerPid:\t0\n" not in stream.read()


def exactly(sock: socket.socket, octets: int) -> bytes:
    """So many, or what came before the end."""
    said = b""
    while len(said) < octets and (data := sock.recv(octets - len(said))):
        said += data
    return said


def tunnel(box: Box) -> socket.socket:
    """By SOCKS5 to the echo server, by its name."""
    sock = box.client.call(lambda: socket.create_connection(("fd00:1::1", 1080), PATIENCE))
    host = NAME.encode()
    try:
        sock.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes((len(host),)) + host + ECHO.to_bytes(2, "big"))
        if not (said := exactly(sock, 12)).startswith(b"\x05\x00\x05\x00"):
            raise ConnectionError(said)
    except OSError:
        sock.close()
        raise
    return sock


def page(box: Box) -> None:
    """A web page by the HTTP proxy."""
    with box.client.call(lambda: socket.create_connection(("fd00:1::1", 3128), PATIENCE)) as sock:
        sock.sendall(f"GET http://{NAME}/ HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        said = b""
        while data := sock.recv(65_536):
            said += data
    if b"from IPv4" not in said:
        raise ConnectionError(said)


def echoes(sock: socket.socket) -> None:
    """What is sent comes back."""
    sock.sendall(b"alive")
    if exactly(sock, 5) != b"alive":
        raise ConnectionError


def datagram(box: Box) -> None:
    """A datagram there and back."""
    with udp_socket(box) as sock:
        sock.settimeout(1)
        sock.sendto(b"x", (SERVER6, UDP_ECHO))
        sock.recv(10)


def tries(box: Box) -> list[str]:
    """New sessions of every kind: what came of those that failed. None hangs."""

    def transparent() -> None:
        with connect(box, ECHO, timeout=PATIENCE) as sock:
            echoes(sock)

    def socks() -> None:
        with tunnel(box) as sock:
            echoes(sock)

    failed = []
    for attempt in (transparent, socks, lambda: page(box), lambda: datagram(box)):
        for _ in range(2):
            try:
                attempt()
            except OSError as error:
                failed.append(f"{error!r}")
    return failed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calls", "error"),
    [
        ("socket", "ENOMEM"),
        ("accept4", "ENOMEM"),
        ("epoll_ctl", "ENOSPC"),
        ("setsockopt,connect,bind", "ENOBUFS"),
        ("socket,accept4,pipe2", "ENFILE"),
        (",".join(MAKING), "ENOMEM"),
    ],
)
def test_new_work_fails_and_what_lives_goes_on(own: Box, calls: str, error: str) -> None:
    pids = workers(own)
    with connect(own, ECHO) as plain, tunnel(own) as tunnelled, udp_socket(own) as datagrams:
        datagrams.connect((SERVER6, UDP_ECHO))
        living = (plain, tunnelled)
        for sock in living:
            echoes(sock)
        with failing(pids, calls, error):
            print(calls, error, tries(own))
            for sock in living:
                echoes(sock)
        ended = time.monotonic()
        wait_for(lambda: not tries(own), "all is well again", RECOVERY)
        assert time.monotonic() - ended < RECOVERY
        for sock in living:
            echoes(sock)
    assert workers(own) == pids, own.log("proxy")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calls", "error"),
    [
        ("splice", "ENOMEM"),
        ("sendto,sendmsg,sendmmsg,write,writev", "ENOBUFS"),
        ("recvmsg,recvmmsg", "ENOMEM"),
    ],
)
def test_sessions_that_cannot_move_end_or_wait_and_the_worker_lives(own: Box, calls: str, error: str) -> None:
    pids = workers(own)
    with connect(own, ECHO) as plain, tunnel(own) as tunnelled:
        for sock in (plain, tunnelled):
            sock.settimeout(1)
        with failing(pids, calls, error):
            tries(own)
            for sock in (plain, tunnelled):
                with contextlib.suppress(OSError):
                    echoes(sock)
    wait_for(lambda: not tries(own), "all is well again", RECOVERY)
    assert workers(own) == pids, own.log("proxy")
