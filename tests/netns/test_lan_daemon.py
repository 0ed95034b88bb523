"""isthmus-lan on a real link: a DHCPv6 client asks, another router advertises itself."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from appliance.control.client import ControlClient
from appliance.lan.main import HEARTBEAT
from appliance.lan.schedule import INITIAL_INTERVAL, MIN_BETWEEN
from appliance.system.health import LAN_SILENT
from tests.lab.netns import stop, unguarded
from tests.netns.conftest import BIN, CONFIG, Box, needs_root, wait_for
from tests.unit.protocol.test_advertisement import MAC, message, prefix

pytestmark = [pytest.mark.netns, needs_root]

MTU = 1_400
TOLD = f'mtu = {MTU}\ndhcpv6 = true\nsearch_domains = ["corp.example"]\nntp_servers = ["fd00:1::123"]\n'


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with control and the daemon."""
    with Box(tmp_path_factory.mktemp("asked")) as box:
        box.config.write_text(
            CONFIG.replace('prefix = "fd00:1:0:0::/64"\n', f'prefix = "fd00:1::/64"\n{TOLD}')
        )
        box.start_control()
        box.start("lan", BIN / "isthmus-lan", "--runtime", box.runtime)
        wait_for((box.runtime / "lan" / "status.json").exists, f"the daemon\n{box.log('lan')}")
        yield box


def strangers(box: Box) -> list[dict[str, Any]]:
    """What the daemon shows."""
    found: list[dict[str, Any]] = json.loads((box.runtime / "lan" / "status.json").read_text())["strangers"]
    return found


def advertise(box: Box, packet: bytes, hops: int = 255) -> None:
    """The client plays the router."""

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
            sock.sendto(packet, ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))

    box.client.call(send)


def test_a_client_learns_dns_domains_and_time(asked: Box, tmp_path: Path) -> None:
    script, leases = tmp_path / "script", tmp_path / "leases"
    script.write_text(f"#!/bin/sh\nset >>{tmp_path}/told\n")
    script.chmod(0o755)
    leases.touch()
    settings = tmp_path / "dhclient.conf"
    settings.write_text("also request dhcp6.sntp-servers;\n")
    done = asked.client.run(
        unguarded("dhclient", tmp_path), "-6", "-S", "-1", "-d", "-v", "-cf", settings, "-sf", script,
        "-lf", leases, "-pf", tmp_path / "pid", "eth0", check=False, timeout=60,
    )  # fmt: skip
    told = (tmp_path / "told").read_text() if (tmp_path / "told").exists() else done.stdout
    for words in ("fd00:1::1", "corp.example", "fd00:1::123"):
        assert words in told, told


def test_who_asks_for_an_address_gets_no_answer(asked: Box) -> None:
    def solicit() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::", 546))
            sock.settimeout(2)
            sock.sendto(b"\x01abc", ("ff02::1:2", 547, 0, socket.if_nametoindex("eth0")))
            sock.recv(100)

    with pytest.raises(TimeoutError):
        asked.client.call(solicit)


def test_another_router_is_reported_and_not_obeyed(asked: Box) -> None:
    bad = message(MAC, prefix("2001:db8:bad::/64"))
    advertise(asked, bad, hops=64)  # came over a router, or somebody says so
    advertise(asked, bad)
    wait_for(lambda: bool(strangers(asked)), f"the report\n{asked.log('lan')}", 10)
    [one] = strangers(asked)
    assert (one["lan"], one["mac"], one["prefixes"]) == ("lan", "02:aa:bb:cc:dd:ee", ["2001:db8:bad::/64"])
    assert IPv6Address(one["router"]).is_link_local
    assert "2001:db8:bad" not in asked.box.run("ip", "-6", "addr").stdout
    assert "default" not in asked.box.run("ip", "-6", "route").stdout
    [check] = [c for c in ControlClient(asked.runtime).status()["checks"] if c["id"].startswith("stranger")]
    assert one["router"] in check["detail"] and "02:aa:bb:cc:dd:ee" in check["detail"]
    advertise(asked, message(lifetime=0))
    wait_for(lambda: not strangers(asked), "it to leave", 10)


def test_hosts_are_told_of_the_mtu_and_when_they_ask(asked: Box) -> None:
    setting = "/proc/sys/net/ipv6/conf/eth0/mtu"

    def mtu() -> int:
        return int(asked.client.run("cat", setting).stdout)

    def solicit() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            sock.sendto(b"\x85" + bytes(7), ("ff02::2", 0, 0, socket.if_nametoindex("eth0")))

    wait_for(lambda: mtu() == MTU, f"the first of its own accord\n{asked.log('lan')}", INITIAL_INTERVAL + 5)
    asked.client.run("sh", "-c", f"echo 1500 >{setting}")
    asked.client.call(solicit)
    wait_for(lambda: mtu() == MTU, "the answer", MIN_BETWEEN + 2)


def test_its_death_is_a_health_issue(asked: Box) -> None:
    """The last test of this box: the daemon is gone after it."""
    status = asked.runtime / "lan" / "status.json"

    def told() -> bool:
        return any(check["id"] == "lan-daemon" for check in ControlClient(asked.runtime).status()["checks"])

    before = status.stat().st_mtime_ns
    wait_for(lambda: status.stat().st_mtime_ns > before, "a sign of life", 2 * HEARTBEAT)
    assert not told()
    stop(asked.processes["lan"])
    old = time.time() - LAN_SILENT - 1
    os.utime(status, (old, old))
    assert told()
