"""One session's record: slotted, because there are many, and turned into words only when asked for."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

DIALLING = "dialling"
OPEN = "open"
CLOSING = "closing"
# How a session ended that an admin ended.
KILLED = "killed"


# What is known of a session beyond its endpoints.
_HANDED_OVER = ("started", "to_wan", "to_lan", "rule", "name", "named_by", "dns_name", "user", "service")

# Octets of two addresses and two ports.
ENDPOINTS = 36
# RFC 4291 section 2.5.5.2: how an IPv4 address stands where sixteen octets are asked for.
MAPPED = bytes(10) + b"\xff\xff"


# Addresses whose text is remembered; then it begins anew. More would hold what nobody asks for any more.
MAX_TEXTS = 4_096
_texts: dict[bytes, str] = {}


def address_text(packed: bytes) -> str:
    """An address of 16 octets as text; an IPv4-mapped one as the IPv4 address that it is."""
    known = _texts.get(packed)
    if known is None:
        if len(_texts) >= MAX_TEXTS:
            _texts.clear()
        family, octets = (AF_INET, packed[12:]) if packed[:12] == MAPPED else (AF_INET6, packed)
        known = _texts[packed] = inet_ntop(family, octets)
    return known


def _address_at(endpoints: bytes, place: int) -> bytes:
    octets = endpoints
    return octets[place : place + 16]


def _port_at(endpoints: bytes, place: int) -> int:
    octets = endpoints
    return (octets[place] << 8) | octets[place + 1]


def literal_address(host: str) -> bytes | None:
    """An address that was written out, packed; None for a name."""
    try:
        if ":" in host:
            return inet_pton(AF_INET6, host)
        if host[-1:].isdecimal():
            return inet_pton(AF_INET, host)
    except OSError:
        pass  # a name that ends in a digit
    return None


class Session:
    """A TCP, UDP or ICMP session.

    ``endpoints``: client, server, client's port, server's port, packed as in a packet: 36 octets. ``origin``
    is text. ``started`` is monotonic seconds; ``to_wan`` and ``to_lan`` are payload bytes. The client is on
    the LAN and the origin on the WAN; of a ``service`` that is published it is the other way round.
    ``client_port`` is the identifier of a ping, whose ``server_port`` is 0.
    """

    __slots__ = (
        "client",
        "client_port",
        "device",
        "dns_name",
        "endpoints",
        "kind",
        "name",
        "named_by",
        "number",
        "origin",
        "origin_port",
        "rate",
        "reference",
        "rule",
        "server_port",
        "service",
        "started",
        "state",
        "to_lan",
        "to_wan",
        "user",
    )

    def __init__(
        self, number: int, kind: str, endpoints: bytes, origin: str, started: float, state: str = DIALLING
    ) -> None:
        if len(endpoints) != ENDPOINTS:
            raise ValueError(f"the ends of a session are {ENDPOINTS} octets, not {len(endpoints)}")
        self.number = number
        self.kind = kind
        self.endpoints = endpoints
        self.client = _address_at(endpoints, 0)
        self.client_port = _port_at(endpoints, 32)
        self.server_port = _port_at(endpoints, 34)
        self.origin = origin
        self.origin_port = self.server_port
        self.service = ""  # of a published service or an explicit listener
        self.name = ""  # what the client asked for, where that is known
        self.named_by = ""  # how: "asked" of the proxy, "dns", "sni", "host"
        self.dns_name = ""  # what it had asked for, where it then said another name: a mismatch
        self.device = ""  # the client's, by its card, where the owner has named it
        self.reference = ""  # of a denial; who is told of it may ask for access by it
        self.rule = "default"  # of the policy, which allowed or denied it
        self.user = ""  # where it had to say who it is
        self.rate = 0  # octets a second each way that a limit leaves it; 0: as many as come
        self.started = started
        self.state = state
        self.to_wan = 0
        self.to_lan = 0

    @property
    def server(self) -> bytes:
        """The address that the client wrote to, packed."""
        return _address_at(self.endpoints, 16)

    def say(self, name: str, how: str) -> None:
        """The client says a name by itself; what it had asked for is kept where that was another."""
        if self.name and self.name != name:
            self.dns_name = self.name
        self.name, self.named_by = name, how

    def heirloom(self) -> dict[str, Any]:
        """What another worker goes on with, which ``inherit`` takes there."""
        return {name: getattr(self, name) for name in _HANDED_OVER}

    def inherit(self, found: dict[str, Any]) -> None:
        """Go on as the same session of another worker's, whose program may be an older one and say less."""
        for name in _HANDED_OVER:
            if name in found:
                setattr(self, name, found[name])

    def describe(self, worker: int, now: float) -> dict[str, Any]:
        """The record as the varlink type ``Session`` of org.isthmus.proxy."""
        return {
            "id": f"{worker}-{self.number}",
            "kind": self.kind,
            "state": self.state,
            "worker": worker,
            "client": address_text(self.client),
            "client_port": self.client_port,
            "server": address_text(self.server),
            "server_port": self.server_port,
            "origin": self.origin,
            "origin_port": self.origin_port,
            "service": self.service or None,
            "name": self.name or None,
            "named_by": self.named_by or None,
            "dns_name": self.dns_name or None,
            "rule": self.rule,
            "user": self.user or None,
            "device": self.device or None,
            "age": round(now - self.started, 3),
            "bytes_to_wan": self.to_wan,
            "bytes_to_lan": self.to_lan,
        }

    def log_line(self, worker: int, now: float, wall: float, reason: str, destinations: bool = True) -> str:
        """The end of the session as one line of JSON: ``describe`` and how it ended.

        Without ``destinations`` nothing in it says where the client went.

        Written out, because this is done for every session and json.dumps of a dictionary takes five
        times as long. Nothing in it needs escaping: numbers, addresses, and words of ours.
        """
        service = f'"{self.service}"' if self.service else "null"
        age_ms = int((now - self.started) * 1000)
        wall_ms = int(wall * 1000)
        # Names, users and devices hold no sign that JSON would have to escape: protocol.names and the
        # configuration see to that.
        where = named = ""
        if destinations:
            server = address_text(_address_at(self.endpoints, 16))
            where = (
                f'"server":"{server}","server_port":{self.server_port},'
                f'"origin":"{self.origin}","origin_port":{self.origin_port},'
            )
            if self.name:
                named = f'"name":"{self.name}","named_by":"{self.named_by}",'
            if self.dns_name:
                named += f'"dns_name":"{self.dns_name}",'
        if self.user:
            named += f'"user":"{self.user}",'
        if self.device:
            named += f'"device":"{self.device}",'
        if self.reference:
            named += f'"reference":"{self.reference}",'
        return (
            f'{{"kind":"{self.kind}","client":"{address_text(self.client)}","client_port":{self.client_port},'
            f'{where}"service":{service},{named}"rule":"{self.rule}",'
            f'"age":{age_ms // 1000}.{age_ms % 1000:03d},'
            f'"bytes_to_wan":{self.to_wan},"bytes_to_lan":{self.to_lan},'
            f'"end":"{reason}","time":{wall_ms // 1000}.{wall_ms % 1000:03d},"worker":{worker}}}'
        )
