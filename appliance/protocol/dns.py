"""DNS messages on the wire (RFC 1035, EDNS: RFC 6891): bytes in, values out.

A *wire name* is a name without compression, its root octet included. Every malformed message raises
``DnsError`` and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

PORT = 53
HEADER = 12
MAX_NAME = 255
MAX_MESSAGE = 65_535
MIN_UDP = 512  # RFC 1035 section 2.3.4; an EDNS size below it counts as this (RFC 6891 section 6.2.5)
# The size that every path of 1280 octets carries unfragmented (DNS flag day 2020). More would lose
# answers where fragments are dropped, less would send clients to TCP without need.
EDNS_SIZE = 1232

A, NS, CNAME, SOA, PTR, MX, AAAA, DNAME, OPT, DS, RRSIG = 1, 2, 5, 6, 12, 15, 28, 39, 41, 43, 46
SVCB, HTTPS = 64, 65
IN = 1

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE = 0x7800
RCODE = 0x000F
DO = 0x8000  # of the OPT record's flags

ANSWER, AUTHORITY, ADDITIONAL = 0, 1, 2

# Names of a chain of CNAMEs that are looked at: resolvers follow some ten to twenty.
MAX_ALIASES = 24
# What an octet of a label becomes: small letters, and "?" for what no host's name has in it.
SIGNS = bytes(
    octet if octet in b"-_0123456789abcdefghijklmnopqrstuvwxyz" else ord("?")
    for octet in bytes(range(256)).lower()
)

_COUNTS = Struct("!HHHHHH")
_QUESTION = Struct("!HH")
_RECORD = Struct("!HHIH")
_POINTER_LIMIT = 0x4000
# Record types whose data may hold compressed names (RFC 1035, RFC 3597 section 4): octets ahead of
# the names, number of names, octets behind them.
_NAMES_IN: dict[int, tuple[int, int, int]] = {
    NS: (0, 1, 0),
    CNAME: (0, 1, 0),
    SOA: (0, 2, 20),
    PTR: (0, 1, 0),
    MX: (2, 1, 0),
    DNAME: (0, 1, 0),
}


class Rcode(IntEnum):
    """Response codes that are told apart here."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


class DnsError(Exception):
    """The message is malformed."""


class Record(NamedTuple):
    """One resource record, as offsets into its message; ``ttl`` in seconds."""

    owner: int
    rtype: int
    rclass: int
    ttl: int
    data: int
    length: int
    section: int

    @property
    def ttl_offset(self) -> int:
        """Where the four octets of the TTL begin."""
        return self.data - 6


_record = tuple.__new__  # a named tuple's own constructor is a Python function: twice the time


@dataclass(slots=True)  # not frozen: that would treble what making one costs, four times a query
class Message:
    """A parsed message with exactly one question. Nobody changes one."""

    packet: bytes
    flags: int
    name: bytes  # the question's wire name, in the case it came in
    qtype: int
    qclass: int
    question_end: int
    records: tuple[Record, ...]
    opt: Record | None

    @property
    def rcode(self) -> int:
        """The whole response code, its upper bits from the OPT record (RFC 6891 section 6.1.3)."""
        upper = (self.opt.ttl >> 24) << 4 if self.opt else 0
        return upper | (self.flags & RCODE)

    @property
    def dnssec_ok(self) -> bool:
        """The DO bit (RFC 3225)."""
        return bool(self.opt and self.opt.ttl & DO)

    @property
    def edns_version(self) -> int:
        """Version of EDNS, 0 without an OPT record."""
        return (self.opt.ttl >> 16) & 0xFF if self.opt else 0

    @property
    def udp_size(self) -> int:
        """Octets of the largest UDP answer that the sender of this query takes, and we send."""
        return min(max(self.opt.rclass, MIN_UDP), EDNS_SIZE) if self.opt else MIN_UDP

    def data(self, record: Record) -> bytes:
        """The record's data as it is on the wire, compression included."""
        return self.packet[record.data : record.data + record.length]

    def answers(self, rtype: int) -> list[Record]:
        """Records of the type and of class IN in the answer section."""
        return [r for r in self.records if r.rtype == rtype and r.section == ANSWER and r.rclass == IN]

    def soa_ttl(self) -> int | None:
        """Seconds that a negative answer holds: min(TTL, MINIMUM) of its SOA (RFC 2308 section 5)."""
        for record in self.records:
            if record.rtype == SOA and record.section == AUTHORITY and record.length >= 20:
                end = record.data + record.length
                return min(record.ttl, int.from_bytes(self.packet[end - 4 : end], "big"))
        return None


def skip_name(packet: bytes, offset: int) -> int:
    """Offset behind the name at ``offset``; pointers are not followed."""
    end = len(packet)
    while offset < end:
        length = packet[offset]
        if length == 0:
            return offset + 1
        if length >= 0xC0:
            if offset + 2 > end:
                break
            return offset + 2
        if length > 63:
            raise DnsError("a label of unknown kind")
        offset += length + 1
    raise DnsError("a name runs past the end")


