"""DHCPv6 without addresses: questions for other configuration, answers (RFC 8415 section 18.3.6). Pure.

No leases, no state, no relays: whoever asks for an address is not answered at all, as by a box that is no
DHCPv6 server for addresses.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

INFORMATION_REQUEST, REPLY = 11, 7
CLIENT_ID, SERVER_ID, IA_NA, IA_TA, OPTION_REQUEST, IA_PD = 1, 2, 3, 4, 6, 25
DNS_SERVERS, DOMAIN_LIST, SNTP_SERVERS, REFRESH_TIME, NTP_SERVER = 23, 24, 31, 32, 56
_NTP_ADDRESS = 1  # RFC 5908 section 4.1
# RFC 8415 section 11.1: a type of two octets, and at most 128 behind it.
MAX_DUID = 130
# Of a question. A client's has some hundred; a datagram holds no more without fragments.
MAX_MESSAGE = 1_500
MAX_OPTIONS = 64
# Seconds after which a client is to ask again (RFC 8415 section 21.23 has a day where nobody says). Shorter
# than a day, since what it is told may change while it sleeps; ten minutes is the least that clients take.
REFRESH = 7_200


@dataclass(frozen=True, slots=True)
class Question:
    """An Information-request: who asks (may be empty), and for which options; none: for all there are."""

    transaction: bytes
    client: bytes
    wanted: frozenset[int]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the hosts of a LAN are told."""

    dns_servers: tuple[IPv6Address, ...] = ()
    search_domains: tuple[str, ...] = ()
    ntp_servers: tuple[IPv6Address, ...] = ()


def duid(mac: bytes) -> bytes:
    """The server's identifier from a network card's address: DUID-LL (RFC 8415 section 11.4)."""
    return struct.pack("!HH", 3, 1) + mac


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each option's code and content; ValueError where one is cut short, or there are too many."""
    at, count = 0, 0
    while at < len(data):
        if count == MAX_OPTIONS:
            raise ValueError("too many options")
        if at + 4 > len(data):
            raise ValueError("an option is cut short")
        code, length = struct.unpack_from("!HH", data, at)
        at += 4
        if at + length > len(data):
            raise ValueError("an option is cut short")
        yield code, data[at : at + length]
        at += length
        count += 1


def question(message: bytes, server: bytes) -> Question | None:
    """What a message asks of the server with this DUID; None where that is nothing, or not for it.

    Discarded as RFC 8415 section 16.12 has it: what names another server, or carries an IA.
    """
    if not 4 <= len(message) <= MAX_MESSAGE or message[0] != INFORMATION_REQUEST:
        return None
    client = b""
    wanted: frozenset[int] = frozenset()
    seen: set[int] = set()
    try:
        for code, content in _options(message[4:]):
            if code in (IA_NA, IA_TA, IA_PD) or (code == SERVER_ID and content != server):
                return None
            if code in (CLIENT_ID, OPTION_REQUEST):
                if code in seen:
                    return None  # which of the two counts, nobody says
                seen.add(code)
            if code == CLIENT_ID:
                if not 3 <= len(content) <= MAX_DUID:
                    return None
                client = content
            elif code == OPTION_REQUEST:
                if len(content) % 2:
                    return None
                wanted = frozenset(struct.unpack(f"!{len(content) // 2}H", content))
    except ValueError:
        return None
    return Question(message[1:4], client, wanted)


def _option(code: int, content: bytes) -> bytes:
    return struct.pack("!HH", code, len(content)) + content


def _names(domains: Sequence[str]) -> bytes:
    """RFC 1035 section 3.1 without compression (RFC 8415 section 10); the names are valid ones."""
    out = bytearray()
    for domain in domains:
        for label in domain.split("."):
            out += bytes((len(label),)) + label.encode("ascii")
        out.append(0)
    return bytes(out)


def reply(asked: Question, server: bytes, answers: Answers) -> bytes:
    """The Reply to a question: only what was asked for, and of that only what there is."""

    def wants(code: int) -> bool:
        return not asked.wanted or code in asked.wanted

    out = bytes((REPLY,)) + asked.transaction + _option(SERVER_ID, server)
    if asked.client:
        out += _option(CLIENT_ID, asked.client)
    if answers.dns_servers and wants(DNS_SERVERS):
        out += _option(DNS_SERVERS, b"".join(one.packed for one in answers.dns_servers))
    if answers.search_domains and wants(DOMAIN_LIST):
        out += _option(DOMAIN_LIST, _names(answers.search_domains))
    if answers.ntp_servers and wants(SNTP_SERVERS):  # RFC 4075: what older clients ask for
        out += _option(SNTP_SERVERS, b"".join(one.packed for one in answers.ntp_servers))
    if answers.ntp_servers and wants(NTP_SERVER):
        servers = b"".join(_option(_NTP_ADDRESS, one.packed) for one in answers.ntp_servers)
        out += _option(NTP_SERVER, servers)
    return out + _option(REFRESH_TIME, struct.pack("!I", REFRESH))
