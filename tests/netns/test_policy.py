"""One policy on every path: what a rule denies is denied by each, with its name in the answer and the log."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.netns.conftest import BIN, SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import BOX, FILES, FILES_ADDRESS, NAME, SCHEMES, curl, raw, running
from tests.netns.hosts import connect, read_all, sessions, udp_socket
from tests.netns.test_lifecycle import replaced, workers
from tests.unit.protocol.quic import crypto, initial
from tests.unit.protocol.test_sniff import client_hello

pytestmark = [pytest.mark.netns, needs_root]

FILES6 = "64:ff9b::c01f:c451"
KID = "fd00:1::4"
READER = "fd00:1::5"
WEB = "192.31.196.80"
REFERENCE = re.compile(r"[0-9A-Z]{4}-[0-9A-Z]{4}")

RULES = f"""
[policy]
aliases = "all"
[[rule]]
name = "homework"
action = "deny"
sources = ["{KID}/128"]
ports = [80, 443]
note = "Homework first."
[[rule]]
name = "no-address"
action = "deny"
destinations = ["{FILES_ADDRESS}/32"]
ports = [81, 443, 7004]
[[rule]]
name = "this-one"
action = "allow"
domains = ["=good.blocked.example"]
[[rule]]
name = "no-name"
action = "deny"
domains = ["blocked.example"]
[[rule]]
name = "not-that-port"
action = "deny"
domains = ["{NAME}"]
ports = [7002]
[[rule]]
name = "no-datagrams"
action = "deny"
protocols = ["udp"]
ports = [7102]
[[rule]]
name = "no-ping"
action = "deny"
protocols = ["icmp"]
destinations = ["{FILES_ADDRESS}/32"]
[[rule]]
name = "no-path"
action = "deny"
urls = ["{FILES}/secret*"]
[[rule]]
name = "texts"
action = "allow"
sources = ["{READER}/128"]
content_types = ["text/*"]
[[rule]]
name = "nothing-else"
action = "deny"
sources = ["{READER}/128"]
[[rule]]
name = "no-films"
action = "deny"
content_types = ["video/*"]
[[rule]]
name = "too-large"
action = "deny"
larger_than = 100000
ways = ["http"]
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with an explicit proxy, and rules."""
    folder = tmp_path_factory.mktemp("policy")
    with running(folder, RULES) as box:
        # Deprecated: used by nobody who does not ask for it.
        for address in (KID, READER):
            box.client.run("ip", "addr", "add", f"{address}/64", "dev", "eth0", "nodad", "preferred_lft", "0")
        www = folder / "www"
        (www / "film.mp4").write_bytes(b"film")
        (www / "small.txt").write_bytes(b"small")
        (www / "secret.txt").write_bytes(b"secret")
        (www / "large.bin").write_bytes(bytes(100_001))
        yield box


def last_row(box: Box, **wanted: Any) -> dict[str, Any]:
    """The newest row of the log with these values; it is written once a second."""
    deadline = time.monotonic() + 5
    while True:
        rows = box.sessions_logged()
        for row in reversed(rows):
            if all(row.get(key) == value for key, value in wanted.items()):
                return row
        assert time.monotonic() < deadline, f"no row with {wanted} in {rows[-3:]}"
        time.sleep(0.1)


class TestTransparent:
    """Hosts that know nothing of a proxy."""

    def test_a_denied_address_is_told_at_once(self, own: Box) -> None:
        with pytest.raises(PermissionError):
            connect(own, 7004, FILES6)
        row = last_row(own, refused="denied", origin=FILES_ADDRESS, origin_port=7004)
        assert row["rule"] == "no-address"

    def test_another_port_of_it_is_not_denied(self, own: Box) -> None:
        with pytest.raises(ConnectionRefusedError):
            connect(own, 7999, FILES6)

    def test_a_client(self, own: Box) -> None:
        with pytest.raises(PermissionError):
            connect(own, 443, SERVER6, source=KID)
        connect(own, 7004, SERVER6, source=KID).close()
        assert last_row(own, refused="denied", client=KID)["rule"] == "homework"

    def test_datagrams(self, own: Box) -> None:
        with udp_socket(own) as sock:
            sock.connect((SERVER6, 7102))
            sock.send(b"hello")
            with pytest.raises(PermissionError):
                sock.recv(100)
            assert last_row(own, kind="udp", rule="no-datagrams")["end"] == "denied"
        with udp_socket(own) as sock:
            sock.sendto(b"hello", (SERVER6, 7101))
            assert sock.recv(100).endswith(b"hello")

    def test_ping(self, own: Box) -> None:
        assert "1 received" in own.client.run("ping", "-c1", "-W3", SERVER6).stdout
        denied = own.client.run("ping", "-c1", "-W3", FILES6, check=False).stdout
        assert "prohibited" in denied
        assert last_row(own, kind="icmp", refused="denied")["rule"] == "no-ping"

    @pytest.mark.parametrize(
        ("name", "goes"), [("blocked.example", False), ("good.blocked.example", True), ("else.example", True)]
    )
    @pytest.mark.parametrize(("scheme", "port", "named_by"), [("https", 443, "sni"), ("http", 80, "host")])
    def test_a_name_that_only_the_client_says(
        self, own: Box, name: str, goes: bool, scheme: str, port: int, named_by: str
    ) -> None:
        done = curl(
            own, "-k", "-o", "/dev/null", "--resolve", f"{name}:{port}:{SERVER6}", f"{scheme}://{name}/"
        )
        assert (done.returncode == 0) is goes, done.stderr
        row = last_row(own, name=name, named_by=named_by)
        expected = {"blocked.example": "no-name", "good.blocked.example": "this-one"}
        assert row["rule"] == expected.get(name, "default")
        assert (row["end"] == "denied") is not goes

    @pytest.mark.parametrize(
        "head",
        [
            b"GET / HTTP/1.1\nHost: blocked.example\n\n",
            b"GET / HTTP/1.1\r\nHost: else.example\r\nHost: blocked.example\r\n\r\n",
            b"get / HTTP/1.1\r\nHost: blocked.example\r\n\r\n",
        ],
    )
    def test_a_name_that_we_cannot_read_but_a_server_might(self, own: Box, head: bytes) -> None:
        with connect(own, 80) as sock, pytest.raises(ConnectionResetError):
            sock.sendall(head)
            sock.settimeout(5)
            sock.recv(100)
        assert last_row(own, rule="(unreadable)")["end"] == "denied"

    @pytest.mark.parametrize(
        ("begin", "name", "goes"),
        [
            (b"", b"else.example", True),
            (b"", b"blocked.example", False),
            (b"\r\n", b"blocked.example", False),
        ],
    )
    def test_a_name_that_is_long_in_coming(self, own: Box, begin: bytes, name: bytes, goes: bool) -> None:
        """A head in pieces is waited for: its second packet may have been lost."""
        with connect(own, 80) as sock:
            sock.sendall(begin + b"GET / HTTP/1.1\r\nHo")
            time.sleep(1.0)
            sock.sendall(b"st: " + name + b"\r\n\r\n")
            sock.settimeout(5)
            if goes:
                assert sock.recv(100).startswith(b"HTTP/1.")
            else:
                with pytest.raises(ConnectionResetError):
                    sock.recv(100)
        if not goes:
            assert last_row(own, end="denied", named_by="host")["rule"] == "no-name"

    @pytest.mark.parametrize("pieces", [1, 2])
    def test_a_name_in_quic(self, own: Box, pieces: int) -> None:
        """The Initials of a denied name are answered with an error, those of another go on."""
        for name in ("www.blocked.example", "else.example"):
            hello = client_hello(name)[5:]
            size = -(-len(hello) // pieces)
            frames = [crypto(at, hello[at : at + size]) for at in range(0, len(hello), size)]
            datagrams = [initial(frame.ljust(1162, b"\0"), number=n) for n, frame in enumerate(frames)]
            with udp_socket(own) as sock:
                sock.connect((SERVER6, 7101))
                for datagram in datagrams:
                    sock.send(datagram)
                if name == "else.example":
                    assert [sock.recv(2_000)[-1_000:] for _ in datagrams] == [d[-1_000:] for d in datagrams]
                else:
                    with pytest.raises(PermissionError):
                        for _ in datagrams:
                            sock.recv(2_000)
        assert last_row(own, kind="udp", end="denied", name="www.blocked.example")["named_by"] == "sni"

    def test_datagrams_that_are_no_quic(self, own: Box) -> None:
        with udp_socket(own) as sock:
            sock.sendto(b"hello", (SERVER6, 7101))
            assert sock.recv(100).endswith(b"hello")

    def test_a_client_that_says_nothing_is_not_kept_waiting(self, own: Box) -> None:
        """A server that speaks first, and one that is spoken to late."""
        with connect(own, 7001) as sock:
            sock.settimeout(5)
            assert sock.recv(100) == b"203.0.113.2"
        with connect(own, 7004) as sock:
            sock.settimeout(5)
            time.sleep(0.5)
            sock.sendall(b"late")
            assert sock.recv(100) == b"late"

    def test_octets_that_were_listened_to_are_not_lost(self, own: Box) -> None:
        with connect(own, 7004) as sock:
            sock.settimeout(5)
            for piece in (b"GET / HT", b"TP/1.1\r\nHo", b"st: else.example\r\n\r\n"):
                sock.sendall(piece)
                time.sleep(0.05)
            wanted = b"GET / HTTP/1.1\r\nHost: else.example\r\n\r\n"
            found = b""
            while len(found) < len(wanted):
                found += sock.recv(100)
            assert found == wanted
        assert last_row(own, name="else.example", origin_port=7004)["named_by"] == "host"


class TestNamesOfTheDns:
    """What a client has asked the DNS for is known before it says a word."""

    @pytest.fixture(scope="class")
    def address(self, own: Box) -> str:
        """What the DNS front says of NAME."""
        own.start("dns64", BIN / "isthmus-dns64", "--config", own.config, "--runtime", own.runtime)
        answer = ""

        def answered() -> bool:
            nonlocal answer
            done = own.client.run("dig", "+short", "+tries=1", "AAAA", NAME, "@fd00:1::1", check=False)
            answer = done.stdout.strip()
            return done.returncode == 0 and ":" in answer

        wait_for(answered, f"the DNS\n{own.log('dns64')}")
        return answer

    def test_a_session_has_its_name(self, own: Box, address: str) -> None:
        source = self.ask(own)
        with connect(own, 7004, address, source=source) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        assert last_row(own, name=NAME, origin_port=7004)["named_by"] == "dns"

    def test_a_rule_about_it_refuses_the_very_syn(self, own: Box, address: str) -> None:
        source = self.ask(own)
        with pytest.raises(PermissionError):
            connect(own, 7002, address, source=source)
        row = last_row(own, refused="denied", origin_port=7002)
        assert (row["rule"], row["name"]) == ("not-that-port", NAME)

    def test_a_client_that_makes_ipv6_of_ipv4_itself(self, own: Box, address: str) -> None:
        """464XLAT (RFC 6877): what it was told is an IPv4 address, what it writes to the prefix's."""
        source = "fd00:1::3"
        told = own.client.run("dig", "+short", "-b", source, "A", NAME, "@fd00:1::1").stdout.split()
        assert told == [WEB]
        with connect(own, 7004, f"64:ff9b::{WEB}", source=source) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        row = last_row(own, client=source, origin_port=7004)
        assert (row["name"], row["named_by"]) == (NAME, "dns")
        with pytest.raises(PermissionError):
            connect(own, 7002, f"64:ff9b::{WEB}", source=source)
        assert last_row(own, client=source, refused="denied", origin_port=7002)["rule"] == "not-that-port"
        with udp_socket(own, source) as datagrams:
            datagrams.sendto(b"x", (f"64:ff9b::{WEB}", 7101))
            assert datagrams.recv(100).endswith(b"x")
            assert NAME in {one["name"] for one in sessions(own, "--search", source)["sessions"]}
        assert address

    def test_a_name_in_quic_that_is_another_than_the_one_asked_for(self, own: Box, address: str) -> None:
        """Both are judged, and the record has both."""
        source = self.ask(own)

        def server() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((WEB, 443))
            sock.settimeout(3)
            return sock

        with own.server.call(server) as origin:
            for name, goes in (("c.blocked.example", False), ("else.example", True), (NAME, True)):
                with udp_socket(own, source) as sock:
                    sock.connect((address, 443))
                    port = sock.getsockname()[1]
                    sock.send(initial(crypto(0, client_hello(name)[5:]).ljust(1162, b"\0")))
                    if not goes:
                        with pytest.raises(PermissionError):
                            sock.recv(100)
                        row = last_row(own, kind="udp", client_port=port)
                        assert (row["end"], row["rule"]) == ("denied", "no-name")
                        assert (row["name"], row["dns_name"], row["named_by"]) == (name, NAME, "sni")
                        continue
                    data, peer = origin.recvfrom(2_000)
                    assert len(data) >= 1_200
                    origin.sendto(b"answer", peer)
                    assert sock.recv(100) == b"answer"
                    (found,) = [
                        one
                        for one in sessions(own, "--search", source)["sessions"]
                        if one["client_port"] == port
                    ]
                    assert found["name"] == name
                    assert found["dns_name"] == (NAME if name != NAME else None)

    def test_a_denied_name_has_no_address(self, own: Box, address: str) -> None:
        for kind in ("A", "AAAA", "HTTPS"):
            answer = own.client.run("dig", kind, "www.blocked.example", "@fd00:1::1").stdout
            assert "ANSWER: 0" in answer
            assert "no-name" in answer, "the rule is named (RFC 8914)"
        assert ":" in address

    def ask(self, own: Box) -> str:
        """Ask for NAME; the address that the client asked from."""
        own.client.run("dig", "+short", "-b", "fd00:1::2", "AAAA", NAME, "@fd00:1::1")
        return "fd00:1::2"


