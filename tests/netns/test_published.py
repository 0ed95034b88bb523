"""Published services: IPv4 clients of the WAN reach IPv6 servers of the LAN."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.control.client import call
from tests.netns.conftest import CONFIG, Box, needs_root, wait_for
from tests.netns.hosts import connect, read_all, sessions, udp_socket

pytestmark = [pytest.mark.netns, needs_root]

WAN = "203.0.113.2"
HAIRPIN = "fd00:64::cb00:7102"  # the same, as a host of the LAN writes it
MEGABYTES = 64

SERVICES = """
[lan]
interface = "lan0"
prefix = "fd00:1:0:0::/64"
client_prefix = "fd00:4::/96"

[[translation]]
prefix = "64:ff9b::/96"
[[translation]]
prefix = "fd00:64::/96"

[[published]]
name = "plain"
port = 8001
targets = ["[fd00:1::2]:9001", "[fd00:1::3]:9001"]
[[published]]
name = "header"
port = 8002
targets = ["[fd00:1::2]:9001"]
reveal = "proxy-v2"
[[published]]
name = "address"
port = 8003
targets = ["[fd00:1::2]:9001"]
reveal = "address"
[[published]]
name = "tls"
port = 8443
route = "sni"
names = [
  { hosts = ["a.example"], targets = ["[fd00:1::2]:9443"] },
  { hosts = ["*.b.example"], targets = ["[fd00:1::3]:9443"] },
]
[[published]]
name = "web"
port = 8080
route = "host"
targets = ["[fd00:1::2]:9080"]
names = [{ hosts = ["b.example"], targets = ["[fd00:1::3]:9080"] }]
[[published]]
name = "datagrams"
protocol = "udp"
port = 8101
targets = ["[fd00:1::2]:9101"]
[[published]]
name = "datagrams-address"
protocol = "udp"
port = 8102
targets = ["[fd00:1::2]:9101"]
reveal = "address"
"""
LAN_TABLE = '[lan]\ninterface = "lan0"\nprefix = "fd00:1:0:0::/64"\n'


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that publishes, with its IPv6 servers on the LAN."""
    with Box(tmp_path_factory.mktemp("published")) as box:
        assert LAN_TABLE in CONFIG
        box.config.write_text(CONFIG.replace(LAN_TABLE, "") + SERVICES)
        # The provider's side has more than one client.
        box.server.run("ip", "addr", "add", "203.0.113.77/24", "dev", "eth0")
        box.start_control()
        box.start(
            "lan-servers", sys.executable, "-m", "tests.netns.lan_servers", box.runtime, where=box.client
        )
        wait_for(lambda: "ready" in box.log("lan-servers"), "the LAN's servers")
        box.start_proxy()  # it looks at its targets at once, and again only seconds later
        wait_for(lambda: bool(proxy_status(box)["targets"]), "workers, with their services")
        yield box


def dial(box: Box, port: int, source: str = "203.0.113.77") -> socket.socket:
    """A TCP connection of the IPv4 client's."""
    return box.server.call(lambda: socket.create_connection((WAN, port), 10, (source, 0)))


def say(sock: socket.socket, text: bytes = b"hello\n") -> str:
    """What the server answers: who it talks to, and the text."""
    sock.sendall(text)
    sock.shutdown(socket.SHUT_WR)
    return read_all(sock).decode()