def read_name(packet: bytes, offset: int) -> tuple[bytes, int]:
    """The wire name at ``offset`` with its pointers followed, and the offset behind it.

    A pointer must point ahead of the name that it ends (RFC 1035 section 4.1.4), so loops cannot be.
    """
    out = bytearray()
    behind = 0
    barrier = offset
    end = len(packet)
    while offset < end:
        length = packet[offset]
        if length >= 0xC0:
            if offset + 2 > end:
                break
            target = ((length & 0x3F) << 8) | packet[offset + 1]
            if not behind:
                behind = offset + 2
            if target >= barrier or target < HEADER:
                raise DnsError("a pointer that does not point back")
            offset = barrier = target
            continue
        if length > 63:
            raise DnsError("a label of unknown kind")
        out += packet[offset : offset + length + 1]
        offset += length + 1
        if len(out) > MAX_NAME:
            raise DnsError("a name of more than 255 octets")
        if length == 0:
            return bytes(out), behind or offset
    raise DnsError("a name runs past the end")


def name_text(wire: bytes, at: int = 0) -> str:
    """A wire name as policy reads it, from offset ``at``: in small letters, without the final dot.

    It is whole, without pointers. With a "?" in it, it equals no name of a rule's, but stays below those that
    it is below.
    """
    labels = []
    while wire[at]:
        behind = at + 1 + wire[at]
        labels.append(wire[at + 1 : behind].translate(SIGNS))
        at = behind
    return b".".join(labels).decode("ascii")


def parse(packet: bytes) -> Message:
    """The message in ``packet``; raises DnsError where it is malformed or has not one question."""
    end = len(packet)
    if end < HEADER:
        raise DnsError("shorter than a header")
    if packet[4:6] != b"\0\1":
        raise DnsError("not exactly one question")
    name, offset = read_name(packet, HEADER)
    if offset + 4 > end:
        raise DnsError("the question is cut short")
    return _parse_records(packet, name, offset + 4)


def parse_answer(packet: bytes, question: bytes) -> Message:
    """The answer to ``question`` (a wire name, type and class), which ``answers_question`` has found in it.

    The name is then the question's, in its spelling, should the upstream have changed that.
    """
    end = HEADER + len(question)
    if packet[HEADER:end] != question:
        packet = packet[:HEADER] + question + packet[end:]
    return _parse_records(packet, question[:-4], end)


def _parse_records(packet: bytes, name: bytes, question_end: int) -> Message:
    """The message whose one question is known. This is the hot loop of every uncached name."""
    end = len(packet)
    _, flags, _, answers, authorities, additionals = _COUNTS.unpack_from(packet)
    qtype, qclass = _QUESTION.unpack_from(packet, question_end - 4)
    offset = question_end
    records: list[Record] = []
    opt: Record | None = None
    for section, count in ((ANSWER, answers), (AUTHORITY, authorities), (ADDITIONAL, additionals)):
        for _ in range(count):
            owner = offset
            # Most owners are a pointer or the root.
            if offset + 2 <= end and packet[offset] >= 0xC0:
                offset += 2
            else:
                offset = skip_name(packet, offset)
            if offset + 10 > end:
                raise DnsError("a record is cut short")
            rtype, rclass, ttl, length = _RECORD.unpack_from(packet, offset)
            offset += 10
            if offset + length > end:
                raise DnsError("a record's data is cut short")
            if rtype == OPT:
                if opt is not None or section != ADDITIONAL or packet[owner]:
                    raise DnsError("a misplaced OPT record")
                opt = _record(Record, (owner, rtype, rclass, ttl, offset, length, section))
            else:
                if ttl & 0x80000000:
                    ttl = 0  # RFC 2181 section 8
                records.append(_record(Record, (owner, rtype, rclass, ttl, offset, length, section)))
            offset += length
    if offset != end:
        raise DnsError("octets behind the last record")
    return Message(packet, flags, name, qtype, qclass, question_end, tuple(records), opt)


def expand(message: Message, record: Record) -> bytes:
    """The record's data with compressed names written out."""
    shape = _NAMES_IN.get(record.rtype)
    if shape is None:
        return message.data(record)
    ahead, names, behind = shape
    end = record.data + record.length
    if ahead > record.length:
        raise DnsError("a record's data is too short")
    offset = record.data + ahead
    out = message.packet[record.data : offset]
    for _ in range(names):
        name, offset = read_name(message.packet, offset)
        out += name
    if offset + behind != end:
        raise DnsError("the names do not fill their record")
    return out + message.packet[offset:end]