def asked(box: Box, url: str, *words: str, scheme: str = "http") -> tuple[int, str]:
    """Status and answer by the explicit proxy."""
    done = curl(box, "-x", SCHEMES[scheme], "-i", *words, url)
    return int(done.stdout.split()[1]), done.stdout


class TestExplicit:
    """Clients that know of the proxy are told which rule it was."""

    def test_a_page_says_which_rule_it_was(self, own: Box) -> None:
        status, text = asked(own, "http://www.blocked.example/", "-H", "Accept: text/html")
        assert status == 403
        assert "Rule: no-name" in text
        assert "http_request_denied" in text
        assert last_row(own, refused="denied", origin="www.blocked.example")["rule"] == "no-name"

    def test_the_owner_has_a_word(self, own: Box) -> None:
        done = curl(own, "--interface", KID, "-x", SCHEMES["http"], f"http://{NAME}/")
        assert "Homework first." in done.stdout

    def test_connect(self, own: Box) -> None:
        head = raw(
            own, 3128, b"CONNECT www.blocked.example:443 HTTP/1.1\r\nHost: www.blocked.example\r\n\r\n"
        )
        assert head.startswith(b"HTTP/1.1 403")
        assert b'details="rule no-name, reference ' in head

    @pytest.mark.parametrize(
        "target",
        [
            FILES_ADDRESS,
            f"[::ffff:{FILES_ADDRESS}]",
            f"[{FILES6}]",
            "[2002:c01f:c451::1]",
            f"[2001:0:5ef5:79fd:0:0:{0xFFFF ^ 0xC01F:x}:{0xFFFF ^ 0xC451:x}]",
            FILES,
        ],
    )
    def test_no_way_of_writing_it_is_a_way_round(self, own: Box, target: str) -> None:
        """And a name that leads to it is judged again by the address."""
        head = raw(own, 3128, f"CONNECT {target}:443 HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        assert head.startswith(b"HTTP/1.1 403"), head
        assert b'details="rule no-address, reference ' in head

    def test_socks_says_that_a_rule_forbids_it(self, own: Box) -> None:
        for address in (b"\x01" + socket.inet_aton(FILES_ADDRESS), b"\x03\x0fblocked.example"):
            request = b"\x05\x01\0" + b"\x05\x01\0" + address + struct.pack("!H", 443)
            assert raw(own, 1080, request)[2:4] == b"\x05\x02"
        row = last_row(own, refused="denied", origin="blocked.example")
        assert row["rule"] == "no-name"
        assert REFERENCE.fullmatch(row["reference"])

    def test_a_path(self, own: Box) -> None:
        assert asked(own, f"http://{FILES}/small.txt")[0] == 200
        status, text = asked(own, f"http://{FILES}/secret.txt")
        assert status == 403
        assert "no-path" in text

    @pytest.mark.parametrize(("file", "rule"), [("film.mp4", "no-films"), ("large.bin", "too-large")])
    def test_content(self, own: Box, file: str, rule: str) -> None:
        status, text = asked(own, f"http://{FILES}/{file}")
        assert status == 403
        assert rule in text
        assert last_row(own, name=FILES, end="denied", rule=rule)
        assert asked(own, f"http://{FILES}/small.txt")[0] == 200, "the client goes on"

    def test_content_that_a_rule_allows_where_all_else_is_denied(self, own: Box) -> None:
        status, text = asked(own, f"http://{FILES}/small.txt", "--interface", READER)
        assert (status, text[-5:]) == (200, "small")
        status, text = asked(own, f"http://{FILES}/film.mp4", "--interface", READER)
        assert status == 403
        assert "nothing-else" in text
        head = curl(own, "--interface", READER, "-x", SCHEMES["http"], "-k", f"https://{NAME}/")
        assert "403" in head.stdout, "a tunnel has no content that could be looked at"

    def test_a_row_names_the_rule_that_allowed(self, own: Box) -> None:
        assert asked(own, f"http://{NAME}/")[0] == 200
        assert last_row(own, name=NAME, named_by="asked", service="http")["rule"] == "default"


def inside(box: Box, listener: str, target: str, words: bytes, *, early: bool = False) -> tuple[bytes, bytes]:
    """What a listener says to a client that wants a tunnel, and what comes back by it for ``words``."""
    host, port = target.rsplit(":", 1)

    def ask() -> tuple[bytes, bytes]:
        sock = socket.create_connection(("fd00:1::1", PORTS[listener]), 10)
        if listener == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        with sock:
            sock.settimeout(10)
            if listener == "socks":
                name = host.encode()
                opening = b"\5\1\0\5\1\0\3" + bytes([len(name)]) + name + struct.pack("!H", int(port))
            else:
                opening = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
            sock.sendall(opening + words if early else opening)
            granted = b""
            while (len(granted) < 12) if listener == "socks" else (b"\r\n\r\n" not in granted):
                granted += sock.recv(12 - len(granted) if listener == "socks" else 1)
            found = b""
            with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
                if not early:
                    sock.sendall(words)
                found = sock.recv(100)
            return granted, found

    return box.client.call(ask)


PORTS = {"http": 3128, "https": 3129, "socks": 1080}


class TestInsideTunnels:
    """What a client says in its tunnel is judged beside the name that it asked for."""

    @pytest.mark.parametrize("early", [False, True])
    @pytest.mark.parametrize("listener", PORTS)
    def test_another_name_than_the_one_asked_for(self, own: Box, listener: str, early: bool) -> None:
        for name, goes in (("a.blocked.example", False), ("else.example", True), (NAME, True)):
            granted, answer = inside(own, listener, f"{NAME}:443", client_hello(name), early=early)
            assert b"200" in granted or granted[2:4] == b"\5\0", granted
            assert bool(answer) is goes, name
            row = last_row(own, name=name, service=listener, origin_port=443)
            if name == NAME:
                assert row["named_by"] == "asked" and "dns_name" not in row
                continue
            assert (row["dns_name"], row["named_by"]) == (NAME, "sni"), "a mismatch is told"
            assert (row["end"] == "denied") is not goes
            assert row["rule"] == ("default" if goes else "no-name")
            reference = REFERENCE.fullmatch(row.get("reference", ""))
            assert (reference is not None) is not goes, row

    @pytest.mark.parametrize("listener", PORTS)
    def test_a_tunnel_to_an_address_is_judged_by_what_is_said_in_it(self, own: Box, listener: str) -> None:
        for name, goes in (("b.blocked.example", False), ("good.blocked.example", True)):
            answer = inside(own, listener, f"{WEB}:443", client_hello(name))[1]
            assert bool(answer) is goes
            row = last_row(own, name=name, service=listener, origin=WEB)
            assert "dns_name" not in row, "an address is no other name"
            assert row["rule"] == ("this-one" if goes else "no-name")

    def test_the_host_of_plain_http(self, own: Box) -> None:
        """What is asked for by its address is heard on any port."""
        words = b"GET / HTTP/1.1\r\nHost: www.blocked.example\r\n\r\n"
        assert inside(own, "socks", f"{WEB}:80", words)[1] == b""
        assert last_row(own, name="www.blocked.example", service="socks")["named_by"] == "host"
        assert inside(own, "socks", f"{WEB}:7004", words)[1] == b""
        assert inside(own, "socks", f"{WEB}:7004", words.replace(b"blocked", b"free"))[1]

    def test_a_server_that_speaks_first(self, own: Box) -> None:
        begun = time.monotonic()
        assert inside(own, "socks", f"{WEB}:7001", b"")[1] == b"203.0.113.2"
        assert time.monotonic() - begun < 3

    def test_an_end_before_any_word_is_passed_on(self, own: Box) -> None:
        """The digest of nothing, by a tunnel whose client half-closes at once."""
        with connect(own, 1080, "fd00:1::1") as sock:
            sock.sendall(b"\5\1\0\5\1\0\1" + socket.inet_aton(WEB) + struct.pack("!H", 7002))
            granted = b""
            while len(granted) < 12:
                granted += sock.recv(12 - len(granted))
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == hashlib.sha256().hexdigest().encode()


@pytest.mark.parametrize("way", ["http", "connect", "socks", "datagrams"])
def test_a_name_that_leads_to_a_denied_one(own: Box, way: str) -> None:
    """``policy.aliases``: the CNAME is seen whoever resolves it."""
    name = "veil.example"
    if way == "http":
        status, text = asked(own, f"http://{name}/", "-H", "Accept: text/html")
        assert (status, "Rule: no-name" in text) == (403, True)
    elif way == "connect":
        head = raw(own, 3128, f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        assert head.startswith(b"HTTP/1.1 403") and b"rule no-name" in head
    elif way == "socks":
        words = b"\5\1\0\5\1\0\3" + bytes([len(name)]) + name.encode() + struct.pack("!H", 443)
        assert raw(own, 1080, words, end=False)[2:4] == b"\5\2"
    else:
        assert not associated(own, name, 7101)
        row = last_row(own, kind="udp", origin=name)
        assert associated(own, NAME, 7101)
    if way != "datagrams":
        row = last_row(own, name=name, end="denied")
        assert asked(own, "http://alias.example/")[0] == 200, "one that leads to an allowed name"
    assert row["rule"] == "no-name"
    assert REFERENCE.fullmatch(row["reference"])


def associated(box: Box, host: str, port: int, *datagrams: bytes) -> list[bytes]:
    """What the echo answers to datagrams by SOCKS, in their order; an IPv4 address is written as one."""

    def ask() -> list[bytes]:
        with (
            socket.create_connection(("fd00:1::1", 1080), 10) as control,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock,
        ):
            control.sendall(b"\5\1\0")
            control.recv(2)
            control.sendall(b"\5\3\0\4" + bytes(16) + b"\0\0")
            (at,) = struct.unpack("!H", control.recv(100)[20:22])
            place = b"\3" + bytes([len(host)]) + host.encode()
            with contextlib.suppress(OSError):
                place = b"\1" + socket.inet_aton(host)
            found = []
            sock.settimeout(1)
            for datagram in datagrams or (b"hello",):
                sock.sendto(b"\0\0\0" + place + struct.pack("!H", port) + datagram, ("fd00:1::1", at))
                with contextlib.suppress(TimeoutError):
                    found.append(sock.recv(2_000))
            return found

    return box.client.call(ask)


@contextlib.contextmanager
def echo(box: Box, address: str, port: int) -> Iterator[None]:
    """An echo of datagrams on the server's side."""

    def bound() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, port))
        sock.settimeout(0.1)
        return sock

    over = threading.Event()
    with box.server.call(bound) as sock:

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    sock.sendto(*sock.recvfrom(2_000))

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        over.set()
        thread.join()