class TestTcp:
    """Maps of a port."""

    def test_a_server_is_reached_and_sees_the_box_only(self, own: Box) -> None:
        with dial(own, 8001) as sock:
            assert say(sock) == "fd00:1::2 from fd00:1::1: hello\n"

    def test_the_session_is_listed_with_its_service(self, own: Box) -> None:
        with dial(own, 8001) as sock:
            sock.sendall(b"x")
            wait_for(lambda: sessions(own, "--search", "203.0.113.77")["total"] > 0, "the session", 3)
            (found,) = [s for s in sessions(own)["sessions"] if s["client_port"] == sock.getsockname()[1]]
        assert (found["client"], found["service"], found["server"]) == ("203.0.113.77", "plain", WAN)
        assert (found["origin"], found["origin_port"]) == ("fd00:1::2", 9001)

    def test_the_proxy_header(self, own: Box) -> None:
        with dial(own, 8002) as sock:
            port = sock.getsockname()[1]
            sock.sendall(b"hello\n")
            sock.shutdown(socket.SHUT_WR)
            answer = read_all(sock)
        head, _colon, content = answer.partition(b": ")
        assert head == b"fd00:1::2 from fd00:1::1"
        ends = socket.inet_aton("203.0.113.77") + socket.inet_aton(WAN) + struct.pack("!HH", port, 8002)
        assert content == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + ends + b"hello\n"

    def test_the_clients_address_inside_the_prefix(self, own: Box) -> None:
        with dial(own, 8003) as sock:
            assert say(sock) == "fd00:1::2 from fd00:4::cb00:714d: hello\n"

    def test_bulk_both_ways(self, own: Box) -> None:
        content = os.urandom(1 << 20)
        with dial(own, 8003) as sock:
            sent = hashlib.sha256()
            for _ in range(MEGABYTES):
                sock.sendall(content)
                sent.update(content)
            sock.shutdown(socket.SHUT_WR)
            answer = read_all(sock)
        assert hashlib.sha256(answer.partition(b": ")[2]).hexdigest() == sent.hexdigest()

    def test_a_port_that_is_not_published_stays_silent(self, own: Box) -> None:
        with pytest.raises(TimeoutError):
            own.server.call(lambda: socket.create_connection((WAN, 9001), 1))

    def test_the_first_target_dies_and_comes_back(self, own: Box) -> None:
        own.client.run("ip", "addr", "del", "fd00:1::2/64", "dev", "eth0")
        try:
            begun = time.monotonic()
            with dial(own, 8001) as sock:
                assert say(sock) == "fd00:1::3 from fd00:1::1: hello\n"
            assert time.monotonic() - begun < 5
            wait_for(lambda: not target_up(own, "plain", "[fd00:1::2]:9001"), "the dead target's mark", 12)
            begun = time.monotonic()
            with dial(own, 8001) as sock:
                assert "fd00:1::3" in say(sock)
            assert time.monotonic() - begun < 0.5, "a target known to be dead costs nothing"
        finally:
            own.client.run("ip", "addr", "add", "fd00:1::2/64", "dev", "eth0", "nodad")
        wait_for(lambda: target_up(own, "plain", "[fd00:1::2]:9001"), "the target's return", 15)
        with dial(own, 8001) as sock:
            assert "fd00:1::2" in say(sock)

    def test_without_any_target_the_client_is_reset(self, own: Box) -> None:
        own.client.run("ip", "addr", "del", "fd00:1::2/64", "dev", "eth0")
        try:
            with dial(own, 8002) as sock:
                sock.settimeout(10)
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)
        finally:
            own.client.run("ip", "addr", "add", "fd00:1::2/64", "dev", "eth0", "nodad")
        wait_for(lambda: target_up(own, "header", "[fd00:1::2]:9001"), "the target's return", 15)


