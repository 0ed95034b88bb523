"""No path leads to the box's own services, loopback, link-local, metadata addresses or the LAN.

Every path against every target in every way of writing it: HTTP, CONNECT, SOCKS 4a and 5, UDP ASSOCIATE,
transparent TCP, UDP and ping under prefixes of each length; published services; a name that leads there, and
one that leads there only the second time it is asked for. Whatever the rules say: they allow everything here.

    client, fd00:1::2 --- [ box: fd00:1::1, 203.0.113.2, a service on every address ] --- server, DNS
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest

from appliance.addressing import TranslationPrefix
from tests.netns.conftest import Box, needs_root, wait_for
from tests.netns.explicit import raw, running
from tests.netns.test_ways import PREFIXES

pytestmark = [pytest.mark.netns, needs_root]

# A service of the box's own that answers on all of its addresses: what nobody may hear.
PORT, SECRET = 7777, b"the box's own"
GUEST = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nguest"
ISLAND = "2001:db8:64::/48"
# A port that is published: there the box's own WAN address leads to a host of the LAN, and nothing else does.
PUBLISHED = 7778
SHARED = 7779  # by Host
_BY_LENGTH = "".join(f'[[translation]]\nprefix = "{prefix}"\n' for prefix in PREFIXES.values())
ISLANDS = f"""
{_BY_LENGTH}
[[translation]]
prefix = "{ISLAND}"
networks = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "192.0.0.0/24"]
[[published]]
name = "guest"
port = {PUBLISHED}
targets = ["[fd00:1::2]:{PUBLISHED}"]
[[published]]
name = "shared"
port = {SHARED}
route = "host"
names = [{{ hosts = ["www.guest.example"], targets = ["[fd00:1::2]:{PUBLISHED}"] }}]
[[rule]]
name = "everything"
action = "allow"
"""
IPV4 = {
    "the box's WAN address": "203.0.113.2",
    "loopback": "127.0.0.1",
    "another loopback": "127.255.0.1",
    "unspecified": "0.0.0.0",
    "link-local": "169.254.1.1",
    "metadata": "169.254.169.254",
    "metadata (Alibaba)": "100.100.100.200",
    "metadata (Oracle)": "192.0.0.192",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
}
IPV6 = {
    "the box's LAN address": "fd00:1::1",
    "a host of the LAN": "fd00:1::2",
    "loopback": "::1",
    "unspecified": "::",
    "link-local": "fe80::1",
    "multicast": "ff02::1",
    "metadata (Amazon)": "fd00:ec2::254",
    "site-local": "fec0::1",
    "another translator's": "64:ff9b:1:fffe::7f00:1",
}


def embedded(address: str) -> dict[str, str]:
    """An IPv4 address in each form that an IPv6 one may have it in."""
    ipv4 = IPv4Address(address)
    packed = ipv4.packed
    inverted = bytes(octet ^ 0xFF for octet in packed)
    found = {
        "mapped": bytes(10) + b"\xff\xff" + packed,
        "compatible": bytes(12) + packed,
        "translated": bytes(8) + b"\xff\xff\0\0" + packed,
        "6to4": b"\x20\x02" + packed + bytes(10),
        "Teredo": b"\x20\x01\0\0" + IPv4Address("192.0.2.1").packed + bytes(4) + inverted,
        "Teredo's server": b"\x20\x01\0\0" + packed + bytes(8),
    }
    texts = {form: str(IPv6Address(octets)) for form, octets in found.items()}
    for prefix in (*PREFIXES.values(), ISLAND):
        made = TranslationPrefix(IPv6Network(prefix)).embed(ipv4)
        texts[prefix] = str(made)
    return texts


def written() -> list[tuple[str, str]]:
    """(what it is, how it is written) of all targets."""
    found = [*IPV4.items(), *IPV6.items()]
    for what, address in IPV4.items():
        found += [(f"{what}, {form}", text) for form, text in embedded(address).items()]
    return found


class Names(threading.Thread):
    """A DNS server on the WAN: tN.reach.example leads to target N; rebind.reach.example a good one once."""

    def __init__(self, sock: socket.socket, targets: list[str]) -> None:
        super().__init__(daemon=True)
        self._socket = sock
        self._targets = targets
        self.rebound = 0

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, client = self._socket.recvfrom(4_096)
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        label = query[13 : 13 + query[12]].decode().lower()
        end = query.index(b"\0", 12) + 5
        kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
        address = None
        if label == "rebind":
            if kind == 1:
                self.rebound += 1
                address = ip_address("192.31.196.80" if self.rebound == 1 else "203.0.113.2")
        elif label[:1] == "t" and label[1:].isdecimal():
            address = ip_address(self._targets[int(label[1:])])
        records = b""
        if address is not None and (kind == 1) is (address.version == 4) and kind in (1, 28):
            data = address.packed
            records = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(data)) + data
        head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, int(bool(records)), 0, 0)
        return head + query[12:end] + records


TARGETS = written()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that has more addresses, and a service on each."""
    with running(tmp_path_factory.mktemp("reach"), ISLANDS) as box:
        for address in ("10.9.9.9/32", "169.254.1.1/32", "169.254.169.254/32", "100.100.100.200/32"):
            box.box.run("ip", "addr", "add", address, "dev", "lo")
        script = (
            "import socket, threading\n"
            "def serve(family, host):\n"
            "    tcp = socket.socket(family); tcp.setsockopt(1, 2, 1)\n"
            "    if family == socket.AF_INET6: tcp.setsockopt(41, 26, 1)\n"
            f"    tcp.bind((host, {PORT})); tcp.listen(64)\n"
            "    def accept():\n"
            "        while True:\n"
            f"            one = tcp.accept()[0]; one.sendall({SECRET!r}); one.close()\n"
            "    udp = socket.socket(family, socket.SOCK_DGRAM)\n"
            "    if family == socket.AF_INET6: udp.setsockopt(41, 26, 1)\n"
            f"    udp.bind((host, {PORT}))\n"
            "    def echo():\n"
            "        while True:\n"
            f"            udp.sendto({SECRET!r}, udp.recvfrom(2000)[1])\n"
            "    threading.Thread(target=accept).start(); threading.Thread(target=echo).start()\n"
            "serve(socket.AF_INET, '0.0.0.0'); serve(socket.AF_INET6, '::')\n"
            "print('ready', flush=True)\n"
        )
        box.start("secrets", sys.executable, "-c", script)
        box.start("lan-secrets", sys.executable, "-c", script, where=box.client)
        guest = (
            "import socket\n"
            f"tcp = socket.create_server(('fd00:1::2', {PUBLISHED}), family=socket.AF_INET6)\n"
            "print('ready', flush=True)\n"
            "while True:\n"
            "    one = tcp.accept()[0]\n"
            "    try:\n"
            f"        one.recv(9999) and one.sendall({GUEST!r})\n"
            "    except OSError:\n"
            "        pass\n"  # the box only looks whether it is there
            "    one.close()\n"
        )
        box.start("guest", sys.executable, "-c", guest, where=box.client)
        for name in ("secrets", "lan-secrets", "guest"):
            wait_for(lambda name=name: "ready" in box.log(name), name)  # type: ignore[misc]
        box.processes["dnsmasq"].terminate()
        box.processes["dnsmasq"].wait()

        def bound() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("203.0.113.1", 53))
            return sock

        sock = box.server.call(bound)
        names = Names(sock, [address for _what, address in TARGETS])
        names.start()
        yield box
        sock.close()


