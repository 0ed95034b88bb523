"""Settings of the explicit proxy, of published services, of rules and lists: what each does, on the wire.

fd00:1::2 --- lan0 [ box: fd00:1::1, and fd00:1::9 ] wan0 --- 192.31.196.80, .81
                   203.0.113.2, and .4
"""

from __future__ import annotations

import contextlib
import datetime
import signal
import socket
import struct
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w

from appliance.config.rules import DAYS
from tests.netns.conftest import SERVER, Box, needs_root, wait_for
from tests.netns.explicit import NAME, SCHEMES, curl, raw, running
from tests.netns.hosts import Accepting, connect, read_all, udp_socket
from tests.netns.test_lifecycle import reload

pytestmark = [pytest.mark.netns, needs_root]

OTHER_LAN, OTHER_WAN = "fd00:1::9", "203.0.113.4"
WAN = "203.0.113.2"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with a further address on each side, and servers on both."""
    with running(tmp_path_factory.mktemp("options")) as box:
        box.box.run("ip", "addr", "add", f"{OTHER_LAN}/64", "dev", "lan0", "nodad")
        box.box.run("ip", "addr", "add", f"{OTHER_WAN}/24", "dev", "wan0")
        box.start(
            "lan-servers", sys.executable, "-m", "tests.netns.lan_servers", box.runtime, where=box.client
        )
        wait_for(lambda: "ready" in box.log("lan-servers"), "the LAN's servers")
        yield box


@contextlib.contextmanager
def configured(box: Box, **changes: Any) -> Iterator[None]:
    """The configuration with other values meanwhile: tables are merged, lists take the old one's place."""
    before = box.config.read_text()
    plain = tomllib.loads(before)
    for table, values in changes.items():
        plain[table] = {**plain.get(table, {}), **values} if isinstance(values, dict) else values
    try:
        apply(box, tomli_w.dumps(plain))
        yield
    finally:
        apply(box, before)


def apply(box: Box, text: str) -> None:
    """By control, for the firewall, and then the proxy."""
    box.config.write_text(text)
    box.processes["control"].send_signal(signal.SIGHUP)
    wanted = tomllib.loads(text)

    def there() -> bool:
        found = tomllib.loads((box.runtime / "config.toml").read_text())
        return all(found.get(table) == wanted.get(table) for table in ("published", "rule", "explicit"))

    with contextlib.suppress(AssertionError):  # defaults are written out there: then a moment has to do
        wait_for(there, "control", 2)
    assert reload(box) is None


def socks(box: Box, port: int, listener: int = 1080) -> int:
    """SOCKS 5's reply for a port of the server's."""
    with connect(box, listener, "fd00:1::1") as sock:
        sock.sendall(b"\5\1\0\5\1\0\1" + socket.inet_aton(SERVER) + struct.pack("!H", port))
        assert sock.recv(2) == b"\5\0"
        return sock.recv(10)[1]


# -- the explicit proxy ----------------------------------------------------------------------------


def test_the_ports_that_socks_may_go_to(own: Box) -> None:
    assert socks(own, 7004) == 0
    with configured(own, explicit={"socks_ports": [80, 7001]}):
        assert socks(own, 7001) == 0
        assert socks(own, 7004) == 2, "not allowed"
        request = b"\4\1" + struct.pack("!H", 7004) + socket.inet_aton(SERVER) + b"me\0"
        assert raw(own, 1080, request)[:2] == b"\0\x5b", "nor by SOCKS 4"
        assert socks(own, 7004, 8080) == 2, "nor where a port tells HTTP and SOCKS apart"
        assert curl(own, "-x", SCHEMES["http"], "--fail", f"http://{NAME}/").returncode == 0
        with connect(own, 1080, "fd00:1::1") as control, udp_socket(own) as sock:
            control.sendall(b"\5\1\0\5\3\0\4" + bytes(18))
            assert control.recv(2) == b"\5\0"
            (port,) = struct.unpack("!H", control.recv(22)[20:])
            sock.settimeout(1)
            header = b"\0\0\0\1" + socket.inet_aton(SERVER)
            sock.sendto(header + struct.pack("!H", 7101) + b"x", ("fd00:1::1", port))
            with pytest.raises(TimeoutError):
                sock.recv(100)


