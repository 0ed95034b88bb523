"""The answers that are kept, by the query's own octets. Pure: the caller brings the time."""

from __future__ import annotations

from appliance.protocol import dns

# About 700 octets each with Python's overhead: 35 MB. unbound has the larger cache behind this one.
MAX_ENTRIES = 50_000
# Octets of all kept answers together: a name's owner chooses how long its answers are, and 50,000 of
# the longest would be 3 GB. A site's usual answers have 100 to 200 octets, so the entries end first.
MAX_OCTETS = 32 << 20
# A day: a record with a longer TTL is asked anew sooner, which costs nothing.
MAX_TTL = 86_400


class Answer:
    """A whole answer, its id of no meaning, with what the cache has to know of it.

    ``seconds`` that it may be kept; ``fields``: of each TTL its offset behind the id, its seconds.
    """

    __slots__ = ("fields", "packet", "seconds")

    def __init__(self, packet: bytes, seconds: int, fields: tuple[tuple[int, int], ...]) -> None:
        self.packet = packet
        self.seconds = seconds
        self.fields = fields


def answer_of(message: dns.Message) -> Answer:
    """A parsed message as an answer."""
    fields = tuple((record.ttl_offset - 2, record.ttl) for record in message.records)
    return Answer(message.packet, lifetime(message), fields)


class Entry:
    """An answer without its id, its TTLs right for the second ``patched``.

    ``udp``: what is sent by UDP, the tail, or where it does not fit an empty answer with TC; ``fits``: both
    are the same; ``fields``: of each TTL its offset into the tail, its seconds when stored. ``mark`` and
    ``addresses`` are told.py's: what this entry is known by, and what it tells (None: not looked at yet).
    ``aliases``: the names that it passes through, likewise.
    """

    __slots__ = (
        "addresses",
        "aliases",
        "expires",
        "fields",
        "fits",
        "mark",
        "patched",
        "stored",
        "tail",
        "udp",
    )

    def __init__(
        self, tail: bytes, udp: bytes, fits: bool, now: int, seconds: int, fields: tuple[tuple[int, int], ...]
    ) -> None:
        self.tail = tail
        self.udp = udp
        self.fits = fits
        self.stored = now
        self.expires = now + seconds
        self.patched = now
        self.fields = fields
        self.mark = object()
        self.addresses: tuple[bytes, ...] | None = None
        self.aliases: tuple[str, ...] | None = None


def lifetime(answer: dns.Message) -> int:
    """Seconds that an answer may be kept: its least TTL, of a negative one the SOA's (RFC 2308 section 5)."""
    if answer.rcode not in (dns.Rcode.NOERROR, dns.Rcode.NXDOMAIN) or answer.flags & dns.TC:
        return 0
    ttls = [record.ttl for record in answer.records]
    negative = answer.rcode == dns.Rcode.NXDOMAIN or all(
        record.rtype != answer.qtype or record.section != dns.ANSWER for record in answer.records
    )
    if negative:
        soa = answer.soa_ttl()
        if soa is None:
            return 0
        ttls.append(soa)
    return min(min(ttls, default=0), MAX_TTL)


class Cache:
    """Bounded; the oldest entry goes first. Times are whole seconds of any steady clock."""

    def __init__(self, entries: int = MAX_ENTRIES, octets: int = MAX_OCTETS) -> None:
        self._max_entries = entries
        self._max_octets = octets
        self._octets = 0
        self._entries: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: int) -> Entry | None:
        """The entry with its TTLs aged to ``now``, or None. This is the hot path of all."""
        entry = self._entries.get(key)
        if entry is None or entry.patched == now:
            return entry
        if now >= entry.expires:
            self._remove(key)
            return None
        tail = bytearray(entry.tail)
        age = now - entry.stored
        for offset, ttl in entry.fields:
            tail[offset : offset + 4] = max(ttl - age, 0).to_bytes(4, "big")
        entry.tail = bytes(tail)
        if entry.fits:
            entry.udp = entry.tail
        entry.patched = now
        return entry

    def put(self, key: bytes, answer: Answer, udp: bytes, now: int) -> Entry:
        """Keep ``answer`` for its lifetime; ``udp`` is the whole packet that is sent by UDP.

        The entry is returned also where it may not be kept.
        """
        tail = answer.packet[2:]
        fits = udp is answer.packet
        entry = Entry(tail, tail if fits else udp[2:], fits, now, max(answer.seconds, 0), answer.fields)
        if answer.seconds <= 0:
            return entry
        if key in self._entries:
            self._remove(key)
        size = len(key) + len(answer.packet)
        while self._entries and (
            len(self._entries) >= self._max_entries or self._octets + size > self._max_octets
        ):
            self._remove(next(iter(self._entries)))
        self._octets += size
        self._entries[key] = entry
        return entry

    def _remove(self, key: bytes) -> None:
        self._octets -= len(key) + len(self._entries.pop(key).tail) + 2
