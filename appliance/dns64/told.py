"""Which client was told which addresses for which name: noted for the data path before the answer leaves.

A client goes to the name that it asked for last, so of two names with one address the later is noted over
the earlier, again and again where it asks for both by turns. A hit of the cache must not cost that each time:
what is noted already, and what was noted in this second, is passed over.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from appliance.dns64.cache import Entry
from appliance.dns64.service_binding import hints
from appliance.protocol import dns

# Addresses of an answer that are noted. A client tries the first few; more would push out other names.
MAX_ADDRESSES = 32
# Notes that are remembered, 100 octets each; then all are forgotten, and noted again when next told.
MAX_NOTED = 65_536
# Seconds until everything is forgotten here: so long a name is missing whose slot another one has taken.
FORGET_AFTER = 30.0

_MAPPED = bytes(10) + b"\xff\xff"
_QUESTION = 10  # its offset behind the id


@lru_cache(maxsize=4_096)
def packed(client: str) -> bytes:
    """A client's address as text in sixteen octets, IPv4 mapped."""
    if ":" in client:
        return IPv6Address(client.partition("%")[0]).packed
    return _MAPPED + IPv4Address(client).packed


class Store(Protocol):
    """``session.asked.Asked.store``."""

    def __call__(self, client: bytes, address: bytes, name: bytes, now: int, until: int) -> None: ...


class _Client:
    """What was noted lately for one client."""

    __slots__ = ("holders", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[object, int] = {}  # of an entry's mark: when
        self.holders: dict[bytes, object] = {}  # of an address: the mark of the entry that it is noted for


class Told:
    """Notes by ``store`` for how long an address is good for a name: its answer's life, and ``grace``."""

    def __init__(self, store: Store, grace: int) -> None:
        self._store = store
        self._grace = grace
        self._clients: dict[bytes, _Client] = {}
        self._count = 0

    def tell(self, client: bytes, entry: Entry, now: int) -> None:
        """``client`` (16 octets) is about to be told ``entry``. ``now``: whole steady seconds."""
        known = self._clients.get(client)
        if known is None or known.seconds.get(entry.mark) != now:
            self._note(client, known, entry, now)

    def _note(self, client: bytes, known: _Client | None, entry: Entry, now: int) -> None:
        addresses = entry.addresses
        if addresses is None:
            addresses = entry.addresses = addresses_in(entry.tail)
        if not addresses:
            return
        self._count += 1 + len(addresses)
        if self._count > MAX_NOTED:
            self.forget()
            known = None
        if known is None:
            known = self._clients[client] = _Client()
        mark, holders = entry.mark, known.holders
        known.seconds[mark] = now
        name = None
        for address in addresses:
            if holders.get(address) is not mark:
                holders[address] = mark
                if name is None:
                    name = name_in(entry.tail).encode()
                self._store(client, address, name, now, entry.expires + self._grace)

    def forget(self) -> None:
        """Note everything again that is told from now on."""
        self._clients.clear()
        self._count = 0


def name_in(tail: bytes) -> str:
    """The name in the question of an answer without its id: ``dns.name_text``."""
    return dns.name_text(tail, _QUESTION)


def type_in(tail: bytes) -> int:
    """The type of the question of an answer without its id; 0 where it has none."""
    at = _skip_name(tail, _QUESTION)
    return tail[at] << 8 | tail[at + 1] if at + 2 <= len(tail) else 0


def addresses_in(tail: bytes) -> tuple[bytes, ...]:
    """The addresses that an answer without its id gives, 16 octets each, IPv4 mapped; hints of HTTPS too."""
    found: list[bytes] = []
    count = tail[4] << 8 | tail[5]
    at = _skip_name(tail, _QUESTION) + 4
    end = len(tail)
    while count and at + 10 < end and len(found) < MAX_ADDRESSES:
        count -= 1
        at = _skip_name(tail, at)
        data = at + 10
        if data > end:
            break
        rtype = tail[at] << 8 | tail[at + 1]
        at = data + (tail[at + 8] << 8 | tail[at + 9])
        if at > end:
            break
        if rtype == dns.AAAA and at - data == 16:
            found.append(tail[data:at])
        elif rtype == dns.A and at - data == 4:
            found.append(_MAPPED + tail[data:at])
        elif rtype == dns.HTTPS:
            found += hints(tail[data:at])
    return tuple(found[:MAX_ADDRESSES])


def aliases_in(tail: bytes) -> tuple[str, ...]:
    """The names that an answer without its id passes through (CNAME), as text; at most dns.MAX_ALIASES."""
    found: list[str] = []
    count = tail[4] << 8 | tail[5]
    at = _skip_name(tail, _QUESTION) + 4
    end = len(tail)
    while count and at + 10 < end and len(found) < dns.MAX_ALIASES:
        count -= 1
        at = _skip_name(tail, at)
        data = at + 10
        if data > end:
            break
        if (tail[at] << 8 | tail[at + 1]) == dns.CNAME:
            try:
                wire = dns.read_name(b"\0\0" + tail, data + 2)[0]
            except dns.DnsError:
                break
            found.append(dns.name_text(wire))
        at = data + (tail[at + 8] << 8 | tail[at + 9])
    return tuple(found)


def _skip_name(tail: bytes, at: int) -> int:
    """The offset behind a name; far behind the end where it is broken."""
    end = len(tail)
    while at < end:
        length = tail[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at
    return end + dns.MAX_MESSAGE