class TestInsideDatagrams:
    """QUIC by SOCKS: what its Initials say is judged beside what the client writes before them."""

    def hello(self, name: str) -> bytes:
        return initial(crypto(0, client_hello(name)[5:]).ljust(1162, b"\0"))

    def test_another_name_than_the_one_asked_for(self, own: Box) -> None:
        with echo(own, WEB, 443):
            for name, goes in (("e.blocked.example", False), ("f.else.example", True), (NAME, True)):
                assert bool(associated(own, NAME, 443, self.hello(name))) is goes, name
                row = last_row(own, kind="udp", name=name, service="socks", origin_port=443)
                if name == NAME:
                    assert row["named_by"] == "asked" and "dns_name" not in row
                    continue
                assert (row["dns_name"], row["named_by"]) == (NAME, "sni"), "a mismatch is told"
                assert row["rule"] == ("default" if goes else "no-name")
                assert (row["end"] == "denied") is not goes
                assert (REFERENCE.fullmatch(row.get("reference", "")) is not None) is not goes

    def test_an_address_is_judged_by_what_is_said_to_it(self, own: Box) -> None:
        for name, goes in (("g.blocked.example", False), ("good.blocked.example", True)):
            assert bool(associated(own, WEB, 7101, self.hello(name))) is goes
            row = last_row(own, kind="udp", name=name, service="socks", origin=WEB)
            assert "dns_name" not in row, "an address is no other name"
            assert row["rule"] == ("this-one" if goes else "no-name")

    @pytest.mark.parametrize("name", ["h.blocked.example", "i.else.example"])
    def test_a_hello_of_two_datagrams(self, own: Box, name: str) -> None:
        """Nothing is lost where it goes on; the name is in the second one."""
        hello = client_hello(name)[5:]
        halves = [crypto(0, hello[:40]), crypto(40, hello[40:])]
        datagrams = [initial(half.ljust(1162, b"\0"), number=n) for n, half in enumerate(halves)]
        found = associated(own, WEB, 7101, *datagrams)
        assert len(found) == (2 if "else" in name else 1)
        assert (last_row(own, kind="udp", name=name)["end"] == "denied") is ("else" not in name)

    def test_what_is_no_quic_goes_on(self, own: Box) -> None:
        assert associated(own, WEB, 7101)[0].endswith(b"hello")
        assert last_row(own, kind="udp", origin=WEB, service="socks", name=WEB)["rule"] == "default"


