"""The plain question that is not kept: AAAA is empty, A is not. Pure: no I/O, no clock.

Most uncached questions are of this kind, so they go a short way of their own: two questions upstream, one
answer made on the wire, no message parsed into objects. Whatever is not plain (another type, DO, a chain
of names, an address that is not carried, a late or odd answer) is handed to the resolver with what has
been learnt so far; so everything here may say "not mine" at any time.

The module is compiled where it can be (``misses.pxd`` names the types); this text is what both run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from appliance.dns64.cache import MAX_TTL, Answer, Cache
from appliance.dns64.gate import Gate
from appliance.dns64.told import Told
from appliance.protocol import dns

# Questions on this way, of all clients and of one. Beyond, they go the resolver's, which has limits too.
MAX_MISSES = 8_192
MAX_MISSES_PER_CLIENT = 512
# Seconds until the resolver takes a question over, which asks anew and repeats. unbound knows most names
# within 100 ms. Longer would take its two time-outs past the five seconds that a stub waits.
LATE = 0.25
_IDS_AT_ONCE = 512

# RD, or RD and AD; one question; without and with OPT.
_HEADS = (b"\1\0\0\1\0\0\0\0\0\0", b"\1\x20\0\1\0\0\0\0\0\0")
_HEADS_OPT = (b"\1\0\0\1\0\0\0\0\0\1", b"\1\x20\0\1\0\0\0\0\0\1")
_AAAA_IN = b"\0\x1c\0\1"
_A_IN = b"\0\1\0\1"
_A_RECORD = b"\xc0\x0c\0\1\0\1"  # owner (a pointer to the question), type, class
_AAAA_RECORD = b"\xc0\x0c\0\x1c\0\1"
_AAAA_LENGTH = b"\0\x10"
_IPV4ONLY = b"\x08ipv4only\x04arpa\0"

Outbox = list[tuple[bytes, Any]]  # packets of one socket with the address that each goes to


class Miss:
    """One question on its way."""

    __slots__ = ("address", "cap", "client", "empty", "outbox", "packet", "question", "rules", "started")

    def __init__(self, packet: bytes, question: bytes, address: Any, client: Any, outbox: Outbox) -> None:
        self.packet = packet  # as the client sent it
        self.question = question  # the wire name, with the type and class that are asked just now
        self.address = address
        self.client = client
        self.outbox = outbox
        self.started = 0.0
        self.rules = 0
        self.cap = 0
        self.empty = b""  # the AAAA answer, once it is there


class Misses:
    """All of them. What has to be sent or taken over is left in ``questions``, the outboxes and ``odd``.

    ``client_of`` gives of an address what its client is known by, for ``told`` its sixteen octets.
    """

    def __init__(self, client_of: Callable[[Any], Any], told: Told | None = None) -> None:
        self.questions: list[bytes] = []
        # Of each: the question, and the A answer that was not understood, or b"".
        self.odd: list[tuple[Miss, bytes]] = []
        self.mismatched = 0
        self._client_of = client_of
        self._told = told
        self._gate: Gate | None = None
        self._pending: dict[int, Miss] = {}
        self._asked: set[bytes] = set()
        self._of_client: dict[Any, int] = {}
        self._ids = b""
        self._drawn = 0
        self._cache: Cache | None = None
        self._rules = 0
        self._embed: Callable[[bytes, bytes], bytes | None] | None = None
        self._special: Callable[[bytes], bool] | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def configure(
        self,
        cache: Cache | None,
        embed: Callable[[bytes, bytes], bytes | None],
        special: Callable[[bytes], bool] | None,
        gate: Gate | None = None,
    ) -> None:
        """By these rules from now on; without a cache nothing is taken, and hits are not answered either.

        ``special`` tells of a name in lower case whether it has rules of its own; None: no name has. What
        ``gate`` denies is not taken.
        """
        self._rules += 1
        self._cache = cache
        self._embed = embed
        self._gate = gate
        self._special = special

    def current(self, miss: Miss) -> bool:
        """True where it was asked by the rules of now."""
        return miss.rules == self._rules

    def take(self, packets: Outbox, outbox: Outbox, now: float) -> Outbox:
        """Answer what is kept, begin what is plain; returns the others. ``now``: steady seconds."""
        cache = self._cache
        if cache is None:
            return packets
        told, gate = self._told, self._gate
        second = int(now)
        left: Outbox = []
        for one in packets:
            packet, address = one
            key = packet[2:]
            if gate is not None and gate.denies(self._client_of(address), key, second):
                left.append(one)
                continue
            entry = cache.get(key, second)
            if entry is not None:
                if gate is not None and gate.cloaked(self._client_of(address), entry, second):
                    left.append(one)
                    continue
                if told is not None:
                    told.tell(self._client_of(address), entry, second)
                outbox.append((packet[:2] + entry.udp, address))
            elif not self._begin(packet, key, address, outbox, now):
                left.append(one)
        return left

    def _begin(self, packet: bytes, key: bytes, address: Any, outbox: Outbox, now: float) -> bool:
        size = len(packet)
        head = packet[2:12]
        if size < 17 or (head not in _HEADS and head not in _HEADS_OPT):
            return False
        offset = 12
        limit = min(size, 12 + dns.MAX_NAME) - 1
        while offset < limit:
            length = packet[offset]
            if length == 0:
                break
            if length > 63:
                return False
            offset += length + 1
        end = offset + 5
        if offset >= limit or end > size or packet[offset + 1 : end] != _AAAA_IN:
            return False
        # OPT: the root, the type, any size; no DO, version 0, no options.
        if packet[11] and (
            size != end + 11 or packet[end : end + 3] != b"\0\0\x29" or packet[end + 5 :] != b"\0\0\0\0\0\0"
        ):
            return False
        if not packet[11] and size != end:
            return False
        if packet[offset - 14 : offset + 1].lower() == _IPV4ONLY:
            return False
        if self._special is not None and self._special(packet[12 : offset + 1].lower()):
            return False
        client = self._client_of(address)
        count = self._of_client.get(client, 0)
        if key in self._asked or count >= MAX_MISSES_PER_CLIENT or len(self._pending) >= MAX_MISSES:
            return False
        self._of_client[client] = count + 1
        self._asked.add(key)
        miss = Miss(packet, packet[12:end], address, client, outbox)
        miss.rules = self._rules
        self._ask(miss, key, now)
        return True

    def _ask(self, miss: Miss, tail: bytes, now: float) -> None:
        number = self._draw()
        while number in self._pending:
            number = self._draw()
        miss.started = now
        self._pending[number] = miss
        self.questions.append(number.to_bytes(2, "big") + tail)

    def _draw(self) -> int:
        """16 unpredictable bits."""
        at = self._drawn
        if at >= len(self._ids):
            self._ids = os.urandom(_IDS_AT_ONCE * 2)
            at = 0
        self._drawn = at + 2
        return self._ids[at] << 8 | self._ids[at + 1]

    def answered(self, packets: list[bytes], now: float) -> None:
        """What came from upstream."""
        for packet in packets:
            if len(packet) < dns.HEADER:
                continue
            number = packet[0] << 8 | packet[1]
            miss = self._pending.get(number)
            if miss is None:
                self.mismatched += 1
                continue
            end = dns.HEADER + len(miss.question)
            # The question in another spelling goes the long way.
            if not packet[2] & 0x80 or packet[4:6] != b"\0\1" or packet[12:end] != miss.question:
                same = packet[2] & 0x80 and dns.answers_question(packet, miss.question)
                if not same:
                    self.mismatched += 1
                    continue
                plain = False
            else:
                # QUERY, not cut, NOERROR; by the rules of now.
                plain = not packet[2] & 0x7A and not packet[3] & 0x0F and miss.rules == self._rules
            del self._pending[number]
            if miss.empty:
                if not plain or not self._finish(miss, packet, end, int(now)):
                    self._give_back(miss, packet)
            elif plain and self._is_empty(miss, packet, end):
                miss.empty = packet
                miss.question = miss.question[:-4] + _A_IN
                self._ask(miss, miss.packet[2:12] + miss.question + miss.packet[end:], now)
            else:
                miss.empty = packet
                self._give_back(miss, b"")

    def _is_empty(self, miss: Miss, packet: bytes, end: int) -> bool:
        """True where it says by one SOA that there is no AAAA; notes how long that holds (RFC 2308)."""
        if packet[6:10] != b"\0\0\0\1":
            return False
        offset = _skip_owner(packet, end)
        if not offset or offset + 10 > len(packet) or packet[offset : offset + 2] != b"\0\6":
            return False
        ttl = int.from_bytes(packet[offset + 4 : offset + 8], "big")
        behind = offset + 10 + (packet[offset + 8] << 8 | packet[offset + 9])
        if behind > len(packet) or behind < offset + 30 or ttl & 0x80000000:
            return False
        miss.cap = min(ttl, int.from_bytes(packet[behind - 4 : behind], "big"))
        return _additional(packet, behind, packet[10] << 8 | packet[11]) is not None

    def _finish(self, miss: Miss, packet: bytes, end: int, second: int) -> bool:
        """Make the answer of the A answer ``packet``; False where that is not plain."""
        count = packet[6] << 8 | packet[7]
        embed = self._embed
        if not count or embed is None or self._cache is None:
            return False
        offset = end
        lowest = MAX_TTL
        size = end
        parts: list[bytes] = []
        fields: list[tuple[int, int]] = []
        for _ in range(count):
            if packet[offset : offset + 6] != _A_RECORD or packet[offset + 10 : offset + 12] != b"\0\4":
                return False
            octets = packet[offset + 12 : offset + 16]
            if len(octets) != 4:
                return False
            made = embed(b"", octets)
            ttl = int.from_bytes(packet[offset + 6 : offset + 10], "big")
            if made is None or ttl & 0x80000000:
                return False
            ttl = min(ttl, miss.cap)
            lowest = min(lowest, ttl)
            parts.append(_AAAA_RECORD + ttl.to_bytes(4, "big") + _AAAA_LENGTH + made)
            fields.append((size + 4, ttl))  # behind owner, type and class, less the id
            size += 28
            offset += 16
        for _ in range(packet[8] << 8 | packet[9]):
            offset = _skip_record(packet, offset)
            if not offset:
                return False
        opt = _additional(packet, offset, packet[10] << 8 | packet[11])
        if opt is None:
            return False
        with_opt = miss.packet[11]
        flags = (packet[2] & 0xFB, packet[3] & 0xDF)  # without AA and AD
        head = bytes((*flags, 0, 1, packet[6], packet[7], 0, 0, 0, with_opt))
        tail = head + miss.question[:-4] + _AAAA_IN + b"".join(parts)
        if with_opt:
            tail += dns.opt_record(False, 0, opt)
        if len(tail) + 2 > dns.MIN_UDP:
            return False
        answer = b"\0\0" + tail
        key = miss.packet[2:]
        entry = self._cache.put(key, Answer(answer, lowest, tuple(fields)), answer, second)
        if self._told is not None:
            self._told.tell(miss.client, entry, second)
        miss.outbox.append((miss.packet[:2] + tail, miss.address))
        self._leave(miss, key)
        return True

    def _give_back(self, miss: Miss, packet: bytes) -> None:
        self._leave(miss, miss.packet[2:])
        self.odd.append((miss, packet))

    def _leave(self, miss: Miss, key: bytes) -> None:
        self._asked.discard(key)
        left = self._of_client[miss.client] - 1
        if left:
            self._of_client[miss.client] = left
        else:
            del self._of_client[miss.client]

    def sweep(self, now: float) -> float:
        """Give back what waits too long; returns when to look again, 0 where nothing is on its way."""
        for number, miss in list(self._pending.items()):
            # In the order in which they were asked.
            if miss.started + LATE > now:
                return miss.started + LATE
            del self._pending[number]
            self._give_back(miss, b"")
        return 0.0


def _skip_owner(packet: bytes, offset: int) -> int:
    """The offset behind a name that is read but not followed; 0 where there is none."""
    end = len(packet)
    while offset < end:
        length = packet[offset]
        if length == 0:
            return offset + 1
        if length >= 0xC0:
            return offset + 2
        if length > 63:
            return 0
        offset += length + 1
    return 0


def _skip_record(packet: bytes, offset: int) -> int:
    """The offset behind a record that is no OPT; 0 where there is none."""
    at = _skip_owner(packet, offset)
    if not at or at + 10 > len(packet) or (packet[at] == 0 and packet[at + 1] == dns.OPT):
        return 0
    behind = at + 10 + (packet[at + 8] << 8 | packet[at + 9])
    return behind if behind <= len(packet) else 0


def _additional(packet: bytes, offset: int, count: int) -> bytes | None:
    """The options of the last section's OPT record, b"" without one; None where it is not plain.

    Plain: no upper bits of the RCODE, one OPT, nothing behind the last record.
    """
    options = b""
    found = False
    for _ in range(count):
        if packet[offset : offset + 3] == b"\0\0\x29":
            if found or offset + 11 > len(packet) or packet[offset + 5]:
                return None
            found = True
            behind = offset + 11 + (packet[offset + 9] << 8 | packet[offset + 10])
            if behind > len(packet):
                return None
            options = packet[offset + 11 : behind]
            offset = behind
        else:
            offset = _skip_record(packet, offset)
            if not offset:
                return None
    return options if offset == len(packet) else None