def test_connect_to_every_port(own: Box) -> None:
    words = f"CONNECT {SERVER}:7001 HTTP/1.1\r\nHost: {SERVER}\r\n\r\n".encode()
    assert b" 403 " in raw(own, 3128, words).split(b"\r\n")[0]
    with configured(own, explicit={"connect_ports": []}):
        assert raw(own, 3128, words).startswith(b"HTTP/1.1 200")


class Heads(Accepting):
    """Keeps each request's head."""

    def __init__(self, box: Box) -> None:
        super().__init__(box, 8088)
        self.heads: list[bytes] = []

    def serve(self, sock: socket.socket) -> None:
        self.heads.append(sock.recv(4_096))
        sock.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("pseudonym", "via"), [("isthmus", b"1.1 isthmus"), ("gate-7", b"1.1 gate-7"), ("", b"")]
)
def test_the_name_to_origins(own: Box, pseudonym: str, via: bytes) -> None:
    server = Heads(own)
    server.start()
    try:
        with configured(own, explicit={"pseudonym": pseudonym}):
            assert curl(own, "-x", SCHEMES["http"], "--fail", f"http://{SERVER}:8088/").returncode == 0
            # A request that comes back to the box.
            done = curl(own, "-x", SCHEMES["http"], "--fail", f"http://{WAN}:3128/")
            assert done.returncode == 22
    finally:
        server.close()
    (head,) = server.heads
    lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"via:")]
    assert lines == ([b"via: " + via] if via else [])


def test_a_listener_of_one_address(own: Box) -> None:
    listeners = [
        {"name": "one", "port": 3128, "address": "fd00:1::1"},
        {"name": "other", "port": 3133, "address": OTHER_LAN},
        {"name": "all", "port": 3134},
    ]
    with configured(own, explicit={"listeners": listeners}):
        answers = {}
        for address in ("fd00:1::1", OTHER_LAN):
            for port in (3128, 3133, 3134):
                proxy = f"http://[{address}]:{port}"
                answers[address[-1], port] = curl(own, "-x", proxy, "--fail", f"http://{NAME}/").returncode
    assert answers == {
        ("1", 3128): 0, ("1", 3133): 7, ("1", 3134): 0,
        ("9", 3128): 7, ("9", 3133): 0, ("9", 3134): 0,
    }  # fmt: skip


# -- published services ------------------------------------------------------------------------------


def test_services_of_one_address(own: Box) -> None:
    """Two on one port, each on an address of its own."""
    services = [
        {"name": "one", "port": 8001, "address": WAN, "targets": ["[fd00:1::2]:9001"]},
        {"name": "other", "port": 8001, "address": OTHER_WAN, "targets": ["[fd00:1::3]:9001"]},
        {"name": "alone", "port": 8002, "address": OTHER_WAN, "targets": ["[fd00:1::3]:9001"]},
        {"name": "one-udp", "protocol": "udp", "port": 8001, "address": WAN, "targets": ["[fd00:1::2]:9101"]},
        {
            "name": "other-udp",
            "protocol": "udp",
            "port": 8001,
            "address": OTHER_WAN,
            "targets": ["[fd00:1::3]:9101"],
        },
    ]  # fmt: skip

    def say(address: str, port: int) -> bytes:
        with own.server.call(lambda: socket.create_connection((address, port), 2)) as sock:
            sock.sendall(b"hello")
            sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    def say_udp(address: str) -> bytes:
        with own.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(2)
            sock.connect((address, 8001))
            sock.send(b"hello")
            return sock.recv(100)

    with configured(own, published=services):
        assert say(WAN, 8001).startswith(b"fd00:1::2 ")
        assert say(OTHER_WAN, 8001).startswith(b"fd00:1::3 ")
        assert say(OTHER_WAN, 8002).startswith(b"fd00:1::3 ")
        assert say_udp(WAN).startswith(b"fd00:1::2 ")
        assert say_udp(OTHER_WAN).startswith(b"fd00:1::3 ")
        with pytest.raises(OSError):
            say(WAN, 8002)


