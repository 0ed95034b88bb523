"""Each kind of limit for each kind of subject, and a limit of a client on each path.

fd00:1::c*  clients --------- eth0 ---+
fd00:1::d*  devices --------- card* --+-- lan0 [ box ] wan0 --- server
users by SOCKS, of fd00:1::2 - eth0 --+
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w
from argon2 import PasswordHasher

from tests.netns.conftest import SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import FILES, SCHEMES, curl, running
from tests.netns.hosts import connect, udp_socket
from tests.netns.test_bandwidth import PASSWORD, by_socks
from tests.netns.test_quotas import MEBIBYTE, read

pytestmark = [pytest.mark.netns, needs_root]

AMOUNTS = {"sessions": 2, "new_per_second": 2, "mib_per_day": 1, "mib_per_month": 1, "kbit_per_second": 800}
SUBJECTS = ("client", "device", "user", "each-of-group", "all-of-group")
# Who has one session, by each path; one address each.
PATHS = ("transparent", "udp", "ping", "http", "connect", "socks", "published", "published-udp")
# Who has a mebibyte a day, likewise.
HUNGRY = ("http", "http-tls", "connect", "connect-tls", "udp", "ping", "published", "published-udp")
WAN = "203.0.113.2"
# Far more than a busy box moves into sockets' buffers between two looks, a second apart or some, at a quota.
LARGE = 64 * MEBIBYTE


def address(kind: str, amount: str) -> str:
    """A client's or a device's."""
    return f"fd00:1::{'c' if kind == 'client' else 'd'}{list(AMOUNTS).index(amount)}"


def path_address(path: str) -> str:
    """Of who has one session by it."""
    number = PATHS.index(path)
    return f"203.0.113.{100 + number}" if path.startswith("published") else f"fd00:1::e{number}"


def hungry_address(path: str) -> str:
    """Of who has a mebibyte a day by it."""
    number = HUNGRY.index(path)
    return f"203.0.113.{120 + number}" if path.startswith("published") else f"fd00:1::f{number}"


def settings() -> str:
    """A limit of each amount for each subject, and those who are meant."""
    password = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(PASSWORD)
    plain: dict[str, list[dict[str, Any]]] = {"limit": [], "group": [], "user": [], "device": []}
    for amount, most in AMOUNTS.items():
        for subject in SUBJECTS:
            name = f"{amount}-{subject}".replace("_", "-")
            every: dict[str, dict[str, Any]] = {
                "client": {"sources": [f"{address('client', amount)}/128"]},
                "device": {"devices": [name]},
                "user": {"users": [name], "each": "user"},
                "each-of-group": {"groups": [name], "each": "user"},
                "all-of-group": {"groups": [name], "each": "all"},
            }
            plain["limit"].append({"name": name, amount: most, **every[subject]})
            if subject == "device":
                plain["device"].append({"name": name, "macs": [card(amount)]})
            elif subject != "client":
                plain["group"].append({"name": name})
                users = (name, f"{name}-2") if subject == "all-of-group" else (name,)
                plain["user"] += [{"name": one, "groups": [name], "password": password} for one in users]
    for name, source, limit in (
        *((f"one-{path}", path_address(path), {"sessions": 1}) for path in PATHS),
        *((f"mib-{path}", hungry_address(path), {"mib_per_day": 1}) for path in HUNGRY),
    ):
        sources = [f"{source}/{32 if '.' in source else 128}"]
        plain["limit"].append({"name": name, "sources": sources, **limit})
    plain["published"] = [
        {"name": "tcp", "port": 8001, "targets": ["[fd00:1::2]:9001"]},
        {"name": "udp", "port": 8001, "protocol": "udp", "targets": ["[fd00:1::2]:9101"]},
    ]
    return "".join(f"[[{table}]]\n{tomli_w.dumps(entry)}" for table in plain for entry in plain[table])


def card(amount: str) -> str:
    """A device's."""
    return f"02:00:5e:10:00:d{list(AMOUNTS).index(amount)}"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with all those limits."""
    folder = tmp_path_factory.mktemp("each-limit")
    with running(folder, settings()) as box:
        (folder / "www" / "large").write_bytes(bytes(LARGE))
        add = ("nodad", "preferred_lft", "0")
        clients = [address("client", amount) for amount in AMOUNTS]
        for one in (*clients, *map(path_address, PATHS), *map(hungry_address, HUNGRY)):
            if "." in one:
                box.server.run("ip", "addr", "add", f"{one}/24", "dev", "eth0")
            else:
                box.client.run("ip", "addr", "add", f"{one}/64", "dev", "eth0", *add)
        for number, amount in enumerate(AMOUNTS):
            name, table, own_address = f"card{number}", str(70 + number), address("device", amount)
            link = ("link", "eth0", "name", name, "address", card(amount), "type", "macvlan")
            box.client.run("ip", "link", "add", *link)
            box.client.run("ip", "link", "set", name, "up")
            box.client.run("ip", "addr", "add", f"{own_address}/64", "dev", name, *add)
            box.client.run("ip", "-6", "rule", "add", "from", f"{own_address}/128", "table", table)
            for route in (("fd00:1::/64",), ("default", "via", "fd00:1::1")):
                box.client.run("ip", "-6", "route", "add", *route, "dev", name, "table", table)
        box.start(
            "lan-servers", sys.executable, "-m", "tests.netns.lan_servers", box.runtime, where=box.client
        )
        wait_for(lambda: "ready" in box.log("lan-servers"), "the LAN's servers")
        yield box


def session(box: Box, subject: str, amount: str, port: int, turn: int = 0) -> socket.socket:
    """A session of the subject's with the server; ConnectionRefusedError where the limit refuses it.

    ``turn``: of a group whose users share one limit, these take turns.
    """
    if subject in ("client", "device"):
        return connect(box, port, source=address(subject, amount))
    name = f"{amount}-{subject}".replace("_", "-")
    user = f"{name}-2" if subject == "all-of-group" and turn % 2 else name
    sock = by_socks(box, user, b"\1\0\1" + socket.inet_aton(SERVER) + struct.pack("!H", port))
    if sock.recv(10)[1]:
        sock.close()
        raise ConnectionRefusedError
    return sock


def is_refused(box: Box, subject: str, amount: str) -> bool:
    """Whether one more session is."""
    try:
        session(box, subject, amount, 7004, 1).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("subject", SUBJECTS)
def test_sessions(own: Box, subject: str) -> None:
    with session(own, subject, "sessions", 7004):
        with session(own, subject, "sessions", 7004, 1):
            assert is_refused(own, subject, "sessions")
        wait_for(lambda: not is_refused(own, subject, "sessions"), "room after the end of one", 5)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_new_sessions_in_a_second(own: Box, subject: str) -> None:
    with contextlib.suppress(ConnectionRefusedError):
        session(own, subject, "new_per_second", 7004).close()  # a password is verified once
    time.sleep(1.1)
    begun = time.monotonic()
    came = sum(not is_refused(own, subject, "new_per_second") for _ in range(12))
    assert 2 <= came <= 2 * (int(time.monotonic() - begun) + 2)
    assert came < 12


@pytest.mark.parametrize("amount", ["mib_per_day", "mib_per_month"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_octets(own: Box, subject: str, amount: str) -> None:
    """The session that has them used up ends, and there is no other, of nobody who shares the limit."""
    with session(own, subject, amount, 7003) as sock:
        sock.sendall(struct.pack("!Q", LARGE))
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(1 << 15):
                got += len(data)
                time.sleep(0.01)  # a quota is looked at once a second
    # Some of what was counted is in buffers when the reset comes, and is dropped with them.
    assert 0 < got < LARGE
    assert is_refused(own, subject, amount)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_bandwidth(own: Box, subject: str) -> None:
    """800 kbit/s are 100 kB a second; what the sockets' buffers take comes at once."""
    with session(own, subject, "kbit_per_second", 7003) as sock:
        begun = time.monotonic()
        sock.sendall(struct.pack("!Q", 500_000))
        assert read(sock, 500_000) == 500_000
        assert 2 < time.monotonic() - begun < 15


