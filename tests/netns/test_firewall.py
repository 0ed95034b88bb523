"""What the WAN can see of the box: TCP is not tracked, so the sockets alone decide what is answered."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.netns.conftest import SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import connect, serving

pytestmark = [pytest.mark.netns, needs_root]

BOX = "203.0.113.2"
TRACKED = Path("/proc/sys/net/netfilter/nf_conntrack_count")
ACK, RST, FIN, SYN = 0x10, 0x04, 0x01, 0x02


@pytest.fixture(scope="module")
def serve(box: Box) -> Iterator[Box]:
    """The box, and servers behind it."""
    with serving(box):
        yield box


def segment(source: tuple[str, int], target: tuple[str, int], flags: int, seq: int, ack: int) -> bytes:
    """A TCP segment without data, for a raw socket."""
    bare = struct.pack("!HHIIBBHHH", source[1], target[1], seq, ack, 5 << 4, flags, 1024, 0, 0)
    pseudo = IPv4Address(source[0]).packed + IPv4Address(target[0]).packed + struct.pack("!HH", 6, len(bare))
    total = sum(struct.unpack("!16H", pseudo + bare))
    total = (total & 0xFFFF) + (total >> 16)
    return bare[:16] + struct.pack("!H", 0xFFFF - ((total & 0xFFFF) + (total >> 16))) + bare[18:]


def answers(box: Box, sent: bytes, port: int, timeout: float = 1.0) -> list[int]:
    """The flags of the segments that the box answers to ``port`` of the server."""

    def ask() -> list[int]:
        found = []
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            raw.bind((SERVER, 0))
            raw.sendto(sent, (BOX, 0))
            raw.settimeout(timeout)
            try:
                while True:
                    packet, (source, _) = raw.recvfrom(4096)
                    inner = packet[(packet[0] & 15) * 4 :]
                    if source == BOX and int.from_bytes(inner[2:4], "big") == port:
                        found.append(inner[13])
            except TimeoutError:
                return found

    return box.server.call(ask)


@pytest.mark.parametrize("flags", [SYN, ACK, FIN, FIN | ACK, RST | ACK, SYN | ACK, 0])
@pytest.mark.parametrize("port", [80, 443, 40_000])
def test_a_scan_from_the_wan_hears_nothing(serve: Box, flags: int, port: int) -> None:
    probe = segment((SERVER, 5555), (BOX, port), flags, 1000, 1000)
    assert answers(serve, probe, 5555, 0.3) == []


def test_a_segment_for_a_session_that_is_over_is_answered(serve: Box) -> None:
    """A server whose last ACK was lost says its FIN again; TIME_WAIT answers it, and it can go."""
    ports: list[int] = []
    listening = threading.Event()

    def server() -> None:
        with socket.create_server((SERVER, 7999)) as listener:
            listener.settimeout(5)
            listening.set()
            peer, (_, port) = listener.accept()
            with peer:
                peer.recv(1)  # the end
            ports.append(port)

    thread = threading.Thread(target=lambda: serve.server.call(server))
    thread.start()
    assert listening.wait(5)
    serve.client.call(lambda: socket.create_connection((SERVER6, 7999), 5).close())
    thread.join(5)
    port = ports[0]
    wait_for(lambda: "TIME-WAIT" in serve.box.run("ss", "-Htan", f"sport = :{port}").stdout, "TIME_WAIT", 5)
    again = segment((SERVER, 7999), (BOX, port), FIN | ACK, 1000, 1000)
    assert any(flags & ACK for flags in answers(serve, again, 7999))


def test_sessions_are_not_tracked(serve: Box) -> None:
    def tracked() -> int:
        return serve.box.call(lambda: int(TRACKED.read_text()))

    before = tracked()
    kept = [connect(serve, 7004) for _ in range(40)]
    for sock in kept:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    assert tracked() - before < 10  # the neighbours' and others' own
    for sock in kept:
        sock.close()
