"""What RFC 6147 asks of a DNS64, as functions over messages. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from appliance.addressing import TranslationPrefix
from appliance.config.schema import Config, Translation
from appliance.dns64.cache import MAX_TTL, Answer, answer_of
from appliance.dns64.service_binding import without_ech
from appliance.protocol import dns

# RFC 6147 section 5.1.7: where the negative answer came without a SOA.
CAP_WITHOUT_SOA = 600
# Of the CNAME from ip6.arpa to in-addr.arpa: it is made of the configuration alone, and a changed
# prefix should be forgotten soon.
PTR_TTL = 600
# RFC 8880's zone file gives its records a day.
IPV4ONLY_TTL = 86_400

ALWAYS_EXCLUDED = IPv6Network("::ffff:0:0/96")  # RFC 6147 section 5.1.4
WELL_KNOWN_IPV4 = (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171"))  # RFC 7050 section 8.2

_IPV4ONLY = dns.wire_name("ipv4only.arpa")
_IP6_ARPA = dns.wire_name("ip6.arpa")
_IP6_ARPA_NAME = 32 * 2 + len(_IP6_ARPA)
_IPV4ONLY_PTR = frozenset(dns.wire_name(address.reverse_pointer) for address in WELL_KNOWN_IPV4)
_NIBBLES = {ord(digit): int(digit, 16) for digit in "0123456789abcdef"}
# MNAME and RNAME as RFC 8880 section 8 has them; serial 1, and times of an hour or a day.
_SOA_DATA = (
    dns.wire_name("sns.dns.icann.org")
    + dns.wire_name("noc.dns.icann.org")
    + b"".join(value.to_bytes(4, "big") for value in (1, 7_200, 3_600, 1_209_600, 3_600))
)
_NEGATIVE_TTL = 3_600
# A records whose synthesised counterparts are remembered, so that the tables of networks are not
# walked for each: 150 octets each. Then all are forgotten.
MAX_EMBEDDED = 65_536
_AAAA_HEAD = b"\0\x1c\0\1"  # type and class
_AAAA_TAIL = b"\0\x10"  # length of the data
_QUESTIONS_NAME = b"\xc0\x0c"  # a pointer to it
_AAAA_RECORD = 28  # octets, its owner a pointer


class Kind(Enum):
    """What a query needs."""

    FORWARD = "forward"  # as it is, both ways
    AAAA = "aaaa"  # AAAA, and A where that is empty
    PTR = "ptr"  # the name under in-addr.arpa, behind a CNAME
    LOCAL = "local"  # answered here


@dataclass(frozen=True, slots=True)
class Plan:
    """``answer`` belongs to LOCAL, ``target`` (a wire name) to PTR."""

    kind: Kind
    answer: bytes = b""
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class NeedA:
    """The AAAA side is empty: ask for A. ``negative`` is the empty answer, where there was a good one."""

    cap: int
    negative: dns.Message | None


def _address_of(name: bytes) -> bytes | None:
    """The sixteen octets behind a whole name under ip6.arpa (lower case), or None."""
    if len(name) != _IP6_ARPA_NAME or not name.endswith(_IP6_ARPA):
        return None
    value = 0
    for index in range(31, -1, -1):
        nibble = _NIBBLES.get(name[2 * index + 1])
        if name[2 * index] != 1 or nibble is None:
            return None
        value = value << 4 | nibble
    return value.to_bytes(16, "big")


def _suffixes(name: bytes) -> list[bytes]:
    found = []
    while name[0]:
        found.append(name)
        name = name[name[0] + 1 :]
    return found


class _Prefix:
    """A translation prefix with what it carries, as plain numbers."""

    __slots__ = ("has_domains", "networks", "prefix")

    def __init__(self, entry: Translation) -> None:
        self.prefix = TranslationPrefix(entry.prefix)
        self.has_domains = bool(entry.domains)
        # Base, mask and length of each network; the whole IPv4 Internet where none is named.
        self.networks = tuple(
            (int(network.network_address), int(network.netmask), network.prefixlen)
            for network in entry.networks or (IPv4Network("0.0.0.0/0"),)
        )

    def fit(self, ipv4: IPv4Address) -> int:
        """Length of the longest network that holds ``ipv4``; -1 where the prefix does not carry it."""
        if not self.prefix.may_carry(ipv4):
            return -1
        value = int(ipv4)
        return max((length for base, mask, length in self.networks if value & mask == base), default=-1)


def _ranges6(networks: tuple[IPv6Network, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((int(network.network_address), int(network.broadcast_address)) for network in networks)


class Synthesis:
    """The configuration compiled for the rules of RFC 6147."""

    def __init__(self, config: Config) -> None:
        settings = config.dns
        self._prefixes = tuple(_Prefix(entry) for entry in config.translation)
        self._default = tuple(prefix for prefix in self._prefixes if not prefix.has_domains)
        self._by_name: dict[bytes, tuple[_Prefix, ...]] = {}
        for prefix, entry in zip(self._prefixes, config.translation, strict=True):
            for domain in entry.domains:
                name = dns.wire_name(domain)
                self._by_name[name] = (*self._by_name.get(name, ()), prefix)
        self._chosen: dict[tuple[bytes, bytes], bytes | None] = {}
        self._excluded_names = frozenset(dns.wire_name(name) for name in settings.exclude_names)
        self._excluded_clients = _ranges6(settings.exclude_clients)
        self.excludes_clients = bool(self._excluded_clients)
        self._excluded_aaaa = _ranges6((ALWAYS_EXCLUDED, *settings.exclude_prefixes))
        self._excluded_ipv4: tuple[IPv4Network, ...] = settings.exclude_ipv4
        self._takes_ech_out = config.policy.ech == "block"

    @property
    def special(self) -> Callable[[bytes], bool] | None:
        """Tells of a name (lower case) whether it has rules of its own; None where no name has."""
        return self._is_special if self._excluded_names or self._by_name else None

    def _is_special(self, name: bytes) -> bool:
        return self._is_excluded_name(name) or bool(self._domain_of(name))

    def is_excluded_client(self, address: IPv6Address) -> bool:
        """True for a client with IPv4 of its own (dns.exclude_clients)."""
        value = int(address)
        return any(low <= value <= high for low, high in self._excluded_clients)

    def plan(self, query: dns.Message, excluded: bool) -> Plan:
        """What ``query`` needs, from a client that is or is not excluded."""
        name = query.name.lower()
        if query.qclass != dns.IN:
            return Plan(Kind.FORWARD)
        # The DS record, or the proof that there is none, is the parent zone's to give (RFC 4035 section
        # 3.1.4.1); a validator needs that proof to believe the unsigned answers that we make.
        proof = query.qtype == dns.DS and name == _IPV4ONLY
        if not proof and name.endswith(_IPV4ONLY) and _IPV4ONLY in _suffixes(name):
            return Plan(Kind.LOCAL, answer=self._ipv4only(query, name, excluded))
        # Section 5.5: a validator of its own wants the truth, and synthesises for itself.
        untouched = excluded or bool(query.dnssec_ok and query.flags & dns.CD)
        if query.qtype == dns.AAAA:
            return Plan(Kind.FORWARD if untouched or self._is_excluded_name(name) else Kind.AAAA)
        if query.qtype == dns.PTR:
            return self._plan_ptr(query, name, untouched)
        return Plan(Kind.FORWARD)

    def _is_excluded_name(self, name: bytes) -> bool:
        return bool(self._excluded_names) and any(s in self._excluded_names for s in _suffixes(name))

    def _plan_ptr(self, query: dns.Message, name: bytes, untouched: bool) -> Plan:
        if name in _IPV4ONLY_PTR:
            return Plan(Kind.LOCAL, answer=self._ipv4only_ptr(query))
        address = None if untouched else _address_of(name)
        if address is None:
            return Plan(Kind.FORWARD)
        for known in self._prefixes:
            packed = known.prefix.extract_packed(address)
            if packed is None:
                continue
            ipv4 = IPv4Address(packed)
            if ipv4 in WELL_KNOWN_IPV4:
                return Plan(Kind.LOCAL, answer=self._ipv4only_ptr(query))
            if known.fit(ipv4) >= 0 and not self._is_excluded_ipv4(ipv4):
                return Plan(Kind.PTR, target=dns.wire_name(ipv4.reverse_pointer))
        return Plan(Kind.FORWARD)

    def _is_excluded_ipv4(self, ipv4: IPv4Address) -> bool:
        return any(ipv4 in network for network in self._excluded_ipv4)

    def _domain_of(self, name: bytes) -> bytes:
        """The longest configured domain that a name (lower case) is in; empty: none."""
        if self._by_name:
            for suffix in _suffixes(name):
                if suffix in self._by_name:
                    return suffix
        return b""

    def embed(self, domain: bytes, packed: bytes) -> bytes | None:
        """The AAAA data for an A record's, of the one prefix that is right for it."""
        key = domain, packed
        try:
            return self._chosen[key]
        except KeyError:
            pass
        if len(self._chosen) >= MAX_EMBEDDED:
            self._chosen.clear()
        octets = self._chosen[key] = self._choose(domain, packed)
        return octets

    def _choose(self, domain: bytes, packed: bytes) -> bytes | None:
        """By the name, the most specific first, then by the network; last the prefixes without names."""
        ipv4 = IPv4Address(packed)
        if self._is_excluded_ipv4(ipv4):
            return None
        groups = [self._by_name[s] for s in (_suffixes(domain) if domain else ()) if s in self._by_name]
        for group in (*groups, self._default):
            fits = [known.fit(ipv4) for known in group]
            best = max(fits, default=-1)
            if best >= 0:
                return group[fits.index(best)].prefix.embed_packed(packed)
        return None

    def _ipv4only(self, query: dns.Message, name: bytes, excluded: bool) -> bytes:
        """RFC 7050 and RFC 8880: known without asking anyone, whatever DO and CD say."""
        below = name != _IPV4ONLY
        rcode = dns.Rcode.NXDOMAIN if below else dns.Rcode.NOERROR
        writer = dns.Writer(query, dns.answer_flags(query, rcode, authoritative=True))
        data: list[bytes] = []
        if not below:
            if query.qtype == dns.A:
                data = [address.packed for address in WELL_KNOWN_IPV4]
            elif query.qtype == dns.AAAA and not excluded:
                data = [p.prefix.embed_packed(a.packed) for p in self._default for a in WELL_KNOWN_IPV4]
            elif query.qtype == dns.SOA:
                data = [_SOA_DATA]
        for octets in data:
            writer.add(dns.ANSWER, query.name, query.qtype, dns.IN, IPV4ONLY_TTL, octets)
        if not data:
            writer.add(
                dns.AUTHORITY, query.name[-len(_IPV4ONLY) :], dns.SOA, dns.IN, _NEGATIVE_TTL, _SOA_DATA
            )
        if query.opt:
            writer.add_opt(query.dnssec_ok)
        return writer.finish()

    def _ipv4only_ptr(self, query: dns.Message) -> bytes:
        writer = dns.Writer(query, dns.answer_flags(query, authoritative=True))
        writer.add(dns.ANSWER, query.name, dns.PTR, dns.IN, IPV4ONLY_TTL, _IPV4ONLY)
        if query.opt:
            writer.add_opt(query.dnssec_ok)
        return writer.finish()

    def judge_aaaa(self, query: dns.Message, answer: dns.Message | None) -> Answer | NeedA:
        """The final answer from the AAAA side alone, or what to know while A is asked.

        ``answer`` is None after a time-out (RFC 6147 section 5.1.3).
        """
        if answer is None:
            return NeedA(CAP_WITHOUT_SOA, None)
        rcode = answer.rcode
        if rcode == dns.Rcode.NXDOMAIN:
            return answer_of(answer)
        if rcode != dns.Rcode.NOERROR:
            return NeedA(CAP_WITHOUT_SOA, None)  # section 5.1.2
        addresses = answer.answers(dns.AAAA)
        if not addresses:
            cap = answer.soa_ttl()
            return NeedA(CAP_WITHOUT_SOA if cap is None else cap, answer)
        out = {record for record in addresses if self._is_excluded_aaaa(answer.data(record))}
        if not out:
            return answer_of(answer)
        writer = dns.Writer(query, answer.flags & ~dns.AD)
        for record in answer.records:
            # The signature over the whole set is wrong for a part of it.
            if record in out or _covers(answer, record) == dns.AAAA or record.rtype == _TSIG:
                continue
            writer.copy(answer, record)
        kept = _finish(writer, query, answer)
        return answer_of(kept) if len(out) < len(addresses) else NeedA(CAP_WITHOUT_SOA, kept)

    def _is_excluded_aaaa(self, packed: bytes) -> bool:
        value = int.from_bytes(packed, "big")
        return len(packed) != 16 or any(low <= value <= high for low, high in self._excluded_aaaa)

    def answer_from_a(self, query: dns.Message, need: NeedA, answer: dns.Message | None) -> Answer:
        """The AAAA answer made of the A answer, with its whole chain (sections 5.1.5 to 5.1.7)."""
        if answer is None:
            return refusal(query, dns.Rcode.SERVFAIL)
        if answer.rcode != dns.Rcode.NOERROR:
            return _as_type(answer, query)
        domain = self._domain_of(query.name.lower()) if self._by_name else b""
        made = self._patched(query, need.cap, answer, domain)
        if made is not None:
            return made
        rewritten, synthesised = self._rewritten(query, need.cap, answer, domain)
        if synthesised:
            return answer_of(rewritten)
        if need.negative is not None:
            return answer_of(need.negative)
        # Without addresses: nobody has said that there is no AAAA, and clients would believe it for minutes.
        return answer_of(rewritten) if answer.answers(dns.A) else refusal(query, dns.Rcode.SERVFAIL)

    def _patched(self, query: dns.Message, cap: int, answer: dns.Message, domain: bytes) -> Answer | None:
        """``_rewritten`` where no octet ahead of the addresses moves, or None where one would.

        So it is with nearly every answer: CNAMEs first, then the A records, their owners pointers. What
        is kept is read all the same (DnsError): a name that leads nowhere is nothing for clients.
        """
        packet = answer.packet
        fields: list[tuple[int, int]] = []
        head = 0  # octets that stay as they are
        size = 0  # octets of the new answer so far
        parts: list[bytes] = []
        pointers = {_QUESTIONS_NAME}
        aliases: list[tuple[int, int, int]] = []  # their owners, data and ends
        for owner, rtype, rclass, ttl, data, length, section in answer.records:
            if section != dns.ANSWER:
                break
            if rtype == dns.A and length == 4 and rclass == dns.IN:
                if not head:
                    head = size = owner
                if data - owner != 12 or (packet[owner] & 0x3F) << 8 | packet[owner + 1] >= head:
                    return None
                pointers.add(packet[owner : owner + 2])
                octets = self.embed(domain, packet[data : data + 4])
                if octets is None:
                    continue
                ttl = min(ttl, cap)
                parts.append(
                    packet[owner : owner + 2] + _AAAA_HEAD + ttl.to_bytes(4, "big") + _AAAA_TAIL + octets
                )
                fields.append((size + 4, ttl))  # behind owner, type and class, less the id
                size += _AAAA_RECORD
            elif rtype == dns.CNAME and not head:
                aliases.append((owner, data, data + length))
                fields.append((data - 8, ttl))
            else:
                return None
        if not parts:
            return None
        end = answer.question_end
        flags = answer.flags & ~(dns.AD | dns.AA)
        parts.insert(0, dns.header(flags, len(fields), 1 if query.opt else 0))
        parts.insert(1, packet[dns.HEADER : end - 4] + _AAAA_HEAD + packet[end:head])
        if aliases or len(pointers) > 1:
            _read_all(parts[0] + parts[1], aliases, pointers)
        if query.opt:
            parts.append(dns.opt_record(query.dnssec_ok, 0, _options(answer)))
        packet = b"".join(parts)
        if len(packet) > dns.MAX_MESSAGE:
            return None  # thousands of A records, of 16 octets, are too long as AAAA records, of 28
        seconds = min(min(ttl for _offset, ttl in fields), MAX_TTL)
        return Answer(packet, seconds, tuple(fields))

    def _rewritten(
        self, query: dns.Message, cap: int, answer: dns.Message, domain: bytes
    ) -> tuple[dns.Message, bool]:
        """The answer written anew, and whether an address was synthesised."""
        writer = dns.Writer(query, answer.flags & ~(dns.AD | dns.AA))
        made = False
        for record in answer.records:
            if record.section != dns.ANSWER:
                break
            if record.rtype in (dns.CNAME, dns.DNAME) or _covers(answer, record) in (dns.CNAME, dns.DNAME):
                writer.copy(answer, record)
            elif record.rtype == dns.A and record.rclass == dns.IN and record.length == 4:
                octets = self.embed(domain, answer.data(record))
                if octets is not None:
                    owner, _ = dns.read_name(answer.packet, record.owner)
                    writer.add(dns.ANSWER, owner, dns.AAAA, dns.IN, min(record.ttl, cap), octets)
                    made = True
        return _finish(writer, query, answer), made

    def pass_on(self, query: dns.Message, answer: dns.Message | None) -> Answer:
        """What the upstream says of anything else.

        Where policy.ech is "block", without the keys of ECH: a client that has none names its server in the
        clear. Its hello would not tell, since browsers fill the extension with noise where they have none.
        """
        if answer is None:
            return refusal(query, dns.Rcode.SERVFAIL)
        if not self._takes_ech_out or query.qtype not in (dns.HTTPS, dns.SVCB, _ANY):
            return answer_of(answer)
        writer = dns.Writer(query, answer.flags & ~dns.AD)
        for record in answer.records:
            if record.rtype in (dns.HTTPS, dns.SVCB):
                data = without_ech(answer.data(record))
                if data is not None:
                    owner, _ = dns.read_name(answer.packet, record.owner)
                    writer.add(record.section, owner, record.rtype, record.rclass, record.ttl, data)
            elif _covers(answer, record) not in (dns.HTTPS, dns.SVCB) and record.rtype != _TSIG:
                writer.copy(answer, record)
        return answer_of(_finish(writer, query, answer))

    def answer_ptr(self, query: dns.Message, target: bytes, answer: dns.Message | None) -> Answer:
        """CNAME to ``target`` and what the upstream says of that (section 5.3.1, second way)."""
        if answer is None:
            return refusal(query, dns.Rcode.SERVFAIL)
        if answer.rcode not in (dns.Rcode.NOERROR, dns.Rcode.NXDOMAIN):
            return refusal(query, answer.rcode)
        writer = dns.Writer(query, answer.flags & ~(dns.AD | dns.AA))
        writer.add(dns.ANSWER, query.name, dns.CNAME, dns.IN, PTR_TTL, target)
        for record in answer.records:
            if record.section != dns.ADDITIONAL:
                writer.copy(answer, record)
        return answer_of(_finish(writer, query, answer))


