"""From the WAN, the box is silent: nothing is published yet, so nothing answers."""

from __future__ import annotations

import socket

import pytest

from tests.lab.lab import WAN_INTERFACE, ClientView, Lab

pytestmark = pytest.mark.image

# The console, DNS, unbound, the workers' listeners, and what an admin might expect to find.
TCP_PORTS = (22, 53, 80, 443, 5335, 6400, 6401, 8080, 8443)
UDP_PORTS = (53, 67, 123, 323, 5335, 6400)
# Long enough for an answer of an emulated box, short enough for fifteen ports.
SILENCE = 1.0
# The WAN port's address by its MAC, where the box keeps a link-local one there.
LINK_LOCAL = "fe80::5054:ff:fe00:6404"

Address = tuple[str, int] | tuple[str, int, int, int]


def _tcp(family: socket.AddressFamily, address: Address) -> str:
    """How a connection attempt ends: "open", or the word for why not."""
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.settimeout(SILENCE)
        try:
            attempt.connect(address)
        except TimeoutError:
            return "silent"
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "unreachable"
        return "open"


def _udp_answers(address: Address) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attempt:
        attempt.settimeout(SILENCE)
        # a DNS question for the root's name servers: a resolver that leaks would answer it
        attempt.sendto(bytes.fromhex("123401000001000000000000" + "0000020001"), address)
        try:
            return bool(attempt.recv(512))
        except OSError:
            return False


@pytest.mark.parametrize("port", TCP_PORTS)
def test_tcp_is_dropped(lab: Lab, view: ClientView, port: int) -> None:
    """Not even a refusal tells that somebody is there."""
    address = lab.wan_address()
    assert lab.wan.call(lambda: _tcp(socket.AF_INET, (address, port))) == "silent"


@pytest.mark.parametrize("port", UDP_PORTS)
def test_udp_is_not_answered(lab: Lab, view: ClientView, port: int) -> None:
    """No open resolver, no time server, no control port."""
    address = lab.wan_address()
    assert not lab.wan.call(lambda: _udp_answers((address, port)))


@pytest.mark.parametrize("port", (53, 443))
def test_link_local_is_no_way_round(lab: Lab, view: ClientView, port: int) -> None:
    """The console and DNS listen on [::]: the firewall must hold for IPv6 on the WAN's wire too."""

    def knock() -> str:
        index = socket.if_nametoindex(WAN_INTERFACE)
        return _tcp(socket.AF_INET6, (LINK_LOCAL, port, 0, index))

    assert lab.wan.call(knock) in ("silent", "unreachable")