# -- rules ---------------------------------------------------------------------------------------------


def denied(box: Box) -> bool:
    """Whether the server's echo is, to the client."""
    try:
        connect(box, 7004).close()
    except PermissionError:
        return True
    return False


def rule(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "echo", "action": "deny", "ports": ["7004"], **more}]


def test_a_rule_that_is_switched_off(own: Box) -> None:
    with configured(own, rule=rule()):
        assert denied(own)
    with configured(own, rule=rule(enabled=False)):
        assert not denied(own)


def test_a_rule_that_ends_by_itself(own: Box) -> None:
    """While it serves, without a reload."""
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=6)
    with configured(own, rule=rule(until=end)):
        assert denied(own)
        wait_for(lambda: not denied(own), "the rule's end", 10)
        assert datetime.datetime.now(datetime.UTC) >= end


class Untold(Accepting):
    """Does not say how long what it sends is: in chunks, or to the connection's end."""

    def __init__(self, box: Box) -> None:
        super().__init__(box, 8089)

    def serve(self, sock: socket.socket) -> None:
        _empty, how, size = sock.recv(4_096).split(b" ")[1].split(b"/")[-3:]
        head = b"Transfer-Encoding: chunked\r\n" if how == b"chunks" else b""
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + b"\r\n")
        for _ in range(int(size) // 1_000):
            sock.sendall(b"3e8\r\n" + bytes(1_000) + b"\r\n" if head else bytes(1_000))
        sock.sendall(b"0\r\n\r\n" if head else b"")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("how", ["chunks", "end"])
def test_content_that_is_larger_than_it_may_be_and_does_not_say_so(own: Box, scheme: str, how: str) -> None:
    """It is cut off there, with a reset; what is not larger is whole."""
    server = Untold(own)
    server.start()
    large: list[dict[str, Any]] = [{"name": "large", "action": "deny", "larger_than": 100_000}]
    try:
        with configured(own, rule=large):
            for size, code in ((100_000, {0}), (2_000_000, {18, 56})):
                words = ("-x", SCHEMES[scheme], "-o", "/dev/null", "-w", "%{size_download}")
                done = curl(own, *words, f"http://{SERVER}:8089/{how}/{size}")
                assert done.returncode in code, done.stderr
                came = int(done.stdout.split()[-1])
                assert came == size if size == 100_000 else came <= 100_000
    finally:
        server.close()
    wait_for(lambda: '"rule":"large"' in own.sessions_log.read_text(), "the log to name the rule", 5)
    assert {one["end"] for one in own.sessions_logged() if one.get("rule") == "large"} == {"denied"}


class Parts(Accepting):
    """A part of 1,000 octets, of as many as the path says, or of a number that it does not tell."""

    def __init__(self, box: Box) -> None:
        super().__init__(box, 8090)

    def serve(self, sock: socket.socket) -> None:
        whole = sock.recv(4_096).split(b" ")[1].rpartition(b"/")[2]
        head = b"HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: 1000\r\n"
        of = b"Content-Range: bytes 0-999/" + whole
        if whole == b"several":
            of = b"Content-Type: multipart/byteranges; boundary=x"
        sock.sendall(head + of + b"\r\n\r\n" + bytes(1_000))


def test_a_part_of_what_is_larger_than_it_may_be(own: Box) -> None:
    server = Parts(own)
    server.start()
    large: list[dict[str, Any]] = [{"name": "large-part", "action": "deny", "larger_than": 100_000}]
    try:
        with configured(own, rule=large):
            for whole, status in (("100000", "206"), ("100001", "403"), ("*", "206"), ("1" * 30, "206")):
                words = ("-x", SCHEMES["http"], "-r", "0-999", "-o", "/dev/null", "-w", "%{http_code}")
                assert curl(own, *words, f"http://{SERVER}:8090/{whole}").stdout.split()[-1] == status, whole
    finally:
        server.close()


def test_several_parts_of_what_may_not_be_had(own: Box) -> None:
    """Their type and the whole's length are inside: nobody gets round a rule by asking for two."""
    words = ("-x", SCHEMES["http"], "-r", "0-9,20-29", "-o", "/dev/null", "-w", "%{http_code}")
    server = Parts(own)
    server.start()
    url = f"http://{SERVER}:8090/several"
    try:
        assert curl(own, *words, url).stdout.split()[-1] == "206"
        for denied_by in ({"content_types": ["video/*"]}, {"larger_than": 100_000}):
            with configured(own, rule=[{"name": "none", "action": "deny", **denied_by}]):
                assert curl(own, *words, url).stdout.split()[-1] == "403", denied_by
    finally:
        server.close()


def test_no_spelling_of_a_url_gets_round_a_rule(own: Box) -> None:
    ads: list[dict[str, Any]] = [{"name": "no-ads", "action": "deny", "urls": [f"{NAME}/download/*"]}]
    with configured(own, rule=ads):
        for path in ("/download/3", "/%64ownload/3", "//download/3", "/./download/3", "/x/../download/3"):
            answer = raw(own, 3128, f"GET http://{NAME}{path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            assert b" 403 " in answer.split(b"\r\n")[0], path
        answer = raw(own, 3128, f"GET http://{NAME}/ HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
        assert b" 200 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize("change", ["password", "gone"])
def test_a_listener_that_changes_serves_nobody_by_its_old_terms(own: Box, change: str) -> None:
    request = f"GET http://{NAME}/download/3 HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
    listeners = tomllib.loads(own.config.read_text())["explicit"]["listeners"]
    changed = [
        {**one, "authentication": ["password"], "plaintext_passwords": True} if one["name"] == "http" else one
        for one in listeners
        if change == "password" or one["name"] != "http"
    ]
    with connect(own, 3128, "fd00:1::1") as sock:
        sock.sendall(request)
        assert b" 200 " in sock.recv(65_536)
        with configured(own, explicit={"listeners": changed}):
            with contextlib.suppress(OSError):
                sock.sendall(request)
            got = b""
            with contextlib.suppress(ConnectionResetError):
                while data := sock.recv(65_536):
                    got += data
            assert b"HTTP/1.1 2" not in got


def test_a_schedule_that_begins_yesterday(own: Box) -> None:
    """By the box's time zone, over midnight: it is chosen so that it is between 0 and 1 o'clock there."""
    now = datetime.datetime.now(datetime.UTC)
    ahead = -now.hour if now.hour <= 12 else 24 - now.hour
    yesterday = DAYS[(now + datetime.timedelta(hours=ahead)).weekday() - 1]
    system = {"timezone": f"Etc/GMT{-ahead:+}"}  # whose sign is the other way round
    night = {"name": "night", "days": [yesterday], "since": "23:00", "until": "01:00"}
    with configured(own, system=system, schedule=[night], rule=rule(schedules=["night"])):
        assert denied(own)
    other = {**night, "since": "01:00", "until": "23:00"}
    with configured(own, system=system, schedule=[other], rule=rule(schedules=["night"])):
        assert not denied(own)
    today = {**night, "days": [one for one in DAYS if one != yesterday]}
    with configured(own, system=system, schedule=[today], rule=rule(schedules=["night"])):
        assert not denied(own)
