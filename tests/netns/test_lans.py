"""Two LANs and the routes beyond them: each its own client, and none reaches the other.

client (fd00:1::2, fd00:5::2 behind it) --- lan0 [ box ] wan0 --- server
guest  (fd00:3::2)                      --- lan1 [     ]
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.control.client import ControlClient, ControlError
from tests.lab.netns import Namespace
from tests.netns.conftest import BIN, CONFIG, SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import serving

pytestmark = [pytest.mark.netns, needs_root]

ECHO, ECHO_UDP = 7004, 7101
LANS = """
[[segment]]
name = "guests"
interface = "lan1"
prefix = "fd00:3::/64"
[[route]]
name = "cellar"
to = "fd00:5::/48"
via = "fd00:1::2"
[[route]]
name = "branch"
to = "10.5.0.0/16"
via = "203.0.113.1"
metric = 50
[[route]]
name = "nobody"
to = "10.6.0.0/16"
via = "203.0.113.77"
"""


class Wide(Box):
    """The box with a second LAN port."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.guest = Namespace(self.client.role + "guest")

    def __enter__(self) -> Wide:
        self._stack.enter_context(self.guest)
        super().__enter__()
        self.config.write_text(CONFIG + LANS)
        return self

    def _wire(self) -> None:
        super()._wire()
        self.client.run("ip", "addr", "add", "fd00:5::2/128", "dev", "lo", "nodad")
        self.guest.run(
            "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"
        )
        self.plug()

    def plug(self) -> None:
        """A cable between lan1 and the guest, and the guest's address."""
        words = ["ip", "link", "add", "lan1", "netns", self.box.name, "type", "veth"]
        subprocess.run([*words, "peer", "eth0", "netns", self.guest.name], check=True)
        self.box.run("ip", "link", "set", "lan1", "up")
        self.guest.run("ip", "link", "set", "eth0", "up")
        self.guest.run("ip", "addr", "add", "fd00:3::2/64", "dev", "eth0", "nodad")
        self.guest.run("ip", "-6", "route", "add", "default", "via", "fd00:3::1")

    def checks(self) -> dict[str, dict[str, Any]]:
        """The health checks by their names."""
        return {check["id"]: check for check in ControlClient(self.runtime).status()["checks"]}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wide]:
    """It, running, with servers behind it."""
    with Wide(tmp_path_factory.mktemp("wide")) as box:
        box.start_control()
        box.start_proxy()
        with serving(box):
            yield box


def reach(host: Namespace, target: tuple[str, int], source: str = "") -> str:
    """What comes of a connection: "open", or the error's name."""

    def attempt() -> str:
        try:
            with socket.create_connection(target, 5, (source, 0) if source else None):
                return "open"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))

    return host.call(attempt)


@contextlib.contextmanager
def listening(where: Namespace, port: int) -> Iterator[None]:
    """Something answers on this port of every address."""

    def make() -> socket.socket:
        return socket.create_server(("::", port), family=socket.AF_INET6)

    with where.call(make):
        yield


def test_both_lans_reach_ipv4(wide: Wide) -> None:
    for host in (wide.client, wide.guest):
        assert reach(host, (SERVER6, ECHO)) == "open"
    wait_for(lambda: "fd00:3::2" in wide.sessions_log.read_text(), "the guest's session in the log")


