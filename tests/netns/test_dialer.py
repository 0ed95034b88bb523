"""Names through the explicit proxy: both families, black holes, forbidden addresses, a dead resolver.

client --- lan0 [ box ] wan0 --- server   IPv4: 192.31.196.80, dnsmasq (the zone example.)
                      [     ] six0 --- server6  IPv6: 2001:db8:6::80; 2001:db8:dead::/48 answers nothing
"""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.netns import Namespace, stop, unguarded
from tests.netns.conftest import CONFIG, SERVER, Box, needs_root, wait_for
from tests.netns.hosts import sessions

pytestmark = [pytest.mark.netns, needs_root]

SERVER_V6 = "2001:db8:6::80"
HOLES = [f"2001:db8:dead::{number}" for number in (1, 2, 3)]
OWN = "2001:db8:5::2"
PORT = 7001  # where both servers say who has come
CLOSED = 7009

# Names to addresses; what each is for is in the tests.
ZONE: dict[str, list[str]] = {
    "four": [SERVER],
    "six": [SERVER_V6],
    "dual": [SERVER, SERVER_V6],
    "hole": [SERVER, HOLES[0]],
    "holes": [SERVER, *HOLES],
    "nowhere": HOLES[:1],
    "mixed": ["127.0.0.1", SERVER_V6],
    "refuses": [SERVER, "2001:db8:6::81"],
}
FORBIDDEN: dict[str, str] = {
    "loop4": "127.0.0.1",
    "any4": "0.0.0.0",
    "meta4": "169.254.169.254",
    "own4": "203.0.113.2",
    "second4": "203.0.113.12",
    "multi4": "224.0.0.1",
    "loop6": "::1",
    "any6": "::",
    "link6": "fe80::1",
    "multi6": "ff02::1",
    "meta6": "fd00:ec2::254",
    "own6": "fd00:1::1",
    "wan6": OWN,
    "lan6": "fd00:1::2",
    "mapped": "::ffff:127.0.0.1",
    "nat64": "64:ff9b::7f00:1",
    "nat64own": "64:ff9b::cb00:7102",
    "compatible": "::127.0.0.1",
    "6to4": "2002:7f00:1::1",
}
NAMES = {**ZONE, **{name: [address] for name, address in FORBIDDEN.items()}}

SETTINGS = f"""
[explicit]
listeners = [{{ name = "auto", port = 8080 }}]
connect_ports = [{PORT}, {CLOSED}]
"""

WHO = """\
import socket
sock = socket.create_server(("2001:db8:6::80", 7001), family=socket.AF_INET6)
print("ready", flush=True)
while True:
    connection, peer = sock.accept()
    connection.sendall(b"six " + peer[0].encode())
    connection.close()
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """The box with a way to IPv6 of its own."""
    folder = tmp_path_factory.mktemp("dialer")
    records = "".join(
        f"host-record={name}.example,{address}\n"
        for name, addresses in NAMES.items()
        for address in addresses
    )
    (folder / "dnsmasq.conf").write_text(
        "no-resolv\nno-hosts\nlisten-address=203.0.113.1\nbind-interfaces\nlocal=/example/\n" + records
    )
    with Box(folder / "box") as box, Namespace("dialersix") as server6:
        _wire(box, server6)
        box.config.write_text(CONFIG + SETTINGS)
        box.start("dnsmasq", "dnsmasq", "-k", "--pid-file", "-C", folder / "dnsmasq.conf", where=box.server)
        box.start("peers", sys.executable, "-m", "tests.netns.peers", where=box.server)
        box.start("six", sys.executable, "-c", WHO, where=server6)
        box.start_control()
        start_unbound(box)
        box.start_proxy()
        wait_for(lambda: "ready" in box.log("peers") and "ready" in box.log("six"), "the servers")
        wait_for(lambda: _is_open(box), "the listener")
        yield box


def _wire(box: Box, server6: Namespace) -> None:
    subprocess.run(
        ["ip", "link", "add", "six0", "netns", box.box.name, "type", "veth", "peer", "eth0",
         "netns", server6.name],
        check=True,
    )  # fmt: skip
    server6.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    for host, link, address in ((box.box, "six0", OWN), (server6, "eth0", "2001:db8:5::1")):
        host.run("ip", "addr", "add", f"{address}/64", "dev", link, "nodad")
        host.run("ip", "link", "set", link, "up")
    # The firewall lets no neighbour discovery in but on the LAN: the two know each other.
    macs = {}
    for host, link in ((box.box, "six0"), (server6, "eth0")):
        found = re.search(r"link/ether (\S+)", host.run("ip", "link", "show", link).stdout)
        assert found is not None
        macs[link] = found[1]
    box.box.run("ip", "-6", "neigh", "add", "2001:db8:5::1", "lladdr", macs["eth0"], "dev", "six0")
    server6.run("ip", "-6", "neigh", "add", OWN, "lladdr", macs["six0"], "dev", "eth0")
    box.box.run("ip", "-6", "route", "add", "default", "via", "2001:db8:5::1")
    box.box.run("ip", "addr", "add", "203.0.113.12/24", "dev", "wan0")
    for address in (SERVER_V6, "2001:db8:6::81"):
        server6.run("ip", "addr", "add", f"{address}/128", "dev", "lo", "nodad")
    server6.run("ip", "-6", "route", "add", "blackhole", "2001:db8:dead::/48")


def start_unbound(box: Box) -> None:
    box.start("unbound", unguarded("unbound", box.state), "-d", "-c", box.runtime / "unbound.conf")


def _is_open(box: Box) -> bool:
    try:
        return ask(box, "dual.example")[0] == 200
    except ConnectionRefusedError:
        return False


def dial_proxy(box: Box) -> socket.socket:
    """A connection of the client's to the proxy."""
    return box.client.call(lambda: socket.create_connection(("fd00:1::1", 8080), 20))


