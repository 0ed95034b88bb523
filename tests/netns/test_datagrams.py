"""UDP on the wire: hop limits, ports, strangers, forged clients, large datagrams, a new address."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address

import pytest

from appliance.dataplane import FIRST_UDP_PORT
from appliance.protocol import packet
from tests.netns.conftest import CONFIG, SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import serving, status, udp_socket

pytestmark = [pytest.mark.netns, needs_root]

BOX, BOX6 = "203.0.113.2", "fd00:1::1"
CLIENT = "fd00:1::2"
IP_RECVTTL = 12


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that no other test shares: its addresses change."""
    with Box(tmp_path_factory.mktemp("datagrams")) as box:
        box.start_control()
        box.start_proxy()
        with serving(box):
            yield box


@pytest.fixture
def server(own: Box) -> Iterator[socket.socket]:
    """A server's socket that tells the TTL of what comes."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        sock.bind((SERVER, 7150))
        sock.settimeout(3)
        return sock

    with own.server.call(make) as sock:
        yield sock


def icmpv6_of(box: Box, action: Callable[[], object]) -> tuple[str, int, int, bytes]:
    """The first ICMPv6 error that the client hears after the action: who, type, code, the quoted packet."""

    def listen() -> socket.socket:
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        raw.settimeout(5)
        return raw

    with box.client.call(listen) as raw:
        action()
        while True:
            data, sender = raw.recvfrom(2000)
            if data[0] < 128:
                return sender[0], data[0], data[1], data[8:]


def test_a_hop_limit_of_one_ends_at_the_box(own: Box, server: socket.socket) -> None:
    """The first line of a traceroute: the box by its LAN address, quoting what was sent."""
    with udp_socket(own, CLIENT) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
        sender, kind, code, quoted = icmpv6_of(own, lambda: sock.sendto(b"probe", (SERVER6, 7150)))
        assert (sender, kind, code) == (BOX6, 3, 0)
        assert quoted[8:40] == IPv6Address(CLIENT).packed + IPv6Address(SERVER6).packed
        assert quoted[40:44] == struct.pack("!HH", sock.getsockname()[1], 7150)
        assert quoted[48:] == b"probe"
    server.settimeout(0.3)
    with pytest.raises(TimeoutError):
        server.recv(100)


@pytest.mark.parametrize(("hops", "ttl"), [(2, 1), (31, 30), (32, 31), (64, 64), (255, 64)])
def test_the_box_counts_as_a_hop(own: Box, server: socket.socket, hops: int, ttl: int) -> None:
    with udp_socket(own, CLIENT) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        sock.sendto(b"probe", (SERVER6, 7150))
        _data, control, _flags, _peer = server.recvmsg(100, 100)
        assert [int.from_bytes(value, "little") for _level, _kind, value in control] == [ttl]


def test_a_hop_of_the_ipv4_side_is_shown(own: Box) -> None:
    """The server as a router on the way, with a global address."""
    own.server.run("ip", "addr", "add", "193.0.0.1/32", "dev", "lo")
    own.server.run("ip", "route", "add", "192.31.202.0/24", "via", BOX)
    link = ("ip", "route", "replace", "203.0.113.0/24", "dev", "eth0", "scope", "link", "proto", "kernel")
    own.server.run(*link, "src", "193.0.0.1")
    try:
        with udp_socket(own, CLIENT) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 2)
            target = ("64:ff9b::192.31.202.1", 33_434)
            sender, kind, _code, quoted = icmpv6_of(own, lambda: sock.sendto(b"x", target))
            assert (IPv6Address(sender), kind) == (IPv6Address("64:ff9b::193.0.0.1"), 3)
            assert quoted[8:24] == IPv6Address(CLIENT).packed
    finally:
        own.server.run(*link, "src", "203.0.113.1")


def test_strangers_are_not_let_in(own: Box, server: socket.socket) -> None:
    """Neither another port of the same server nor a port that nobody has."""
    with udp_socket(own, CLIENT) as sock:
        sock.sendto(b"hello", (SERVER6, 7150))
        _data, peer = server.recvfrom(100)
        assert peer[0] == BOX
        assert peer[1] >= FIRST_UDP_PORT

        def stranger() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind((SERVER, 7151))
                other.sendto(b"stranger", peer)
                for port in (FIRST_UDP_PORT, 6400, 40_000, 65_535):
                    other.sendto(b"stranger", (BOX, port))

        own.server.call(stranger)
        server.sendto(b"answer", peer)
        assert sock.recvfrom(100)[0] == b"answer"
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(100)


def test_a_forged_client_reaches_nobody_by_the_answers(own: Box) -> None:
    """A client that bears the box's own address would have the origin's answers sent to the box."""
    heard = own.box.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    with heard:
        heard.bind((BOX6, 5999))
        heard.settimeout(0.5)
        ends = IPv6Address(BOX6).packed, IPv6Address(SERVER6).packed
        forged = packet.udp(*ends, struct.pack("!HH", 5999, 7101), b"forged")

        def send() -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                raw.sendto(forged, (SERVER6, 0))

        own.client.call(send)
        with pytest.raises(TimeoutError):
            heard.recv(100)


def test_a_link_local_client_has_no_session(own: Box) -> None:
    before = status(own)["counters"]["opened"]

    def send() -> None:
        ends = IPv6Address("fe80::99").packed, IPv6Address(SERVER6).packed
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(packet.udp(*ends, struct.pack("!HH", 5999, 7101), b"x"), (SERVER6, 0))

    own.client.call(send)
    time.sleep(0.3)
    assert status(own)["counters"]["opened"] == before


def test_the_boxs_own_connected_sockets_get_their_answers(own: Box) -> None:
    """The resolver and the clock ask from ports that are the workers' too."""

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((BOX, 40_123))
            sock.connect((SERVER, 7101))
            sock.settimeout(3)
            sock.send(b"time?")
            return sock.recv(100)

    assert own.box.call(ask) == f"{BOX} 40123 ".encode() + b"time?"