def proxy_status(box: Box) -> dict[str, Any]:
    """GetStatus of the proxy itself."""
    return call(box.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.GetStatus", {}, 10)


def target_up(box: Box, service: str, target: str) -> bool:
    """What the proxy says of one target."""
    (found,) = [t for t in proxy_status(box)["targets"] if (t["service"], t["target"]) == (service, target)]
    up: bool = found["up"]
    return up


class TestRoutes:
    """Several names on one port, with curl as the client."""

    @pytest.mark.parametrize(("name", "server"), [("a.example", "fd00:1::2"), ("x.y.b.example", "fd00:1::3")])
    def test_by_sni(self, own: Box, name: str, server: str) -> None:
        done = own.server.run(
            "curl",
            "-sk",
            "--max-time",
            "10",
            "--connect-to",
            f"::{WAN}:8443",
            f"https://{name}/",
            check=False,
        )
        assert done.stdout == f"{server} https", done

    def test_an_unknown_name_is_reset(self, own: Box) -> None:
        done = own.server.run(
            "curl",
            "-sk",
            "--max-time",
            "10",
            "--connect-to",
            f"::{WAN}:8443",
            "https://c.example/",
            check=False,
        )
        assert done.returncode == 35, done

    @pytest.mark.parametrize(("name", "server"), [("b.example", "fd00:1::3"), ("other.example", "fd00:1::2")])
    def test_by_host(self, own: Box, name: str, server: str) -> None:
        done = own.server.run(
            "curl", "-s", "--max-time", "10", "--connect-to", f"::{WAN}:8080", f"http://{name}/", check=False
        )
        assert done.stdout == f"{server} http", done

    def test_a_request_in_single_bytes(self, own: Box) -> None:
        with dial(own, 8080) as sock:
            for octet in b"GET / HTTP/1.0\r\nHost: b.example\r\n\r\n":
                sock.sendall(bytes((octet,)))
                time.sleep(0.002)
            assert read_all(sock).endswith(b"fd00:1::3 http")

    def test_rubbish_is_reset(self, own: Box) -> None:
        for port, rubbish in (
            (8443, b"GET / HTTP/1.0\r\n\r\n"),
            (8080, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        ):
            with dial(own, port) as sock:
                sock.sendall(rubbish)
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)


class TestUdp:
    """Maps of datagrams."""

    @pytest.mark.parametrize(("port", "seen"), [(8101, "fd00:1::1"), (8102, "fd00:4::cb00:714d")])
    def test_there_and_back(self, own: Box, port: int, seen: str) -> None:
        with own.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.bind(("203.0.113.77", 0))
            sock.settimeout(5)
            for size in (1, 1200, 8000):
                content = os.urandom(size)
                sock.sendto(content, (WAN, port))
                answer, sender = sock.recvfrom(65_535)
                assert sender == (WAN, port)
                who, _colon, back = answer.partition(b": ")
                assert (who.decode(), back) == (f"fd00:1::2 from {seen}", content)


class TestHairpin:
    """A host of the LAN uses the WAN's address."""

    def test_tcp(self, own: Box) -> None:
        with connect(own, 8001, HAIRPIN) as sock:
            assert say(sock) == "fd00:1::2 from fd00:1::1: hello\n"

    def test_udp(self, own: Box) -> None:
        with udp_socket(own) as sock:
            sock.sendto(b"hello", (HAIRPIN, 8101))
            assert sock.recv(100) == b"fd00:1::2 from fd00:1::1: hello"

    def test_the_boxes_own_other_ports_stay_closed(self, own: Box) -> None:
        with pytest.raises(PermissionError):
            connect(own, 443, HAIRPIN)


def kill(box: Box, port: int) -> None:
    """End the session of the client's port."""
    found: list[dict[str, Any]] = []

    def is_open() -> bool:
        found[:] = [one for one in sessions(box)["sessions"] if one["client_port"] == port]
        return bool(found)

    wait_for(is_open, "the session", 5)
    path = box.runtime / "proxy" / "proxy.sock"
    for killed in (True, False):  # once
        assert call(path, "org.isthmus.proxy.Kill", {"id": found[0]["id"]}, 10) == {"killed": killed}
    assert not is_open()


@pytest.mark.parametrize("port", [8001, 8443])
def test_a_session_is_killed(own: Box, port: int) -> None:
    """One that is relayed, and one whose name is yet to be said."""
    with dial(own, port) as sock:
        sock.sendall(b"\x16")
        kill(own, sock.getsockname()[1])
        sock.settimeout(5)
        with pytest.raises(ConnectionResetError):
            sock.recv(100)


def test_datagrams_are_killed(own: Box) -> None:
    sock = own.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with sock:
        sock.settimeout(5)
        for _ in range(2):  # the next datagram begins another
            sock.sendto(b"hello", (WAN, 8101))
            assert sock.recv(100)
            kill(own, sock.getsockname()[1])


def test_a_reload_under_traffic_loses_no_connection(own: Box) -> None:
    """Services come and go beside one that is used all the time."""
    before = own.config.read_text()
    problems: list[str] = []
    done = 0
    try:
        for number in range(30):
            extra = f'[[published]]\nname = "extra{number}"\nport = {8200 + number}\n'
            own.config.write_text(f'{before}{extra}targets = ["[fd00:1::2]:9001"]\n')
            found = call(own.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Reload", {}, 10)
            assert found["problem"] is None
            for _ in range(10):
                try:
                    with dial(own, 8001) as sock:
                        done += say(sock).endswith("hello\n")
                except OSError as error:
                    problems.append(str(error))
    finally:
        own.config.write_text(before)
    assert not problems
    assert done == 300


def test_other_targets_cut_nothing(own: Box) -> None:
    """Neither a connection that is about to be made, nor a session of datagrams whose target stays."""
    before = own.config.read_text()
    problems: list[str] = []
    done = 0
    over = threading.Event()
    sock = own.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    try:
        with sock:
            sock.settimeout(5)
            sock.bind(("203.0.113.77", 0))
            sock.sendto(b"hello", (WAN, 8101))
            assert sock.recv(100).startswith(b"fd00:1::2 ")
            port = sock.getsockname()[1]
            (session,) = datagram_sessions(own, port)

            def dials() -> None:
                nonlocal done
                while not over.is_set():
                    try:
                        with dial(own, 8001) as one:
                            done += say(one).endswith("hello\n")
                    except OSError as error:
                        problems.append(str(error))

            dialling = threading.Thread(target=dials, daemon=True)
            dialling.start()
            for number in range(20):
                other = 9100 + number % 2
                text = before.replace(
                    'targets = ["[fd00:1::2]:9001", "[fd00:1::3]:9001"]',
                    f'targets = ["[fd00:1::2]:9001", "[fd00:1::3]:{other}"]',
                ).replace(
                    'name = "datagrams"\nprotocol = "udp"\nport = 8101\ntargets = ["[fd00:1::2]:9101"',
                    'name = "datagrams"\nprotocol = "udp"\nport = 8101\n'
                    f'targets = ["[fd00:1::2]:9101", "[fd00:1::3]:{other}"',
                )
                assert text.count(f"[fd00:1::3]:{other}") == 2
                own.config.write_text(text)
                found = call(own.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Reload", {}, 10)
                assert found["problem"] is None
            over.set()
            dialling.join(20)
            sock.sendto(b"hello", (WAN, 8101))
            assert sock.recv(100).startswith(b"fd00:1::2 ")
            assert datagram_sessions(own, port) == [session]
            own.config.write_text(before.replace("[fd00:1::2]:9101", "[fd00:1::3]:9101"))
            call(own.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Reload", {}, 10)
            sock.sendto(b"hello", (WAN, 8101))
            assert sock.recv(100).startswith(b"fd00:1::3 "), "the target is another now"
    finally:
        over.set()
        own.config.write_text(before)
        call(own.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Reload", {}, 10)
    assert not problems
    assert done > 20


def datagram_sessions(box: Box, port: int) -> list[str]:
    """Of the client's port with the published service, by their IDs."""
    found = sessions(box)["sessions"]
    return [one["id"] for one in found if (one["service"], one["client_port"]) == ("datagrams", port)]


def test_a_rule_denies_a_client_and_no_other(own: Box) -> None:
    before = own.config.read_text()
    rule = (
        '[[rule]]\nname = "not-them"\naction = "deny"\nsources = ["203.0.113.77/32"]\nways = ["published"]\n'
    )
    reload = "org.isthmus.proxy.Reload"
    try:
        own.config.write_text(before + rule)
        assert call(own.runtime / "proxy" / "proxy.sock", reload, {}, 10)["problem"] is None
        with pytest.raises(ConnectionError), dial(own, 8001) as sock:
            assert say(sock)
        with dial(own, 8001, "203.0.113.1") as sock:
            assert say(sock).endswith("hello\n")
        udp = own.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with udp:
            udp.settimeout(1)
            udp.bind(("203.0.113.77", 0))
            udp.sendto(b"hello", (WAN, 8101))
            with pytest.raises(TimeoutError):
                udp.recv(100)
    finally:
        own.config.write_text(before)
        call(own.runtime / "proxy" / "proxy.sock", reload, {}, 10)
    wait_for(lambda: '"rule":"not-them"' in own.sessions_log.read_text(), "the log to name the rule", 5)


def test_a_new_program_takes_services_over(own: Box) -> None:
    with dial(own, 8001) as kept:
        kept.sendall(b"one ")
        udp = own.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with udp:
            udp.settimeout(5)
            udp.sendto(b"before", (WAN, 8101))
            first = udp.recv(100)
            old = {worker["pid"] for worker in proxy_status(own)["workers"]}
            own.processes["proxy"].send_signal(signal.SIGUSR2)

            def replaced() -> bool:
                with contextlib.suppress(Exception):
                    return not old & {w["pid"] for w in proxy_status(own)["workers"] if not w["draining"]}
                return False

            wait_for(replaced, "new workers")
            udp.sendto(b"before", (WAN, 8101))
            assert udp.recv(100) == first
        with dial(own, 8001) as sock:
            assert say(sock).endswith("hello\n")
        assert say(kept, b"two\n").endswith("from fd00:1::1: one two\n")
