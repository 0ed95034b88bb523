"""Every number of the configuration at its largest and at its smallest, all at once, on a running box.

What a setting takes has to serve: a number that some socket option or some field of a packet has no room for
ends a worker, and only where it is used.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tomli_w

from appliance.config.schema import Config
from appliance.control.client import call
from tests.netns.conftest import SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import FILES, SCHEMES, curl, running
from tests.netns.hosts import connect, read_all, sessions, status, udp_socket
from tests.netns.test_lifecycle import reload, workers

pytestmark = [pytest.mark.netns, needs_root]

# Ports are given below; this kernel has no VLANs; so many workers are more than the machine has room for.
BY_HAND = {"port", "pac_port", "vlan", "workers"}
SCHEMA = Config.model_json_schema()
PAUSE = 1.1  # seconds: of a second's one new session, the next
BASE: dict[str, Any] = {
    "published": [
        {"name": "tcp", "port": 65_535, "targets": ["[fd00:1::2]:9001"]},
        {"name": "udp", "port": 65_535, "protocol": "udp", "targets": ["[fd00:1::2]:9101"]},
    ],
    "route": [{"name": "far", "to": "10.0.0.0/8", "via": "203.0.113.1"}],
    "limit": [
        {"name": "clients"},
        {"name": "all", "each": "all"},
        {"name": "users", "each": "user", "groups": ["staff"]},
    ],
    "rule": [{"name": "large", "action": "deny"}],
    "name_list": [{"name": "names", "source": "/nonexistent"}],
    "policy": {},
    "update": {},
}


def filled(schema: dict[str, Any], plain: dict[str, Any], largest: bool) -> dict[str, Any]:
    """The table with each of its numbers at a bound; a list's entries are those that are there."""
    out = dict(plain)
    for name, described in schema["properties"].items():
        for kind in described.get("anyOf", [described]):
            if "$ref" in kind:
                out[name] = filled(table(kind), plain.get(name, {}), largest)
            elif "$ref" in kind.get("items", {}):
                entries = [filled(table(kind["items"]), one, largest) for one in plain.get(name, [])]
                out |= {name: entries} if name in plain else {}
            elif kind.get("type") == "integer" and name not in BY_HAND and "minimum" in kind:
                out[name] = kind.get("maximum", (1 << 63) - 1) if largest else kind["minimum"]
    return out


def table(reference: dict[str, Any]) -> dict[str, Any]:
    """What the schema says of a table."""
    found: dict[str, Any] = SCHEMA["$defs"][reference["$ref"].rpartition("/")[2]]
    return found


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with the explicit proxy, and servers of the LAN that it publishes."""
    with running(tmp_path_factory.mktemp("extremes")) as box:
        box.server.run("ip", "addr", "add", "203.0.113.77/24", "dev", "eth0")
        box.start(
            "lan-servers", sys.executable, "-m", "tests.netns.lan_servers", box.runtime, where=box.client
        )
        wait_for(lambda: "ready" in box.log("lan-servers"), "the LAN's servers")
        yield box


def configured(box: Box, largest: bool) -> dict[str, Any]:
    """The configuration of extremes, in force."""
    plain = {**tomllib.loads(box.config.read_text()), **BASE}
    out = filled(SCHEMA, plain, largest)
    if not largest:
        out["rule"] = []  # it would deny all that has content
    box.config.write_text(tomli_w.dumps(out))
    box.processes["control"].send_signal(signal.SIGHUP)  # routes, the firewall, and the proxy's reload
    wait_for(lambda: in_force(box) == out["proxy"]["timers"]["dial"], "control to take it up")
    assert reload(box) is None
    return out


def in_force(box: Box) -> int:
    """The time to dial, by the configuration that control has applied."""
    found: int = tomllib.loads((box.runtime / "config.toml").read_text())["proxy"]["timers"]["dial"]
    return found


def transparent(box: Box) -> None:
    with connect(box, 7004) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"


def datagram(box: Box) -> None:
    with udp_socket(box) as sock:
        sock.sendto(b"hello", (SERVER6, 7101))
        assert sock.recv(100).endswith(b"hello")


def ping(box: Box) -> None:
    assert box.client.run("ping", "-c", "1", "-W", "5", SERVER6, check=False).returncode == 0


def asked(scheme: str, origin: str) -> Callable[[Box], None]:
    def ask(box: Box) -> None:
        done = curl(box, "-x", SCHEMES[scheme], "--fail", f"{origin}://{FILES}/")
        assert done.returncode == 0, done.stderr

    return ask


def published(box: Box) -> None:
    with box.server.call(
        lambda: socket.create_connection(("203.0.113.2", 65_535), 10, ("203.0.113.77", 0))
    ) as sock:
        sock.sendall(b"hello\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).endswith(b"hello\n")


def published_datagram(box: Box) -> None:
    with box.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind(("203.0.113.77", 0))
        sock.settimeout(5)
        sock.sendto(b"hello", ("203.0.113.2", 65_535))
        assert sock.recv(100).endswith(b"hello")


PATHS: dict[str, Callable[[Box], None]] = {
    "transparent": transparent,
    "udp": datagram,
    "ping": ping,
    "http": asked("http", "http"),
    "http-tls": asked("https", "http"),
    "connect": asked("http", "https"),
    "connect-tls": asked("user-https", "https"),
    "socks": asked("socks5h", "http"),
    "published": published,
    "published-udp": published_datagram,
}


def carried(box: Box, path: str) -> None:
    """A session by that path; one more try where the health check's own was the one of this second."""
    proxy = box.runtime / "proxy" / "proxy.sock"
    # Datagrams stay for minutes, where one session is all that there may be.
    for session in sessions(box)["sessions"]:
        call(proxy, "org.isthmus.proxy.Kill", {"id": session["id"]}, 10)
    time.sleep(PAUSE)
    try:
        PATHS[path](box)
    except (OSError, AssertionError):
        time.sleep(PAUSE)
        PATHS[path](box)


@pytest.mark.parametrize("largest", [True, False], ids=["largest", "smallest"])
def test_every_path_serves(own: Box, largest: bool) -> None:
    before = {worker["pid"] for worker in workers(own)}
    configured(own, largest)
    failed = {}
    for path in PATHS:
        try:
            carried(own, path)
        except (OSError, AssertionError) as error:
            failed[path] = repr(error)
    assert not failed, own.log("proxy")
    time.sleep(2 * PAUSE)  # for what is done once a second
    assert {worker["pid"] for worker in workers(own)} == before, own.log("proxy")
    assert "Traceback" not in own.log("proxy")
    assert status(own)["counters"]["opened"] > 0


def test_sessions_outlive_the_change_from_one_to_the_other(own: Box) -> None:
    before = {worker["pid"] for worker in workers(own)}
    configured(own, True)
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(connect(own, 7004))
        datagrams = stack.enter_context(udp_socket(own))
        datagrams.sendto(b"first", (SERVER6, 7101))
        assert datagrams.recv(100).endswith(b"first")
        for largest in (False, True, False, True):
            configured(own, largest)
            time.sleep(PAUSE)
            sock.sendall(b"still")
            assert sock.recv(5) == b"still"
            datagrams.sendto(b"still", (SERVER6, 7101))
            assert datagrams.recv(100).endswith(b"still")
    assert {worker["pid"] for worker in workers(own)} == before, own.log("proxy")