# What a client's own kernel sends nowhere, or to its own link, which is none of the box's paths.
_CLIENTS_OWN = {"fd00:1::1", "fd00:1::2", "::", "::1", "fe80::1", "ff02::1"}


def host_of(address: str) -> str:
    """As it stands in a URL."""
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("way", ["http", "connect"])
def test_by_http(own: Box, way: str) -> None:
    for number, (what, address) in enumerate(TARGETS):
        for host in (host_of(address), f"t{number}.reach.example"):
            if way == "http":
                request = f"GET http://{host}:{PORT}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            else:
                request = f"CONNECT {host}:{PORT} HTTP/1.1\r\nHost: {host}\r\n\r\n"
            answer = raw(own, 3128, request.encode())
            assert SECRET not in answer, (what, host)
            assert answer[9:10] in b"45", (what, host, answer[:80])


def test_by_socks(own: Box) -> None:
    for number, (what, address) in enumerate(TARGETS):
        packed = ip_address(address).packed
        name = f"t{number}.reach.example".encode()
        port = struct.pack("!H", PORT)
        written_out = (b"\1" if len(packed) == 4 else b"\4") + packed
        for place in (written_out, b"\3" + bytes([len(name)]) + name):
            answer = raw(own, 1080, b"\5\1\0\5\1\0" + place + port, end=False)
            assert SECRET not in answer, (what, place)
            assert answer[:3] == b"\5\0\5" and answer[3] != 0, (what, place, answer)
        answer = raw(own, 1080, b"\4\1" + port + b"\0\0\0\1\0" + name + b"\0", end=False)
        assert SECRET not in answer, (what, "SOCKS 4a")
        assert answer[1:2] != b"\x5a", (what, "SOCKS 4a")