class Writer:
    """Builds an answer to ``query``; owner names are compressed."""

    def __init__(self, query: Message, flags: int) -> None:
        self._out = bytearray(_COUNTS.pack(0, flags, 1, 0, 0, 0))
        self._names: dict[bytes, int] = {}
        self._counts = [0, 0, 0]
        self._name(query.name)
        self._out += _QUESTION.pack(query.qtype, query.qclass)

    def _name(self, name: bytes) -> None:
        offset = 0
        out, names = self._out, self._names
        while name[offset]:
            suffix = name[offset:]
            known = names.get(suffix)
            if known is not None:
                out += (0xC000 | known).to_bytes(2, "big")
                return
            if len(out) < _POINTER_LIMIT:
                names[suffix] = len(out)
            out += name[offset : offset + name[offset] + 1]
            offset += name[offset] + 1
        out.append(0)

    def add(self, section: int, owner: bytes, rtype: int, rclass: int, ttl: int, data: bytes) -> None:
        """Append a record; sections come in their order. ``ttl`` in seconds, ``data`` uncompressed."""
        self._name(owner)
        self._out += _RECORD.pack(rtype, rclass, ttl, len(data)) + data
        self._counts[section] += 1

    def copy(self, message: Message, record: Record, ttl: int | None = None) -> None:
        """Append a record of another message."""
        owner, _ = read_name(message.packet, record.owner)
        data = expand(message, record)
        self.add(record.section, owner, record.rtype, record.rclass, record.ttl if ttl is None else ttl, data)

    def add_opt(self, dnssec_ok: bool, extended_rcode: int = 0, options: bytes = b"") -> None:
        """Append our OPT record (RFC 6891 section 6.1)."""
        self._out += opt_record(dnssec_ok, extended_rcode, options)
        self._counts[ADDITIONAL] += 1

    def finish(self) -> bytes:
        """The message, its id zero; raises DnsError where it would be larger than DNS can carry."""
        if len(self._out) > MAX_MESSAGE:
            raise DnsError("the answer is larger than a message can be")
        self._out[6:12] = b"".join(count.to_bytes(2, "big") for count in self._counts)
        return bytes(self._out)


def opt_record(dnssec_ok: bool, extended_rcode: int = 0, options: bytes = b"") -> bytes:
    """Our OPT record (RFC 6891 section 6.1); ``extended_rcode``: the upper eight bits."""
    ttl = extended_rcode << 24 | (DO if dnssec_ok else 0)
    return b"\0" + _RECORD.pack(OPT, EDNS_SIZE, ttl, len(options)) + options


def header(flags: int, answers: int, additionals: int) -> bytes:
    """The header of a message with one question, its id zero, without authorities."""
    return _COUNTS.pack(0, flags, 1, answers, 0, additionals)


def answer_flags(query: Message, rcode: int = 0, authoritative: bool = False) -> int:
    """Flags of an answer that we make ourselves: RD and CD as asked, RA, never AD."""
    return QR | RA | (query.flags & (OPCODE | RD | CD)) | (AA if authoritative else 0) | (rcode & RCODE)


def bare_answer(query: Message, rcode: int, extra: int = 0) -> bytes:
    """An answer without records, with OPT where the query had one; ``rcode`` may be an extended one."""
    writer = Writer(query, answer_flags(query, rcode) | extra)
    if query.opt:
        writer.add_opt(query.dnssec_ok, rcode >> 4)
    return writer.finish()


def header_answer(packet: bytes, rcode: int) -> bytes | None:
    """The answer to what could not be parsed; None where nothing may be sent.

    Without an id there is nobody to answer, and answering an answer would make a loop.
    """
    if len(packet) < 4 or packet[2] & 0x80:
        return None
    flags = QR | (int.from_bytes(packet[2:4], "big") & (OPCODE | RD)) | rcode
    return packet[:2] + flags.to_bytes(2, "big") + bytes(8)


def canonical_query(query: Message, qtype: int | None = None, name: bytes | None = None) -> bytes:
    """The query as it goes upstream: id zero, RD, AD and CD kept, EDNS options left out.

    Options belong to one hop (RFC 6891 section 6.2.6): a client's cookie is no business of the
    resolver behind us, and would make each query look new to the cache.
    """
    name = query.name if name is None else name
    flags = query.flags & (RD | AD | CD)
    out = _COUNTS.pack(0, flags, 1, 0, 0, 1 if query.opt else 0) + name
    out += _QUESTION.pack(query.qtype if qtype is None else qtype, query.qclass)
    if query.opt:
        out += b"\0" + _RECORD.pack(OPT, query.opt.rclass, DO if query.dnssec_ok else 0, 0)
    return out


def answers_question(packet: bytes, question: bytes) -> bool:
    """True where ``packet`` is an answer to exactly ``question`` (name, type, class; case is ignored)."""
    end = HEADER + len(question)
    asked = packet[HEADER:end]
    return (
        len(packet) >= end
        and packet[2] & 0x80 != 0
        and packet[4:6] == b"\0\1"
        and (
            asked == question or (asked[-4:] == question[-4:] and asked[:-4].lower() == question[:-4].lower())
        )
    )


def take_stream(buffer: bytearray) -> list[bytes]:
    """Remove the whole messages from a TCP stream's ``buffer`` (RFC 1035 section 4.2.2: length first)."""
    found: list[bytes] = []
    offset = 0
    while len(buffer) >= offset + 2:
        end = offset + 2 + int.from_bytes(buffer[offset : offset + 2], "big")
        if len(buffer) < end:
            break
        found.append(bytes(buffer[offset + 2 : end]))
        offset = end
    del buffer[:offset]
    return found


def wire_name(text: str) -> bytes:
    """The wire name, in lower case, of a plain host name ("" is the root)."""
    labels = [label.encode("ascii").lower() for label in text.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
