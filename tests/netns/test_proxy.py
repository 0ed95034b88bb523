"""The proxy for real: TCP, UDP and ping from an IPv6-only host to an IPv4-only one."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.protocol import packet
from appliance.proxy.path_mtu import PATH_MTU_LIFETIME
from tests.netns.conftest import SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import connect, read_all, serving, sessions, status, udp_socket
from tests.netns.peers import CHUNK

pytestmark = [pytest.mark.netns, needs_root]

REPOSITORY = Path(__file__).resolve().parents[2]
WAN_ADDRESS = "203.0.113.2"
GIGABYTE = 1 << 30


@pytest.fixture(scope="module")
def peers(box: Box) -> Iterator[Box]:
    """The server's side, running."""
    with serving(box):
        yield box


class TestTcp:
    """Honest TCP and the relay."""

    def test_server_sees_only_the_box(self, peers: Box) -> None:
        with connect(peers, 7001) as sock:
            assert read_all(sock).decode() == WAN_ADDRESS

    def test_closed_port_is_refused_in_milliseconds(self, peers: Box) -> None:
        took = []
        for _ in range(5):
            begun = time.monotonic()
            with pytest.raises(ConnectionRefusedError):
                connect(peers, 7999)
            took.append(time.monotonic() - begun)
        assert min(took) < 0.1

    def test_unreachable_host_is_told_by_icmpv6(self, peers: Box) -> None:
        peers.server.run("ip", "route", "add", "unreachable", "192.31.197.1")
        with pytest.raises(OSError, match="No route to host"):
            connect(peers, 80, "64:ff9b::192.31.197.1")

    def test_prohibited_network_is_told_by_icmpv6(self, peers: Box) -> None:
        peers.box.run("ip", "route", "add", "prohibit", "192.31.198.0/24")
        with pytest.raises(PermissionError):
            connect(peers, 80, "64:ff9b::192.31.198.1")

    @pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "169.254.169.254", "127.0.0.1"])
    def test_well_known_prefix_never_carries_non_global_addresses(self, peers: Box, address: str) -> None:
        begun = time.monotonic()
        with pytest.raises(PermissionError):
            connect(peers, 80, f"64:ff9b::{address}")
        assert time.monotonic() - begun < 1

    def test_silent_host_times_out_as_unreachable(self, peers: Box) -> None:
        peers.server.run("ip", "route", "add", "blackhole", "192.31.199.1")
        begun = time.monotonic()
        with pytest.raises(OSError, match="No route to host"):
            connect(peers, 80, "64:ff9b::192.31.199.1")
        assert 3 < time.monotonic() - begun < 7  # proxy.timers.dial is 4 s

    def test_half_close_from_the_client(self, peers: Box) -> None:
        with connect(peers, 7002) as sock:
            sock.sendall(b"half" * 1000)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock).decode() == hashlib.sha256(b"half" * 1000).hexdigest()

    def test_half_close_from_the_server(self, peers: Box) -> None:
        with connect(peers, 7003) as sock:
            sock.sendall(struct.pack("!Q", 5))
            assert read_all(sock) == CHUNK[:5]
            sock.sendall(b"still open")  # the other direction still carries

    def test_reset_by_the_server(self, peers: Box) -> None:
        with connect(peers, 7005) as sock:
            sock.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                sock.recv(10)

    def test_reset_by_the_client(self, peers: Box) -> None:
        before = peers.log("peers").count("RESET")
        sock = connect(peers, 7004)
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        wait_for(lambda: peers.log("peers").count("RESET") > before, "the reset at the server", 3)

    def test_a_four_tuple_in_time_wait_is_dialled_anew(self, peers: Box) -> None:
        """The server ends first, so TIME_WAIT is at the box; a client may use its port again at once."""

        def session() -> str:
            with socket.socket(socket.AF_INET6) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("fd00:1::2", 40_404))
                sock.settimeout(5)
                sock.connect((SERVER6, 7001))
                return read_all(sock).decode()

        for _ in range(3):
            assert peers.client.call(session) == WAN_ADDRESS
            time.sleep(0.1)

    def test_a_gigabyte_up(self, peers: Box) -> None:
        with connect(peers, 7002, timeout=60) as sock:
            seen = hashlib.sha256()
            for _ in range(GIGABYTE // len(CHUNK)):
                sock.sendall(CHUNK)
                seen.update(CHUNK)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock).decode() == seen.hexdigest()

    def test_a_gigabyte_down(self, peers: Box) -> None:
        with connect(peers, 7003, timeout=60) as sock:
            sock.sendall(struct.pack("!Q", GIGABYTE))
            wanted, seen, size = hashlib.sha256(), hashlib.sha256(), 0
            while data := sock.recv(1 << 18):
                seen.update(data)
                size += len(data)
            for _ in range(GIGABYTE // len(CHUNK)):
                wanted.update(CHUNK)
            assert size == GIGABYTE
            assert seen.hexdigest() == wanted.hexdigest()

    def test_ten_megabytes_each_way_over_small_mtus(self, peers: Box) -> None:
        """An IPv4 leg of 905 octets, an IPv6 leg of the least MTU."""
        links = ((peers.box, "wan0", 905), (peers.server, "eth0", 905), (peers.box, "lan0", 1280))
        for host, device, mtu in links:
            host.run("ip", "link", "set", device, "mtu", str(mtu))
        try:
            content = os.urandom(10_000_000)
            with connect(peers, 7002) as sock:
                sock.sendall(content)
                sock.shutdown(socket.SHUT_WR)
                assert read_all(sock).decode() == hashlib.sha256(content).hexdigest()
            with connect(peers, 7003) as sock:
                sock.sendall(struct.pack("!Q", 10_000_000))
                whole = CHUNK * (10_000_000 // len(CHUNK) + 1)
                seen = bytearray()
                while data := sock.recv(1 << 18):
                    seen += data
                assert seen == whole[:10_000_000]
        finally:
            for host, device, _mtu in links:
                host.run("ip", "link", "set", device, "mtu", "1500")

    def test_two_thousand_at_once(self, peers: Box) -> None:
        socks = [connect(peers, 7004) for _ in range(2000)]
        try:
            assert sessions(peers, "--limit", "5", "--search", "7004")["total"] >= 2000
            for number, sock in enumerate(socks):
                sock.sendall(number.to_bytes(4, "big"))
            for number, sock in enumerate(socks):
                assert sock.recv(4) == number.to_bytes(4, "big")
        finally:
            for sock in socks:
                sock.close()

    def test_sessions_are_logged(self, peers: Box) -> None:
        with connect(peers, 7001) as sock:
            port = sock.getsockname()[1]
            read_all(sock)

        def logged() -> bool:
            written, _, _being_written = peers.sessions_log.read_text().rpartition("\n")
            lines = [json.loads(line) for line in written.splitlines()]
            return any(
                line.get("client_port") == port and line["origin"] == SERVER and line["bytes_to_lan"] > 0
                for line in lines
            )

        wait_for(logged, "the session's line in the log", 5)


class TestUdp:
    """UDP sessions and the errors about them."""

    def test_echo_and_endpoint_independent_mapping(self, peers: Box) -> None:
        with udp_socket(peers) as sock:
            seen = []
            for port in (7101, 7102):
                sock.sendto(b"hello", (SERVER6, port))
                answer, sender = sock.recvfrom(100)
                assert sender[:2] == (SERVER6, port)
                address, source_port, content = answer.split(b" ")
                assert (address.decode(), content) == (WAN_ADDRESS, b"hello")
                seen.append(source_port)
            assert seen[0] == seen[1]

    def test_large_answer_arrives_in_fragments(self, peers: Box) -> None:
        with udp_socket(peers) as sock:
            sock.sendto(b"z" * 1300, (SERVER6, 7101))
            assert len(sock.recv(4096)) > 1300

    def test_large_datagram_of_a_client_arrives_whole(self, peers: Box) -> None:
        with udp_socket(peers) as sock:
            for size in (1500, 9000, 60_000):
                content = os.urandom(size)
                sock.sendto(content, (SERVER6, 7101))
                assert sock.recv(65_535).split(b" ", 2)[2] == content

    @pytest.mark.slow
    def test_an_answer_over_the_lans_mtu_arrives_in_fragments(self, peers: Box) -> None:
        peers.box.run("ip", "link", "set", "lan0", "mtu", "1280")
        try:
            time.sleep(PATH_MTU_LIFETIME + 0.5)  # what was learned of the way before is forgotten
            with udp_socket(peers) as sock:
                content = os.urandom(1220)
                sock.sendto(content, (SERVER6, 7101))  # the answer is longer: over 1280 octets
                assert sock.recv(4096).endswith(content)
        finally:
            peers.box.run("ip", "link", "set", "lan0", "mtu", "1500")

    def test_a_router_of_the_lan_says_too_big(self, peers: Box) -> None:
        """A packet-too-big for an answer makes the next answers fragments."""
        with udp_socket(peers, "fd00:1::3") as sock:
            content = os.urandom(1380)
            sock.sendto(content, (SERVER6, 7101))
            assert sock.recv(4096).endswith(content)
            server, client = (socket.inet_pton(socket.AF_INET6, a) for a in (SERVER6, "fd00:1::3"))
            ports = (7101).to_bytes(2, "big") + sock.getsockname()[1].to_bytes(2, "big")
            answer = packet.udp(server, client, ports, content)
            error = packet.icmpv6_error(client, 2, 0, answer, 1300)
            raw = peers.client.call(
                lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            )
            seen = peers.client.call(
                lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD))
            )
            with raw, seen:
                raw.bind(("fd00:1::3", 0))
                raw.sendto(error[40:], (SERVER6, 0))
                seen.settimeout(3)
                time.sleep(0.2)
                sock.sendto(content, (SERVER6, 7101))
                assert sock.recv(4096).endswith(content)
                sizes: list[int] = []
                while len(sizes) < 2:
                    data, sender = seen.recvfrom(2000)
                    if sender[2] != socket.PACKET_OUTGOING and data[8:24] == server:
                        sizes.append(len(data))
                assert max(sizes) <= 1280

    def test_closed_port_is_told(self, peers: Box) -> None:
        with udp_socket(peers) as sock:
            sock.connect((SERVER6, 7199))
            sock.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                sock.recv(10)


