"""What the WAN sees of a client: nothing. Every frame that leaves the box there is looked through."""

from __future__ import annotations

import base64
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from tests.netns.conftest import SERVER6, Box, needs_root
from tests.netns.explicit import ALICE, NAME, SCHEMES, curl, raw, running
from tests.netns.hosts import connect, udp_socket

pytestmark = [pytest.mark.netns, needs_root]

CLIENT = "fd00:1::3"  # by which curl and raw sockets leave
OTHER = "fd00:1::2"
HOST_NAME = "annas-laptop"
_ETH_P_ALL = 3
_OUTGOING = 4  # PACKET_OUTGOING


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box whose clients use all that it has."""
    with running(tmp_path_factory.mktemp("anonymity")) as box:
        yield box


@contextmanager
def captured(box: Box) -> Iterator[list[bytes]]:
    """What arrives at the server's card meanwhile: whole frames."""
    frames: list[bytes] = []

    def open_socket() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        sock.bind(("eth0", 0))
        sock.settimeout(0.2)
        return sock

    sock = box.server.call(open_socket)
    over = threading.Event()

    def read() -> None:
        while True:
            try:
                data, address = sock.recvfrom(1 << 16)
            except TimeoutError:
                if over.is_set():
                    return
                continue
            if address[2] != _OUTGOING:
                frames.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield frames
    finally:
        over.set()
        thread.join()
        sock.close()


def traces() -> dict[str, bytes]:
    """What would tell the client, in the forms that it may take."""
    found = {"the user": b"alice", "the host's name": HOST_NAME.encode(), "the password": b"open sesame"}
    found["credentials"] = base64.b64encode(ALICE.encode())
    for name in ("forwarded", "x-forwarded-for", "client-ip", "x-real-ip", "proxy-authorization"):
        found[name] = b"\n" + name.encode() + b":"
    for address in (CLIENT, OTHER):
        packed = IPv6Address(address).packed
        found[f"{address} packed"] = packed
        found[f"{address} written"] = address.encode()
        found[f"{address} in full"] = IPv6Address(address).exploded.encode()
        found[f"{address} in hexadecimal"] = packed.hex().encode()
    return found


def hidden(frames: list[bytes], proof: bytes) -> None:
    """Nothing of the client is in the frames; ``proof`` is, so that the right ones were looked through."""
    everything = b"\0".join(frames)
    assert proof in everything, f"{len(frames)} frames without {proof!r}"
    lowered = everything.lower()
    for what, trace in traces().items():
        assert trace.lower() not in lowered, f"{what} is in what leaves"


def test_transparent_sessions(own: Box) -> None:
    with captured(own) as frames:
        with connect(own, 7004) as sock:
            sock.sendall(b"transparent tcp")
            assert sock.recv(100) == b"transparent tcp"
        with udp_socket(own) as sock:
            sock.sendto(b"transparent udp", (SERVER6, 7101))
            assert sock.recv(100).endswith(b"transparent udp")
        assert "1 received" in own.client.run("ping", "-c1", "-W3", SERVER6).stdout
    hidden(frames, b"transparent tcp")
    hidden(frames, b"transparent udp")


@pytest.mark.parametrize("scheme", ["http", "https", "user-http", "user-https"])
def test_requests(own: Box, scheme: str) -> None:
    with captured(own) as frames:
        done = curl(
            own, "-x", SCHEMES[scheme], "--fail", "-A", "agent", f"http://{NAME}/?by={scheme}",
            "-H", f"Forwarded: for=\"[{CLIENT}]\"", "-H", f"X-Forwarded-For: {CLIENT}",
            "-H", f"Client-IP: {CLIENT}", "-H", f"X-Real-IP: {CLIENT}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    hidden(frames, f"/?by={scheme} ".encode())


@pytest.mark.parametrize("scheme", ["http", "socks4a", "socks5h", "user-socks5h"])
def test_tunnels(own: Box, scheme: str) -> None:
    with captured(own) as frames:
        done = curl(own, "-x", SCHEMES[scheme], "-p", "--fail", "-k", "-o", "/dev/null", f"https://{NAME}/")
        assert done.returncode == 0, done.stderr
    hidden(frames, NAME.encode())  # the server name that the client itself says


def test_datagrams_by_socks(own: Box) -> None:
    def ask() -> bytes:
        with (
            socket.create_connection(("fd00:1::1", 1080), 10) as control,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock,
        ):
            control.sendall(b"\x05\x01\0")
            control.recv(2)
            control.sendall(b"\x05\x03\0\x04" + bytes(16) + b"\0\0")
            reply = control.recv(100)
            (port,) = struct.unpack("!H", reply[20:22])
            head = b"\0\0\0\x01" + socket.inet_aton("192.31.196.80") + struct.pack("!H", 7101)
            sock.settimeout(5)
            sock.sendto(head + b"datagram by socks", ("fd00:1::1", port))
            return sock.recv(2_000)

    with captured(own) as frames:
        assert own.client.call(ask).endswith(b"datagram by socks")
    hidden(frames, b"datagram by socks")


def test_via_has_a_pseudonym(own: Box) -> None:
    with captured(own) as frames:
        raw(own, 3128, f"GET http://{NAME}/via HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
    everything = b"\0".join(frames).lower()
    assert b"via: 1.1 isthmus" in everything
    assert Path("/etc/hostname").read_text().strip().encode().lower() not in everything