def _rest(sock: socket.socket) -> bytes:
    out = b""
    while data := sock.recv(4_096):
        out += data
    return out


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def ask(box: Box, host: str, port: int = PORT) -> tuple[int, str, float]:
    """CONNECT: the status, what the origin says (or the head), and how long the answer took."""
    with dial_proxy(box) as sock:
        start = time.monotonic()
        sock.sendall(f"CONNECT {_bracketed(host)}:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(4_096)
            assert data, head
            head += data
        took = time.monotonic() - start
        first, _, rest = head.partition(b"\r\n\r\n")
        status = int(first.split(b" ")[1])
        if status != 200:
            return status, first.decode(), took
        return status, (rest + _rest(sock)).decode(), took


def by_connect(box: Box, host: str) -> bool:
    """Whether a CONNECT is refused by policy."""
    return ask(box, host)[0] == 403


def by_get(box: Box, host: str) -> bool:
    """Whether a GET is."""
    with dial_proxy(box) as sock:
        target = f"{_bracketed(host)}:{PORT}"
        request = f"GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n"
        sock.sendall(request.encode())
        return _rest(sock).startswith(b"HTTP/1.1 403")


def by_socks5(box: Box, host: str) -> bool:
    """Whether SOCKS5 is, the host as a name or as what it is."""
    with dial_proxy(box) as sock:
        sock.sendall(b"\5\1\0")
        assert sock.recv(2) == b"\5\0"
        if ":" in host:
            where = b"\4" + socket.inet_pton(socket.AF_INET6, host)
        elif host[0].isdigit() and host != "6to4.example":
            where = b"\1" + socket.inet_aton(host)
        else:
            where = b"\3" + bytes([len(host)]) + host.encode()
        sock.sendall(b"\5\1\0" + where + struct.pack("!H", PORT))
        return sock.recv(64)[1] == 2


def by_socks4a(box: Box, host: str) -> bool:
    """Whether SOCKS4a is; IPv6 addresses it has none."""
    with dial_proxy(box) as sock:
        if host.endswith(".example"):
            where, tail = bytes((0, 0, 0, 1)), host.encode() + b"\0"
        elif ":" in host or host.startswith("0."):
            return True
        else:
            where, tail = socket.inet_aton(host), b""
        sock.sendall(b"\4\1" + struct.pack("!H", PORT) + where + b"me\0" + tail)
        return sock.recv(8)[1] == 91


PATHS = {"connect": by_connect, "get": by_get, "socks5": by_socks5, "socks4a": by_socks4a}


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("path", PATHS)
def test_what_is_forbidden_is_refused_by_each_path(own: Box, path: str, name: str) -> None:
    refused = PATHS[path]
    assert refused(own, f"{name}.example"), "resolved"
    assert refused(own, FORBIDDEN[name]), "written"
    assert not refused(own, "dual.example"), "the path is no wall"


def test_dual_stack_goes_by_ipv6(own: Box) -> None:
    status, said, _took = ask(own, "dual.example")
    assert (status, said) == (200, f"six {OWN}")
    listed = sessions(own)["sessions"]
    assert all(row["origin"] != SERVER for row in listed)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("four.example", "203.0.113.2"),
        ("six.example", f"six {OWN}"),
        ("mixed.example", f"six {OWN}"),  # the forbidden one of its addresses is left out
        ("refuses.example", "203.0.113.2"),  # IPv6 refuses, IPv4 does not
        (SERVER, "203.0.113.2"),
        (SERVER_V6, f"six {OWN}"),
        ("64:ff9b::192.31.196.80", "203.0.113.2"),
        ("::ffff:192.31.196.80", "203.0.113.2"),
    ],
)
def test_destinations(own: Box, host: str, said: str) -> None:
    status, heard, took = ask(own, host)
    assert (status, heard) == (200, said)
    assert took < 0.4