def test_by_socks_datagrams(own: Box) -> None:
    def ask() -> list[bytes]:
        found = []
        with (
            socket.create_connection(("fd00:1::1", 1080), 10) as control,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock,
        ):
            control.sendall(b"\5\1\0")
            control.recv(2)
            control.sendall(b"\5\3\0\4" + bytes(16) + b"\0\0")
            (port,) = struct.unpack("!H", control.recv(100)[20:22])
            for number, (_what, address) in enumerate(TARGETS):
                packed = ip_address(address).packed
                name = f"t{number}.reach.example".encode()
                for place in (
                    (b"\1" if len(packed) == 4 else b"\4") + packed,
                    b"\3" + bytes([len(name)]) + name,
                ):
                    sock.sendto(b"\0\0\0" + place + struct.pack("!H", PORT) + b"x", ("fd00:1::1", port))
                    time.sleep(0.002)  # as many as the box's buffer has room for
            # And one that may: so the others were not only lost.
            good = b"\0\0\0\1" + socket.inet_aton("192.31.196.80") + struct.pack("!H", 7101) + b"good"
            sock.settimeout(3)
            sock.sendto(good, ("fd00:1::1", port))
            with contextlib.suppress(TimeoutError):
                while True:
                    found.append(sock.recv(2_000))
        return found

    answers = own.client.call(ask)
    assert any(answer.endswith(b"good") for answer in answers)
    assert not [answer for answer in answers if SECRET in answer]


def test_transparent(own: Box) -> None:
    """TCP and UDP to what the prefixes embed, and to any other form that the client's route brings here."""

    def ask() -> list[str]:
        heard = []
        with contextlib.ExitStack() as stack:
            udp = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            udp.bind(("fd00:1::2", 0))
            dialled = []
            for what, address in TARGETS:
                if ":" not in address or address in _CLIENTS_OWN:
                    continue
                with contextlib.suppress(OSError):
                    udp.sendto(b"x", (address, PORT))
                tcp = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
                tcp.setblocking(False)
                with contextlib.suppress(OSError):
                    tcp.bind(("fd00:1::2", 0))
                    tcp.connect_ex((address, PORT))
                    dialled.append((what, address, tcp))
            # Longer than a dial takes that nobody answers (4 s): none is about to be accepted yet.
            time.sleep(5)
            for what, address, tcp in dialled:
                with contextlib.suppress(OSError):
                    if tcp.recv(100):
                        heard.append(f"TCP: {what}: {address}")
            udp.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    with contextlib.suppress(ConnectionRefusedError, PermissionError):
                        data, sender = udp.recvfrom(100)
                        heard.append(f"UDP: {data!r} of {sender[0]}")
        return heard

    assert own.client.call(ask) == []


@pytest.mark.parametrize("prefix", [*PREFIXES.values(), ISLAND])
@pytest.mark.parametrize("what", ["the box's WAN address", "loopback", "metadata"])
def test_ping(own: Box, prefix: str, what: str) -> None:
    target = embedded(IPV4[what])[prefix]
    done = own.client.run("ping", "-c1", "-W1", target, check=False).stdout
    assert "1 received" not in done


def test_a_name_that_leads_elsewhere_the_second_time(own: Box) -> None:
    """What was judged is what is dialled: the name is not asked for between the two."""
    for _ in range(3):
        request = (
            f"GET http://rebind.reach.example:{PORT}/ HTTP/1.1\r\nHost: rebind\r\nConnection: close\r\n\r\n"
        )
        answer = raw(own, 3128, request.encode())
        assert SECRET not in answer
        assert answer[9:10] in b"45", answer[:80]
        time.sleep(0.1)


def test_what_is_published_opens_its_port_alone(own: Box) -> None:
    """A client of the LAN comes to it by the WAN's address, by no other of the box's."""
    for what, address in TARGETS:
        host = host_of(address)
        request = f"GET http://{host}:{PUBLISHED}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        answer = raw(own, 3128, request.encode())
        leads_there = what.startswith("the box's WAN address") and answer.endswith(b"guest")
        assert leads_there or answer[9:10] in b"45", (what, answer[:80])
    good = f"GET http://203.0.113.2:{PUBLISHED}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert raw(own, 3128, good.encode()).endswith(b"guest"), "or the others were only not there"


def test_by_published_services(own: Box) -> None:
    """From the WAN: a shared port leads where its names say, whatever Host says; no other port answers."""
    own.server.run("ip", "route", "add", "10.9.9.9/32", "via", "203.0.113.2")

    def ask(address: str, port: int, host: str = "") -> bytes:
        def connect() -> bytes:
            with contextlib.suppress(OSError), socket.create_connection((address, port), 2) as sock:
                sock.settimeout(5)
                sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                return sock.recv(200)
            return b""

        return own.server.call(connect)

    for address in ("203.0.113.2", "10.9.9.9"):
        assert ask(address, PORT) == b"", address
    for number, (what, address) in enumerate(TARGETS[:40]):
        for host in (host_of(address), f"{host_of(address)}:{PORT}", f"t{number}.reach.example"):
            assert ask("203.0.113.2", SHARED, host) == b"", (what, host)
    assert ask("203.0.113.2", SHARED, "www.guest.example").endswith(b"guest")
