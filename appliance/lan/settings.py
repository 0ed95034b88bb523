"""lans.json, which control writes: the LANs, their devices, what their hosts are told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from appliance.protocol.advertisement import Head
from appliance.protocol.dhcpv6 import Answers

FILE = "lans.json"


@dataclass(frozen=True, slots=True)
class Link:
    """One LAN. ``answers``: None where no question is answered; ``mtu``: None where hosts keep theirs."""

    name: str
    device: str
    answers: Answers | None
    head: Head
    mtu: int | None


def read(path: Path) -> tuple[Link, ...]:
    """The LANs in the file; OSError or ValueError where it cannot be read."""
    found = []
    try:
        for one in json.loads(path.read_text()):
            answers = (
                Answers(
                    tuple(IPv6Address(text) for text in one["dns_servers"]),
                    tuple(one["search_domains"]),
                    tuple(IPv6Address(text) for text in one["ntp_servers"]),
                )
                if one["dhcpv6"]
                else None
            )
            head = Head(one["lifetime"], one["managed"], one["dhcpv6"], one["router_preference"])
            found.append(Link(one["name"], one["device"], answers, head, one["mtu"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not as control writes it: {error}") from None
    return tuple(found)