@pytest.mark.parametrize("name", ["hole", "holes"])
def test_a_black_hole_costs_400_ms_at_most(own: Box, name: str) -> None:
    took = []
    for _ in range(3):
        status, said, seconds = ask(own, f"{name}.example")
        assert (status, said) == (200, "203.0.113.2")
        took.append(seconds)
    assert 0.2 < min(took) < 0.4, took  # the least of three: the machine may be busy
    wait_for(lambda: not _sockets_to(own, "2001:db8:dead::"), "the losers' end")


def _sockets_to(box: Box, address: str) -> bool:
    return address in box.box.run("ss", "-Htn").stdout


@pytest.mark.parametrize(
    ("host", "port", "status", "error"),
    [
        ("dual.example", CLOSED, 502, "connection_refused"),
        ("holes.example", CLOSED, 502, "connection_refused"),  # and not the time-out of the others
        ("nowhere.example", PORT, 504, "connection_timeout"),
        ("none.example", PORT, 502, "dns_error"),
        ("10.0.0.1", PORT, 403, "destination_ip_prohibited"),
    ],
)
def test_the_most_telling_failure(own: Box, host: str, port: int, status: int, error: str) -> None:
    found, head, took = ask(own, host, port)
    assert found == status, head
    assert f"error={error}" in head
    assert took < 5


@contextmanager
def no_ipv6(box: Box) -> Iterator[None]:
    box.box.run("ip", "-6", "route", "del", "default")
    try:
        yield
    finally:
        box.box.run("ip", "-6", "route", "add", "default", "via", "2001:db8:5::1")


def test_without_ipv6_nothing_is_lost(own: Box) -> None:
    with no_ipv6(own):
        for name in ("dual", "hole", "holes"):
            status, said, took = ask(own, f"{name}.example")
            assert (status, said) == (200, "203.0.113.2")
            assert took < 0.2
        status, head, took = ask(own, "six.example")
        assert status == 502, head
        assert "error=destination_ip_unroutable" in head
    # And it is used again, for what has nothing else, at once.
    assert ask(own, "six.example")[0] == 200


def test_a_resolver_that_dies_and_comes_back(own: Box) -> None:
    stop(own.processes["unbound"])
    try:
        status, head, took = ask(own, "uncached-one.example")
        assert status == 504, head
        assert "error=dns_timeout" in head
        assert took <= 5.2
    finally:
        start_unbound(own)
    wait_for(lambda: ask(own, "unasked.example")[0] == 502, "an answer")
    # A question on its way when unbound comes back is not lost: it is sent once more.
    stop(own.processes["unbound"])
    start_unbound(own)
    status, head, took = ask(own, "uncached-two.example")
    assert status == 502, head
    assert took < 3


def test_upstreams_that_hang(own: Box) -> None:
    """unbound itself is alive, but nobody answers it."""
    own.server.run("ip", "addr", "del", "203.0.113.1/24", "dev", "eth0")
    try:
        status, head, took = ask(own, "uncached-three.example")
        assert status in (502, 504), head
        assert "error=dns_" in head
        assert took <= 5.2
    finally:
        own.server.run("ip", "addr", "add", "203.0.113.1/24", "dev", "eth0")
