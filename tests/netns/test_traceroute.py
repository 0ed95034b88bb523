"""Debian's traceroute from the IPv6 client, over routers of the IPv4 side."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.lab.netns import Namespace
from tests.netns.conftest import Box, needs_root

pytestmark = [pytest.mark.netns, needs_root]

# By IANA's registry globally reachable, as the well-known prefix wants it; 10/8 and 203.0.113/24 are not.
ONE, TWO, FAR = "192.52.193.2", "10.77.0.2", "192.175.48.2"
ONE6, FAR6 = "64:ff9b::c034:c102", "64:ff9b::c0af:3002"


@pytest.fixture(scope="module")
def far(box: Box) -> Iterator[Box]:
    """Three more hosts behind the server, which is a router now.

    client - box - 203.0.113.1 [ server ] - 192.52.193.2 [ one ] - 10.77.0.2 [ two ] - 192.175.48.2 [ far ]
    """
    with ExitStack() as stack:
        chain = [
            box.server,
            *(stack.enter_context(Namespace(f"hop{name}")) for name in ("one", "two", "far")),
        ]
        links = [("192.52.193.1", ONE), ("10.77.0.1", TWO), ("192.175.48.1", FAR)]
        for near, beyond, (address, peer) in zip(chain, chain[1:], links, strict=False):
            subprocess.run(
                ["ip", "link", "add", "down0", "netns", near.name, "type", "veth",
                 "peer", "up0", "netns", beyond.name],
                check=True,
            )  # fmt: skip
            for host, device, own in ((near, "down0", address), (beyond, "up0", peer)):
                host.run("ip", "addr", "add", f"{own}/30", "dev", device)
                host.run("ip", "link", "set", device, "up")
            beyond.run("ip", "route", "add", "default", "via", address)
            for target in ("192.175.48.0/30", "10.77.0.0/30"):
                near.run("ip", "route", "replace", target, "via", peer, check=False)
        for host in chain:
            # Each hop is asked several times within a second.
            host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0")
        box.box.run("sysctl", "-qw", "net.ipv6.icmp.ratelimit=0")
        yield box
        box.server.run("ip", "link", "del", "down0")


def hops(box: Box, *words: str) -> list[str]:
    """Who answered at each distance; "*" for nobody. Ends with the last that answered."""
    done = box.client.run("traceroute", "-6", "-n", "-q", "2", "-w", "1", *words, timeout=60)
    found = []
    for line in done.stdout.splitlines()[1:]:
        answered = set(re.findall(r"[0-9a-f]*:[0-9a-f:]+", line))
        assert len(answered) <= 1, f"one hop, several addresses\n{done.stdout}"
        found.append(answered.pop() if answered else "*")
    return found


@pytest.mark.parametrize("mode", [["-U"], ["-p", "33434"], ["-I"]], ids=["udp", "udp-ports", "icmp"])
def test_each_hop_is_shown_inside_the_prefix(far: Box, mode: list[str]) -> None:
    """The box first, as itself; routers whose addresses the prefix may not carry are a star."""
    assert hops(far, *mode, "-m", "8", FAR6) == ["fd00:1::1", "*", ONE6, "*", FAR6]