def test_a_small_mtu_of_the_wan_costs_fragments_and_nothing_else(own: Box) -> None:
    links = ((own.box, "wan0"), (own.server, "eth0"))
    for host, device in links:
        host.run("ip", "link", "set", device, "mtu", "905")
    try:
        with udp_socket(own, CLIENT) as sock:
            for size in (800, 877, 878, 1400, 20_000):
                content = os.urandom(size)
                sock.sendto(content, (SERVER6, 7101))
                assert sock.recv(65_535).endswith(content)
    finally:
        for host, device in links:
            host.run("ip", "link", "set", device, "mtu", "1500")


def test_errors_are_told(own: Box) -> None:
    """A closed port, an unreachable host, a network that the box has no way to: each at once."""
    own.server.run("ip", "route", "add", "unreachable", "192.31.197.9")
    own.box.run("ip", "route", "add", "unreachable", "192.31.199.0/24")
    for server6, kinds in (
        (SERVER6, (1, 4)),
        ("64:ff9b::192.31.197.9", (1, 3)),
        ("64:ff9b::192.31.199.9", (1, 0)),
    ):
        with udp_socket(own, CLIENT) as sock:

            def ask(sock: socket.socket = sock, server6: str = server6) -> None:
                sock.sendto(b"anybody?", (server6, 7199))

            _sender, kind, code, quoted = icmpv6_of(own, ask)
            assert (kind, code) == kinds
            assert quoted[48:] == b"anybody?"


def test_a_flood_of_new_flows_leaves_others_alone(own: Box) -> None:
    """Ten thousand flows of one client, each refused or opened; another's datagrams come back meanwhile."""
    ending = threading.Event()

    def flood() -> None:
        ends = IPv6Address("fd00:1::3").packed, IPv6Address(SERVER6).packed
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for port in range(1024, 11_024):
                raw.sendto(packet.udp(*ends, struct.pack("!HH", port, 7150), b"x"), (SERVER6, 0))
                if ending.is_set():
                    return
                if port % 20 == 0:
                    time.sleep(0.001)

    thread = threading.Thread(target=lambda: own.client.call(flood))
    thread.start()
    try:
        with udp_socket(own, CLIENT) as sock:
            for number in range(100):
                content = b"%d" % number
                sock.sendto(content, (SERVER6, 7101))
                assert sock.recv(100).endswith(b" " + content)
    finally:
        ending.set()
        thread.join()


def test_a_flow_outlives_a_new_address_of_the_box(own: Box) -> None:
    """DHCP brings another lease while a client talks on."""
    own.box.run("ip", "addr", "add", "203.0.113.77/24", "dev", "wan0")
    with udp_socket(own, CLIENT) as sock:

        def seen() -> str:
            sock.sendto(b"x", (SERVER6, 7101))
            return sock.recv(100).split(b" ")[0].decode()

        assert seen() == BOX
        own.box.run("ip", "addr", "del", f"{BOX}/24", "dev", "wan0")
        own.box.run("ip", "addr", "replace", "203.0.113.77/24", "dev", "wan0")
        own.box.run("ip", "route", "replace", "default", "via", "203.0.113.1")
        try:
            sock.settimeout(0.5)

            def moved() -> bool:
                try:
                    return seen() == "203.0.113.77"
                except TimeoutError:
                    return False

            wait_for(moved, "the new address", 10)
        finally:
            own.box.run("ip", "addr", "add", f"{BOX}/24", "dev", "wan0")


def test_fewer_workers_take_the_flows_over(own: Box) -> None:
    """The first worker's flows keep their port where it is still theirs; the others' go on with another."""
    socks = [udp_socket(own, source) for source in (CLIENT, "fd00:1::3")]
    try:
        for sock in socks:
            sock.sendto(b"before", (SERVER6, 7101))
            assert sock.recv(100).endswith(b"before")
        own.config.write_text(CONFIG.replace("workers = 2", "workers = 1"))
        own.processes["control"].send_signal(1)
        wait_for(lambda: len(status(own)["workers"]) == 1, "one worker", 10)
        for sock in socks:
            sock.sendto(b"after", (SERVER6, 7101))
            assert sock.recv(100).endswith(b"after")
    finally:
        for sock in socks:
            sock.close()
        own.config.write_text(CONFIG)
        own.processes["control"].send_signal(1)