# -- the paths -----------------------------------------------------------------------------------


@contextlib.contextmanager
def held(box: Box, path: str) -> Iterator[None]:
    """A session by that path, for a while; OSError where there is none."""
    source = path_address(path)
    with contextlib.ExitStack() as stack:
        if path == "transparent":
            stack.enter_context(connect(box, 7004, source=source))
        elif path == "udp":
            sock = stack.enter_context(udp_socket(box, source))
            sock.settimeout(1)
            sock.sendto(b"x", (SERVER6, 7101))
            sock.recv(100)
        elif path == "ping":
            words = ("ping", "-c1", "-W1", "-I", source, SERVER6)
            if box.client.run(*words, check=False).returncode:
                raise OSError("no answer")
        elif path == "http":
            # Headers of a body that is never sent: the exchange is open.
            sock = stack.enter_context(connect(box, 3128, "fd00:1::1", source=source))
            sock.sendall(
                f"POST http://{FILES}/ HTTP/1.1\r\nHost: {FILES}\r\nContent-Length: 9\r\n\r\n".encode()
            )
            sock.settimeout(1)
            with contextlib.suppress(TimeoutError):
                raise OSError(sock.recv(100))
        elif path == "connect":
            sock = stack.enter_context(connect(box, 3128, "fd00:1::1", source=source))
            sock.sendall(f"CONNECT {SERVER}:7002 HTTP/1.1\r\nHost: {SERVER}\r\n\r\n".encode())
            if (said := sock.recv(12)) != b"HTTP/1.1 200":
                raise OSError(said)
        elif path == "socks":
            sock = stack.enter_context(connect(box, 1080, "fd00:1::1", source=source))
            sock.sendall(b"\5\1\0\5\1\0\1" + socket.inet_aton(SERVER) + struct.pack("!H", 7004))
            assert sock.recv(2) == b"\5\0"
            if sock.recv(10)[1]:
                raise OSError("not granted")
        else:
            kind = socket.SOCK_STREAM if path == "published" else socket.SOCK_DGRAM
            sock = stack.enter_context(box.server.call(lambda: socket.socket(socket.AF_INET, kind)))
            sock.settimeout(2)
            sock.bind((source, 0))
            sock.connect((WAN, 8001))
            sock.send(b"hello\n")
            if path == "published":
                with contextlib.suppress(TimeoutError):
                    raise OSError(sock.recv(100))  # a reset; the server waits for our end
            else:
                sock.recv(100)
        yield