def test_the_command_line_shows_them(wide: Wide) -> None:
    shown = subprocess.run(
        [BIN / "isthmus", "--runtime", str(wide.runtime), "status"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "LAN guests    fd00:3::1 (lan1), fd00:3::/64" in shown
    assert "lan1: LAN, up" in shown and "wan0: WAN, up" in shown


def test_datagrams_of_the_second_lan_come_back(wide: Wide) -> None:
    def ask() -> bytes:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(b"hello", (SERVER6, ECHO_UDP))
            return sock.recv(64)

    assert b"hello" in wide.guest.call(ask)


def test_the_lans_do_not_reach_one_another(wide: Wide) -> None:
    with listening(wide.client, 8080):
        assert reach(wide.guest, ("fd00:1::2", 8080)) in ("ENETUNREACH", "EHOSTUNREACH")


def test_the_console_is_on_the_first_lan_only(wide: Wide) -> None:
    with listening(wide.box, 443):
        assert reach(wide.client, ("fd00:1::1", 443)) == "open"
        for address in ("fd00:3::1", "fd00:1::1"):
            assert reach(wide.guest, (address, 443)) == "ECONNREFUSED"


def test_nobody_passes_for_a_host_of_another_lan(wide: Wide) -> None:
    """A datagram from the guests' port with an address of the first LAN makes no session."""
    wide.guest.run("ip", "addr", "add", "fd00:1::66/128", "dev", "lo", "nodad")

    def forge() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("fd00:1::66", 0))
            for _ in range(3):
                sock.sendto(b"forged", (SERVER6, ECHO_UDP))

    wide.guest.call(forge)
    assert reach(wide.guest, (SERVER6, ECHO)) == "open"  # sent later, and through the same worker's queue
    assert ControlClient(wide.runtime).sessions(search="fd00:1::66") == ([], 0)


def test_a_network_behind_a_lans_router(wide: Wide) -> None:
    assert reach(wide.client, (SERVER6, ECHO), source="fd00:5::2") == "open"


def test_routes_are_the_kernels(wide: Wide) -> None:
    found = json.loads(wide.box.run("ip", "-j", "route", "show", "proto", "static").stdout)
    [branch] = [one for one in found if one["dst"] == "10.5.0.0/16"]
    assert (branch["gateway"], branch["metric"], branch["dev"]) == ("203.0.113.1", 50, "wan0")


def test_a_router_that_is_not_there_is_told(wide: Wide) -> None:
    wait_for(lambda: "router-203.0.113.77" in wide.checks(), "the silent router", 40)
    assert "nobody" in wide.checks()["router-203.0.113.77"]["detail"]
    assert "router-203.0.113.1" not in wide.checks()


def test_a_port_that_is_pulled_and_put_back(wide: Wide) -> None:
    wide.box.run("ip", "link", "del", "lan1")
    wait_for(lambda: wide.checks()["port-guests"]["state"] == "bad", "the missing port", 10)
    assert reach(wide.client, (SERVER6, ECHO)) == "open"
    wide.plug()
    wait_for(lambda: wide.checks()["port-guests"]["state"] == "ok", "the port back", 15)
    wait_for(lambda: reach(wide.guest, (SERVER6, ECHO)) == "open", "the guest's way", 15)


def test_a_lan_ends_and_begins_with_a_commit(wide: Wide) -> None:
    client = ControlClient(wide.runtime)

    def commit(segments: list[dict[str, Any]]) -> int:
        candidate = client.candidate("ann")
        candidate["config"]["segment"] = segments
        put = client.put_candidate("ann", candidate["config"], candidate["based_on"], candidate["version"])
        number: int = client.commit("ann", "", put["based_on"], None, 60)["revision"]
        return client.confirm("ann", number)

    guests = client.active()["config"]["segment"]
    commit([])
    assert "fd00:3::1" not in wide.box.run("ip", "-6", "addr").stdout
    assert "lan1" not in wide.box.run("nft", "list", "ruleset").stdout
    assert reach(wide.guest, (SERVER6, ECHO)) != "open"
    commit(guests)
    assert reach(wide.guest, (SERVER6, ECHO)) == "open"
    candidate = client.candidate("ann")
    candidate["config"]["segment"][0]["interface"] = "lan7"
    put = client.put_candidate("ann", candidate["config"], candidate["based_on"], candidate["version"])
    with pytest.raises(ControlError, match="segment.guests.interface: there is no port “lan7”"):
        client.commit("ann", "", put["based_on"], None, 60)
    client.discard_candidate("ann")
    assert reach(wide.guest, (SERVER6, ECHO)) == "open"


@pytest.mark.parametrize("end", ["confirmed", "rolled back"])
def test_the_console_answers_at_both_addresses_while_a_move_waits(wide: Wide, end: str) -> None:
    """The client keeps its old address beside the new one, as after the box's advertisement."""
    client = ControlClient(wide.runtime)
    old = str(client.active()["config"]["lan"]["prefix"])
    new = "fd00:6::/64" if old.startswith("fd00:1:") else "fd00:1::/64"
    for prefix in ("fd00:1", "fd00:6"):
        wide.client.run("ip", "addr", "replace", f"{prefix}::9/64", "dev", "eth0", "nodad")
    candidate = client.candidate("ann")
    # The route to the cellar goes by way of the old network.
    candidate["config"]["route"] = []
    candidate["config"]["lan"]["prefix"] = new
    put = client.put_candidate("ann", candidate["config"], candidate["based_on"], candidate["version"])
    done = client.commit("ann", "", put["based_on"], None, 60)
    ends = [(prefix.replace("/64", "9"), (prefix.replace("/64", "1"), 443)) for prefix in (old, new)]
    with listening(wide.box, 443):
        for source, target in ends:
            assert reach(wide.client, target, source) == "open"
        assert reach(wide.client, (SERVER6, ECHO), ends[0][0]) == "open"
        if end == "confirmed":
            client.confirm("ann", done["revision"])
        else:
            client.rollback("ann", done["revision"])
        stays, goes = (ends[1], ends[0]) if end == "confirmed" else (ends[0], ends[1])
        wait_for(lambda: reach(wide.client, goes[1], goes[0]) != "open", "the other address to go", 20)
        assert reach(wide.client, stays[1], stays[0]) == "open"
