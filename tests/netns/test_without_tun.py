"""A kernel without TUN devices: clients are accepted first, the rest is refused, and the box says so."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.netns import Namespace
from tests.netns.conftest import SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import connect, serving, status, udp_socket

pytestmark = [pytest.mark.netns, needs_root]

# Something that can be opened, and is no TUN: as good as a node without its module.
HIDDEN = 'mount --bind /dev/null /dev/net/tun && exec "$@"'


class Bare(Box):
    """Its programs see no /dev/net/tun."""

    def start(self, name: str, *words: str | Path, where: Namespace | None = None) -> subprocess.Popen[str]:
        if where is None:
            words = ("unshare", "--mount", "sh", "-c", HIDDEN, "sh", *words)
        return super().start(name, *words, where=where)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box of two workers."""
    with Bare(tmp_path_factory.mktemp("bare")) as box:
        box.start_control()
        box.start_proxy()
        with serving(box):
            yield box


def echo(box: Box, source: str = "fd00:1::2") -> None:
    with connect(box, 7004, timeout=5, source=source) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"


def test_tcp_is_carried(own: Box) -> None:
    """By both workers: the two clients hash apart, or together, and each is served."""
    for source in ("fd00:1::2", "fd00:1::3"):
        echo(own, source)
    assert "isth0" not in own.box.run("ip", "link").stdout


def test_a_closed_port_looks_open_at_first(own: Box) -> None:
    """The price of it: it is reset after the handshake (at once, or a moment later), not refused."""
    with pytest.raises(ConnectionResetError), connect(own, 9, timeout=5) as sock:
        sock.recv(1)


def test_udp_is_carried_and_its_errors_are_told(own: Box) -> None:
    with udp_socket(own) as sock:
        sock.sendto(b"x", (SERVER6, 7101))
        assert sock.recv(100).endswith(b"x")
    with udp_socket(own) as sock:
        sock.connect((SERVER6, 9))
        sock.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(10)


def test_ping_is_refused_at_once(own: Box) -> None:
    done = own.client.run("ping", "-6", "-c", "1", "-W", "2", SERVER6, check=False)
    assert done.returncode and "rohibited" in done.stdout


def test_the_status_says_so(own: Box) -> None:
    (check,) = [one for one in status(own)["checks"] if one["id"] == "devices"]
    assert check["state"] == "warn" and "closed port looks open" in check["detail"]


def test_reload_and_a_new_program_go_on_without(own: Box) -> None:
    """Nothing of the life cycle needs the devices."""

    def workers() -> list[Any]:
        return [one["pid"] for one in status(own)["workers"] if not one["draining"]]

    with connect(own, 7004, timeout=5) as kept:
        before = workers()
        own.processes["proxy"].send_signal(1)
        echo(own)
        own.processes["proxy"].send_signal(12)
        wait_for(lambda: len(workers()) == 2 and not set(workers()) & set(before), "the new program")
        echo(own)
        kept.sendall(b"y")
        assert kept.recv(1) == b"y"
