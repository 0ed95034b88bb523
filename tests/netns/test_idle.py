"""Sessions without traffic end at the time that the configuration says, by each path; others go on.

The shortest times that there are: two minutes for datagrams, one for ping.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from appliance.control.client import call
from tests.netns.conftest import SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import running
from tests.netns.hosts import connect, sessions, udp_socket

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.waits, needs_root]

UDP, PING = 120, 60
SETTINGS = """
[[published]]
name = "datagrams"
protocol = "udp"
port = 8101
targets = ["[fd00:1::2]:9101"]
"""
# A reload in between is not to touch what is counted.
RELOAD_AT = 20
# What is still there is looked for so long before its end: a busy machine may hold the test up.
MARGIN = 25


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with the shortest times."""
    folder = tmp_path_factory.mktemp("idle")
    with running(folder, SETTINGS) as box:
        text = box.config.read_text().replace("dial = 4", f"dial = 4\nudp = {UDP}\nicmp = {PING}")
        box.config.write_text(text)
        assert (
            call(box.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Reload", {}, 10)["problem"] is None
        )
        box.start(
            "lan-servers", sys.executable, "-m", "tests.netns.lan_servers", box.runtime, where=box.client
        )
        wait_for(lambda: "ready" in box.log("lan-servers"), "the LAN's servers")
        yield box


def transparent(box: Box, stack: contextlib.ExitStack) -> Callable[[], None]:
    """A flow; what keeps it."""
    sock = stack.enter_context(udp_socket(box))

    def say() -> None:
        sock.sendto(b"x", (SERVER6, 7101))
        sock.recv(100)

    return say


def by_socks(box: Box, stack: contextlib.ExitStack) -> Callable[[], None]:
    """A peer of an association, likewise."""
    control = stack.enter_context(connect(box, 1080, "fd00:1::1"))
    sock = stack.enter_context(udp_socket(box))
    control.sendall(b"\5\1\0\5\3\0\4" + bytes(18))
    assert control.recv(2) == b"\5\0"
    (port,) = struct.unpack("!H", control.recv(22)[20:])

    def say() -> None:
        sock.sendto(
            b"\0\0\0\1" + socket.inet_aton(SERVER) + struct.pack("!H", 7101) + b"x", ("fd00:1::1", port)
        )
        sock.recv(100)

    return say


def published(box: Box, stack: contextlib.ExitStack) -> Callable[[], None]:
    """A client of a published service, likewise."""
    sock = stack.enter_context(box.server.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
    sock.settimeout(5)

    def say() -> None:
        sock.sendto(b"x", ("203.0.113.2", 8101))
        sock.recv(100)

    return say


PATHS = {"transparent": transparent, "socks": by_socks, "published": published}


def kinds(box: Box) -> list[str]:
    """The open sessions of datagrams and pings, by the path."""
    found = sessions(box)["sessions"]
    return sorted(one["service"] or one["kind"] for one in found if one["kind"] != "tcp")


def test_datagrams_and_pings_end_when_they_are_idle(own: Box) -> None:
    with contextlib.ExitStack() as stack:
        idle = {name: path(own, stack) for name, path in PATHS.items()}
        kept = {name: path(own, stack) for name, path in PATHS.items()}
        begun = time.monotonic()
        for say in (*idle.values(), *kept.values()):
            say()
        assert own.client.run("ping", "-c1", "-W3", SERVER6, check=False).returncode == 0
        every = ["datagrams", "datagrams", "icmp", "socks", "socks", "udp", "udp"]
        assert kinds(own) == every
        time.sleep(RELOAD_AT)
        reload = call(own.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Reload", {}, 10)
        assert reload["problem"] is None
        time.sleep(max(begun + PING - MARGIN - time.monotonic(), 0))
        assert kinds(own) == every
        for say in kept.values():
            say()
        wait_for(lambda: "icmp" not in kinds(own), "the ping's end", 2 * MARGIN)
        time.sleep(max(begun + UDP - MARGIN - time.monotonic(), 0))
        assert kinds(own) == ["datagrams", "datagrams", "socks", "socks", "udp", "udp"]
        wait_for(
            lambda: kinds(own) == ["datagrams", "socks", "udp"], "the end of those that are idle", 2 * MARGIN
        )
        for say in kept.values():
            say()  # by the session that there is
        assert kinds(own) == ["datagrams", "socks", "udp"]
        ends = own.sessions_log.read_text().count('"end":"idle"')
        assert ends == 4
        for say in idle.values():
            say()  # begins anew
        assert len(kinds(own)) == 6