def _read_all(kept: bytes, aliases: list[tuple[int, int, int]], pointers: set[bytes]) -> None:
    """Raise DnsError unless every name can be read, in the octets that stay as they are."""
    for owner, data, end in aliases:
        dns.read_name(kept, owner)
        if dns.read_name(kept, data)[1] != end:
            raise dns.DnsError("a name does not fill its record")
    for pointer in pointers:
        dns.read_name(kept + pointer, len(kept))


def refusal(query: dns.Message, rcode: int) -> Answer:
    """An answer without records, which is not kept."""
    return Answer(dns.bare_answer(query, rcode), 0, ())


_TSIG, _ANY = 250, 255


def _covers(message: dns.Message, record: dns.Record) -> int:
    """The type that an RRSIG covers; 0 for any other record."""
    if record.rtype != dns.RRSIG or record.length < 2:
        return 0
    return int.from_bytes(message.packet[record.data : record.data + 2], "big")


def _options(answer: dns.Message) -> bytes:
    return answer.data(answer.opt) if answer.opt else b""


def _finish(writer: dns.Writer, query: dns.Message, answer: dns.Message) -> dns.Message:
    if query.opt:
        writer.add_opt(query.dnssec_ok, answer.rcode >> 4, _options(answer))
    return dns.parse(writer.finish())


def _as_type(answer: dns.Message, query: dns.Message) -> Answer:
    """The same answer, as one to the query's own type: no octet moves."""
    out = bytearray(answer.packet)
    out[answer.question_end - 4 : answer.question_end - 2] = query.qtype.to_bytes(2, "big")
    out[3] &= ~dns.AD & 0xFF
    return answer_of(dns.parse(bytes(out)))
