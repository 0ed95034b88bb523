"""The answers that are kept, by the query's own octets. Pure: the caller brings the time."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.protocol import dns

# About 600 octets each with Python's overhead: 30 MB. unbound has the larger cache behind this one.
MAX_ENTRIES = 50_000
# A day: a record with a longer TTL is asked anew sooner, which costs nothing.
MAX_TTL = 86_400


@dataclass(slots=True)
class Entry:
    """An answer without its id, its TTLs right for the second ``patched``."""

    tail: bytes
    limit: int  # octets that fit into the client's UDP answer
    short: bytes  # what is sent by UDP where the tail does not fit (TC)
    stored: int
    expires: int
    patched: int
    fields: tuple[tuple[int, int], ...]  # offset into the tail, TTL when stored


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

    def __init__(self, limit: int = MAX_ENTRIES) -> None:
        self._limit = limit
        self._entries: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: int) -> Entry | None:
        """The entry with its TTLs aged to ``now``, or None."""
        entry = self._entries.get(key)
        if entry is None or entry.patched == now:
            return entry
        if now >= entry.expires:
            del self._entries[key]
            return None
        tail = bytearray(entry.tail)
        age = now - entry.stored
        for offset, ttl in entry.fields:
            tail[offset : offset + 4] = max(ttl - age, 0).to_bytes(4, "big")
        entry.tail = bytes(tail)
        entry.patched = now
        return entry

    def put(self, key: bytes, answer: dns.Message, limit: int, short: bytes, now: int) -> None:
        """Keep ``answer`` for its lifetime; ``limit`` and ``short`` as in Entry."""
        seconds = lifetime(answer)
        if seconds <= 0:
            return
        if key not in self._entries and len(self._entries) >= self._limit:
            del self._entries[next(iter(self._entries))]
        fields = tuple((record.ttl_offset - 2, record.ttl) for record in answer.records)
        self._entries[key] = Entry(answer.packet[2:], limit, short[2:], now, now + seconds, now, fields)