class TestPing:
    """ICMP echo."""

    def test_ping(self, peers: Box) -> None:
        done = peers.client.run("ping", "-c", "3", "-i", "0.2", "-W", "2", SERVER6, check=False)
        assert " 3 received" in done.stdout, done.stdout

    def test_ping_of_an_unreachable_host(self, peers: Box) -> None:
        peers.server.run("ip", "route", "replace", "unreachable", "192.31.197.2")
        done = peers.client.run("ping", "-c", "1", "-W", "3", "64:ff9b::192.31.197.2", check=False)
        assert "nreachable" in done.stdout, done.stdout


def test_rubbish_on_the_supervisors_socket_ends_only_its_connection(peers: Box) -> None:
    for rubbish in (b"\0", b"[]\0", b'{"method": 3}\0', b'{"method": "org.isthmus.proxy.ListSessions"}\0'):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(peers.runtime / "proxy" / "proxy.sock"))
            sock.sendall(rubbish)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
    assert peers.processes["proxy"].poll() is None


def test_worker_killed_costs_only_its_own_sessions(peers: Box) -> None:
    socks = []
    for source in ("fd00:1::2", "fd00:1::3", *(f"fd00:1::{n:x}" for n in range(0x10, 0x18))):
        peers.client.run("ip", "addr", "replace", f"{source}/64", "dev", "eth0", "nodad")

        def dial(source: str = source) -> socket.socket:
            return socket.create_connection((SERVER6, 7004), 5, (source, 0))

        socks.append(peers.client.call(dial))
    listed = {s["client"]: s["worker"] for s in sessions(peers, "--search", "7004")["sessions"]}
    assert set(listed.values()) == {0, 1}, "both workers have clients"
    victim = next(w for w in status(peers)["workers"] if w["index"] == 0)
    os.kill(victim["pid"], signal.SIGKILL)
    time.sleep(0.2)
    for sock in socks:
        worker = listed[sock.getsockname()[0]]
        if worker == 1:
            sock.sendall(b"alive")
            assert sock.recv(5) == b"alive"
        else:
            with pytest.raises(OSError):
                sock.sendall(b"dead")
                if not sock.recv(5):
                    raise ConnectionResetError
    begun = time.monotonic()
    for source in (address for address, worker in listed.items() if worker == 0):

        def again(source: str = source) -> socket.socket:
            return socket.create_connection((SERVER6, 7004), 5, (source, 0))

        with peers.client.call(again) as sock:
            sock.sendall(b"new")
            assert sock.recv(3) == b"new"
    assert time.monotonic() - begun < 3
    for sock in socks:
        sock.close()
