"""What the WAN sees of a client: nothing. Every frame that leaves the box there is looked through."""

from __future__ import annotations

import base64
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from tests.netns.conftest import BIN, SERVER6, Box, needs_root, wait_for
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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_transparent_names(own: Box, scheme: str) -> None:
    """TLS and HTTP of hosts that know of no proxy: what they say is listened to, and goes on as it came."""
    port = 443 if scheme == "https" else 80
    with captured(own) as frames:
        done = curl(
            own, "--resolve", f"{NAME}:{port}:{SERVER6}", "--fail", "-A", "agent", f"{scheme}://{NAME}/"
        )
        assert done.returncode == 0, done.stderr
    hidden(frames, NAME.encode())


def test_errors_of_the_other_side(own: Box) -> None:
    """What is refused, unreachable or too far is told the client; the WAN hears nothing of who asked."""
    with captured(own) as frames:
        with pytest.raises(ConnectionRefusedError):
            connect(own, 7999)
        with udp_socket(own) as sock:
            sock.connect((SERVER6, 7999))
            sock.send(b"to a closed port")
            with pytest.raises(ConnectionRefusedError):
                sock.recv(100)
        own.client.run("ping", "-c1", "-W1", "-t1", SERVER6, check=False)
        own.client.run("ping", "-c1", "-W1", "-t2", SERVER6, check=False)
    hidden(frames, b"to a closed port")


def test_refused_and_cut_off_sessions(own: Box) -> None:
    """A CONNECT to a closed port, a request whose client goes away, a user's tunnel that is reset."""
    with captured(own) as frames:
        raw(own, 3128, f"CONNECT {NAME}:7002 HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
        head = f"POST http://{NAME}/cut HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1000\r\n\r\nhalf"
        with own.client.call(lambda: socket.create_connection(("fd00:1::1", 3128), 10)) as sock:
            sock.sendall(head.encode())
            # One that goes before the origin is reached leaves nothing to look through.
            wait_for(lambda: b"POST /cut" in b"\0".join(frames), "the request")
        curl(own, "-x", SCHEMES["user-http"], "-p", "-k", "--max-time", "1", f"https://{NAME}:8001/")
    hidden(frames, b"POST /cut")


def test_questions(own: Box) -> None:
    """Upstream servers learn a name, and neither the client nor its network, though it says so itself."""
    own.start("dns64", BIN / "isthmus-dns64", "--config", own.config, "--runtime", own.runtime)
    words = ("+tries=1", "+time=2", "@fd00:1::1")
    wait_for(
        lambda: "ANSWER: 1" in own.client.run("dig", "AAAA", NAME, *words, check=False).stdout,
        f"the DNS\n{own.log('dns64')}",
    )
    with captured(own) as frames:
        for source in (CLIENT, OTHER):
            for extra in ("+noedns", f"+subnet={source}/128", "+cookie=0102030405060708", "+nsid", "+tcp"):
                name = f"{extra.strip('+').partition('=')[0]}-{source[-1]}.hidden.example"
                own.client.run("dig", "-b", source, "AAAA", name, extra, *words, check=False)
            # Who has this address nobody outside could say; the question alone would tell it.
            own.client.run("dig", "-b", source, "-x", source, *words, check=False)
    hidden(frames, b"\x06hidden\x07example")
    everything = b"\0".join(frames).lower()
    nibbles = b"".join(b"\x01" + digit.encode() for digit in IPv6Address(CLIENT).packed.hex()[::-1])
    assert nibbles not in everything, "the client's reverse name was asked for"
    assert IPv6Address("fd00:1::").packed[:6] not in everything, "a client subnet (RFC 7871)"
    assert b"\x01\x02\x03\x04\x05\x06\x07\x08" not in everything, "the client's cookie"


def test_published_services_hide_their_server(tmp_path: Path) -> None:
    """The other way round: the WAN learns no address of the LAN, the server nothing unasked for."""
    published = """
[[published]]
name = "plain"
port = 8123
targets = ["[fd00:1::2]:8123"]
"""
    with running(tmp_path, published) as box:

        def listen() -> socket.socket:
            sock = socket.socket(socket.AF_INET6)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("fd00:1::2", 8123))
            sock.listen(8)
            return sock

        listener = box.client.call(listen)
        heard: list[bytes] = []

        def serve() -> None:
            # The box looks whether the server answers, by connections that say nothing.
            while b"published" not in b"".join(heard):
                one = listener.accept()[0]
                with one:
                    one.settimeout(5)
                    heard.append(one.recv(1_000))
                    if heard[-1]:
                        one.sendall(b"the answer")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def ask() -> bytes:
            try:
                with socket.create_connection(("203.0.113.2", 8123), 5) as sock:
                    sock.sendall(b"published")
                    sock.settimeout(5)
                    return sock.recv(100)
            except OSError:
                return b""

        with captured(box) as frames:
            wait_for(lambda: box.server.call(ask) == b"the answer", f"the service\n{box.log('proxy')}")
        thread.join(5)
        hidden(frames, b"the answer")
        assert b"203.0.113.1" not in b"".join(heard), "no PROXY header where none was asked for"
        listener.close()


def test_via_has_a_pseudonym(own: Box) -> None:
    with captured(own) as frames:
        raw(own, 3128, f"GET http://{NAME}/via HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
    (via,) = re.findall(rb"\r\nvia: *([^\r]*)\r\n", b"\0".join(frames), re.IGNORECASE)
    assert via == b"1.1 isthmus"