def explained(box: Box, *words: str) -> dict[str, Any]:
    """`isthmus explain --json`."""
    done = subprocess.run(
        [BIN / "isthmus", "--runtime", str(box.runtime), "explain", "--json", *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class TestExplain:
    """`isthmus explain` says what the wire shows."""

    @pytest.mark.parametrize(
        ("words", "allow", "rule"),
        [
            (("--client", KID, "--to", f"{NAME}:443"), False, "homework"),
            (("--to", "www.blocked.example:443", "--no-lookup"), False, "no-name"),
            (("--to", "good.blocked.example:443", "--no-lookup"), True, "this-one"),
            (("--to", f"{FILES_ADDRESS}:7004"), False, "no-address"),
            (("--to", f"[{FILES6}]:7004"), False, "no-address"),
            (("--to", f"{FILES_ADDRESS}:7999"), True, "default"),
            (("--to", "192.31.196.80:7102", "--protocol", "udp"), False, "no-datagrams"),
            (("--to", "127.0.0.1:80", "--protocol", "connect"), False, "always"),
            (("--to", "203.0.113.2:80", "--protocol", "socks"), False, "always"),
        ],
    )
    def test_verdicts(self, own: Box, words: tuple[str, ...], allow: bool, rule: str) -> None:
        found = explained(own, *words)
        assert (found["allow"], found["rule"]) == (allow, rule), found

    def test_a_person_reads_why(self, own: Box) -> None:
        done = subprocess.run(
            [BIN / "isthmus", "--runtime", own.runtime, "explain", "--to", f"{FILES_ADDRESS}:7004"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[0] == "denied by rule “no-address”"
        assert "the port is 7004, not 80, 443" in done.stdout

    def test_a_bad_question(self, own: Box) -> None:
        done = subprocess.run(
            [BIN / "isthmus", "--runtime", own.runtime, "explain", "--to", "a b:99999"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert "is no destination" in done.stderr


@pytest.mark.slow
def test_more_rules_than_a_worker_may_be_told_of(own: Box) -> None:
    """New workers start with them; sessions that there are go on with those before."""
    before = own.config.read_text()
    rules = "".join(
        f'[[rule]]\nname = "r{n}"\naction = "deny"\ndomains = ["n{n}.example"]\n' for n in range(6_000)
    )
    last = '[[rule]]\nname = "the-last"\naction = "deny"\nports = [7001]\n'
    own.config.write_text(before + rules + last)
    try:
        with connect(own, 7004) as kept:
            kept.settimeout(10)
            kept.sendall(b"before")
            assert kept.recv(100) == b"before"
            own.processes["control"].send_signal(signal.SIGHUP)

            def denied() -> bool:
                # Accepted where its name is not known, since that may be the one of a rule before.
                with (
                    contextlib.suppress(ConnectionResetError, PermissionError),
                    connect(own, 7001) as sock,
                ):
                    sock.settimeout(5)
                    return not sock.recv(100)
                return True

            wait_for(denied, "the last rule", 30)
            kept.sendall(b"after")
            assert kept.recv(100) == b"after"
    finally:
        own.config.write_text(before)
        own.processes["control"].send_signal(signal.SIGHUP)
        time.sleep(0.2)


def test_what_is_known_of_a_flow_goes_to_the_next_worker(own: Box) -> None:
    """A new program takes flows over with their names and the rules that allowed them."""

    def known(port: int) -> tuple[str, str, str]:
        for one in sessions(own, "--search", "7101")["sessions"]:
            if one["client_port"] == port:
                return one["name"], one["named_by"], one["rule"]
        return "", "", ""

    with udp_socket(own, KID) as sock:  # who has asked the DNS for nothing
        sock.connect((SERVER6, 7101))
        port = sock.getsockname()[1]
        sock.send(initial(crypto(0, client_hello("good.blocked.example")[5:]).ljust(1162, b"\0")))
        assert sock.recv(2_000)
        expected = ("good.blocked.example", "sni", "this-one")
        assert known(port) == expected
        old = {worker["pid"] for worker in workers(own)}
        own.processes["proxy"].send_signal(signal.SIGUSR2)
        wait_for(partial(replaced, own, old), "new workers")
        wait_for(lambda: known(port) == expected, "the flow in its new worker", 10)
        sock.send(b"more")
        assert sock.recv(2_000).endswith(b"more")


def test_the_box_itself_stays_out_of_reach_whatever_the_rules_say(own: Box) -> None:
    for target in (BOX, "127.0.0.1", "[::1]", "203.0.113.2", "[fe80::1]", "100.100.100.200"):
        head = raw(own, 3128, f"CONNECT {target}:443 HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        assert head.startswith(b"HTTP/1.1 403"), (target, head)