@pytest.mark.parametrize("path", PATHS)
def test_one_session_by_each_path(own: Box, path: str) -> None:
    with held(own, path), pytest.raises(OSError), held(own, path):
        pass
    rule = f'"rule":"one-{path}"'
    wait_for(lambda: rule in own.sessions_log.read_text(), "the log to name the limit", 5)


def logged(box: Box, client: str) -> list[dict[str, Any]]:
    """The log's lines of a client's sessions."""
    return [line for line in box.sessions_logged() if line.get("client") == client]


def moved(box: Box, path: str) -> int:
    """Octets that come by that path before its quota ends it, of LARGE; 0 for none."""
    source = hungry_address(path)
    if path.startswith(("http", "connect")):
        proxy = SCHEMES["https" if path.endswith("-tls") else "http"]
        origin = "https" if path.startswith("connect") else "http"
        words = ("--interface", source, "-x", proxy, "-k", "--limit-rate", "2M", "-o", "/dev/null")
        done = curl(box, *words, "--fail", "-w", "%{size_download}", f"{origin}://{FILES}/large")
        assert done.returncode
        return int(done.stdout.split()[-1])
    if path == "ping":
        pings = ("ping", "-q", "-c", "1500", "-i", "0.003", "-s", "1400", "-W", "1", "-I", source, SERVER6)
        found = re.search(r"(\d+) received", box.client.run(*pings, check=False).stdout)
        return 1_400 * int(found[1]) if found else 0
    if path == "published":
        # The box's kernel accepts before the box refuses, and takes a few octets: the log knows what went on.
        before = len(logged(box, source))
        sock = box.server.call(lambda: socket.create_connection((WAN, 8001), 5, (source, 0)))
        with sock, contextlib.suppress(ConnectionError):
            for _ in range(LARGE >> 15):
                sock.send(bytes(1 << 15))
                time.sleep(0.01)
        wait_for(lambda: len(logged(box, source)) > before, "the log's line", 5)
        return sum(line.get("bytes_to_lan", 0) for line in logged(box, source)[before:])
    if path == "udp":
        datagrams, place = udp_socket(box, source), (SERVER6, 7101)
    else:
        datagrams = box.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.bind((source, 0))
        place = (WAN, 8001)
    came = 0
    with datagrams, contextlib.suppress(TimeoutError):
        datagrams.settimeout(1)
        while came < LARGE:
            datagrams.sendto(bytes(1_400), place)
            came += len(datagrams.recv(2_000))
            time.sleep(0.002)
    return came


@pytest.mark.parametrize("path", HUNGRY)
def test_octets_by_each_path(own: Box, path: str) -> None:
    assert 0 < moved(own, path) < LARGE
    with contextlib.suppress(OSError):
        assert moved(own, path) == 0, "nothing more"
    wait_for(lambda: f'"rule":"mib-{path}"' in own.sessions_log.read_text(), "the log to name the limit", 5)
