"""Which device an address of the LAN is of: by the kernel's neighbour table, which knows network cards.

A host changes its temporary addresses (RFC 8981), its card stays. The first packet of a new address may come
before the table has it, where the host knew our own card by another address: then a datagram of ours makes
the kernel ask for it (``asked_for``), which takes no longer than the LAN's round trip.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from errno import EINTR
from socket import (
    AF_INET6,
    AF_NETLINK,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    inet_ntop,
    socket,
)

from appliance.config.rules import Device

# linux/rtnetlink.h, linux/neighbour.h
_RTM_NEWNEIGH, _RTM_GETNEIGH = 28, 30
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NDA_DST, _NDA_LLADDR = 1, 2
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NEIGHBOUR = struct.Struct("=BBHiHBB")  # family, padding, interface, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")
_READ = 1 << 16
_TIMEOUT = 0.1  # seconds; the kernel answers at once, or not at all
# Looks at the table in a second: one costs some 0.1 ms for each thousand neighbours. Fewer, and new hosts are
# nobody's for longer; more, and whoever makes up addresses keeps the worker busy.
MAX_LOOKS_PER_SECOND = 20
# Seconds for which an address's card is believed. Longer, and an address that another host has taken is still
# the first one's.
BELIEVED_FOR = 30.0
MAX_BELIEVED = 65_536
MAX_ASKED = 4_096
# Seconds that a packet may wait for the kernel's question to be answered. Longer delays hosts that do not
# answer.
PATIENCE = 0.05
_DISCARD = 9  # the port of the datagram that makes the kernel ask; nobody listens there


def read_neighbours() -> dict[bytes, str]:
    """IPv6 addresses (16 octets) with their cards' addresses, as the kernel knows them; OSError."""
    found: dict[bytes, str] = {}
    with socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0) as sock:
        sock.settimeout(_TIMEOUT)
        size = _HEADER.size + _NEIGHBOUR.size
        request = _HEADER.pack(size, _RTM_GETNEIGH, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
        sock.send(request + _NEIGHBOUR.pack(AF_INET6, 0, 0, 0, 0, 0, 0))
        while True:
            try:
                data = sock.recv(_READ)
            except OSError as error:
                if error.errno == EINTR:
                    continue
                raise
            if not _take(data, found):
                return found


def _take(data: bytes, found: dict[bytes, str]) -> bool:
    """Take the entries of a batch of messages; False where it was the last."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, at)
        if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
            return False
        if kind == _RTM_NEWNEIGH:
            address = card = b""
            inner, end = at + _HEADER.size + _NEIGHBOUR.size, min(at + length, len(data))
            while inner + _ATTRIBUTE.size <= end:
                size, what = _ATTRIBUTE.unpack_from(data, inner)
                value = data[inner + _ATTRIBUTE.size : inner + max(size, _ATTRIBUTE.size)]
                if what == _NDA_DST:
                    address = value
                elif what == _NDA_LLADDR:
                    card = value
                inner += max(size + 3 & ~3, _ATTRIBUTE.size)
            if len(address) == 16 and len(card) == 6:
                found[address] = card.hex(":")
        at += length + 3 & ~3
    return True


def _make_the_kernel_ask(address: bytes) -> None:
    try:
        with socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC) as sock:
            sock.sendto(b"", (inet_ntop(AF_INET6, address), _DISCARD))
    except OSError:
        return  # nobody to be asked


class Neighbours:
    """Devices by their addresses (``proxy.arbiter.Devices``)."""

    def __init__(self, devices: Iterable[Device]) -> None:
        self._by_card = {mac: device.name for device in devices for mac in device.macs}
        self._believed: dict[bytes, tuple[str, float]] = {}  # name and until when
        self._asked: dict[bytes, float] = {}  # addresses that the kernel was made to ask for, and when
        self._second = -1
        self._looks = 0

    def device_of(self, client: bytes, now: float) -> str:
        """The name of the device with this address (16 octets); empty where none is known."""
        known = self._believed.get(client)
        if known is not None and known[1] > now:
            return known[0]
        if not self._by_card or not self._may_look(now):
            return known[0] if known is not None else ""
        try:
            cards = read_neighbours()
        except OSError:
            return known[0] if known is not None else ""
        if len(self._believed) > MAX_BELIEVED:
            self._believed.clear()
        until = now + BELIEVED_FOR
        for address, card in cards.items():
            self._believed[address] = self._by_card.get(card, ""), until
        if client not in cards:
            self._believed[client] = "", now + 1.0  # its entry may come yet
        return self._believed[client][0]

    def asked_for(self, client: bytes, now: float) -> bool:
        """Whether it is worth to wait a moment, since the kernel is asking for this address's card."""
        if not self._by_card:
            return False
        known = self._believed.get(client)
        if known is not None and known[1] > now + 1.0:
            return False
        self._believed.pop(client, None)
        self.device_of(client, now)
        if self._believed.get(client, ("", 0.0))[1] > now + 1.0:
            self._asked.pop(client, None)
            return False
        begun = self._asked.get(client)
        if begun is None or now - begun > 1.0:
            if len(self._asked) >= MAX_ASKED:
                self._asked.clear()
            self._asked[client] = now
            _make_the_kernel_ask(client)
            return True
        return now - begun < PATIENCE

    def _may_look(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._looks = int(now), 0
        self._looks += 1
        return self._looks <= MAX_LOOKS_PER_SECOND
