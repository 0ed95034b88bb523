"""IPv6 packets as a worker reads and writes them through its TUN: TCP SYNs, UDP, ICMPv6.

Everything works on whole packets as ``bytes``, from the first octet of the IPv6 header. Extension
headers are not walked: a packet with one is "other" to the caller.
"""

from __future__ import annotations

from struct import Struct

IPV6_HEADER = 40
IPV4_HEADER = 20
UDP_HEADER = 8
TCP_HEADER = 20  # without options
ICMP_HEADER = 8

TCP = 6
UDP = 17
FRAGMENT = 44
ICMPV6 = 58

PACKET_TOO_BIG = 2
TIME_EXCEEDED = 3
ECHO_REQUEST_V6 = 128
ECHO_REPLY_V6 = 129
UNREACHABLE_V4 = 3
ECHO_REQUEST_V4 = 8
TIME_EXCEEDED_V4 = 11
ECHO_REPLY_V4 = 0

# RFC 4443 section 2.4 (c): an error quotes as much as fits into the least MTU.
MIN_MTU = 1280
MAX_QUOTE = MIN_MTU - IPV6_HEADER - ICMP_HEADER

FRAGMENT_HEADER = 8
_FRAGMENT_PAYLOAD = (MIN_MTU - IPV6_HEADER - FRAGMENT_HEADER) & ~7

_HEADER = Struct("!IHBB")
_HEADER_V4 = Struct("!BBHHHBBH")
_MORE_FRAGMENTS = 0x2000
_TCP = Struct("!HHIIBBHHH")
_VERSION = 6 << 28
_HOP_LIMIT = 64
_RST_ACK = 0x14


def ones_sum(data: bytes) -> int:
    """A number congruent to the ones' complement sum of ``data`` (RFC 1071), not yet folded.

    A big-endian number modulo 65,535 is the sum of its 16-bit words, carries added back in: one
    division in C instead of a loop in Python.
    """
    if len(data) & 1:
        data += b"\0"
    return int.from_bytes(data, "big") % 0xFFFF


def checksum(source: bytes, target: bytes, protocol: int, payload: bytes) -> int:
    """Checksum of an upper-layer packet with the pseudo-header of RFC 8200 section 8.1.

    0xFFFF stands for zero: UDP demands it, and for the others both are the same number.
    """
    total = ones_sum(source + target) + ones_sum(payload) + len(payload) + protocol
    return 0xFFFF - total % 0xFFFF


def checksum_holds(packet: bytes) -> bool:
    """True where the checksum inside a received packet (no extension header) is right."""
    payload = packet[IPV6_HEADER:]
    total = ones_sum(packet[8:IPV6_HEADER]) + ones_sum(payload) + len(payload) + packet[6]
    return total % 0xFFFF == 0


def header(source: bytes, target: bytes, protocol: int, length: int, hop_limit: int = _HOP_LIMIT) -> bytes:
    """The forty octets of an IPv6 header."""
    return _HEADER.pack(_VERSION, length, protocol, hop_limit) + source + target


def tcp_reset(syn: bytes) -> bytes:
    """The RST that answers ``syn`` as the server would have sent it (RFC 9293 section 3.5.2)."""
    sequence = int.from_bytes(syn[44:48], "big")
    source, target = syn[24:40], syn[8:24]
    to_port, from_port = int.from_bytes(syn[40:42], "big"), int.from_bytes(syn[42:44], "big")
    bare = _TCP.pack(from_port, to_port, 0, (sequence + 1) & 0xFFFFFFFF, 5 << 4, _RST_ACK, 0, 0, 0)
    total = checksum(source, target, TCP, bare)
    return header(source, target, TCP, TCP_HEADER) + bare[:16] + total.to_bytes(2, "big") + bare[18:]


def icmpv6(source: bytes, target: bytes, kind: int, code: int, word: int, body: bytes) -> bytes:
    """An ICMPv6 message; ``word`` is the four octets after the checksum (MTU, or id and sequence)."""
    tail = word.to_bytes(4, "big") + body
    total = checksum(source, target, ICMPV6, bytes((kind, code, 0, 0)) + tail)
    return (
        header(source, target, ICMPV6, 4 + len(tail)) + bytes((kind, code)) + total.to_bytes(2, "big") + tail
    )


def icmpv6_error(source: bytes, kind: int, code: int, offending: bytes, mtu: int = 0) -> bytes:
    """The error about ``offending``, sent to who sent it, quoting it (RFC 4443 section 3)."""
    return icmpv6(source, offending[8:24], kind, code, mtu, offending[:MAX_QUOTE])


def udp(source: bytes, target: bytes, ports: bytes, payload: bytes, hop_limit: int = _HOP_LIMIT) -> bytes:
    """A UDP datagram; ``ports`` is source and destination port, four octets."""
    length = UDP_HEADER + len(payload)
    octets = length.to_bytes(2, "big")
    total = ones_sum(source + target) + ones_sum(ports) + ones_sum(payload) + 2 * length + UDP
    return (
        header(source, target, UDP, length, hop_limit)
        + ports
        + octets
        + (0xFFFF - total % 0xFFFF).to_bytes(2, "big")
        + payload
    )


def udp_v4(ends: bytes, payload: bytes, ttl: int) -> bytes:
    """A UDP datagram of IPv4, as a raw socket takes it: the kernel fills the rest of the header in.

    ``ends``: source, destination, source port, destination port: 12 octets.
    """
    length = UDP_HEADER + len(payload)
    total = ones_sum(ends) + ones_sum(payload) + 2 * length + UDP
    return (
        _HEADER_V4.pack(0x45, 0, IPV4_HEADER + length, 0, 0, ttl, UDP, 0)
        + ends
        + length.to_bytes(2, "big")
        + (0xFFFF - total % 0xFFFF).to_bytes(2, "big")
        + payload
    )


def fragments_v4(packet: bytes, identification: int, mtu: int) -> list[bytes]:
    """A packet of IPv4 (header of 20 octets) cut into fragments of at most ``mtu`` (RFC 791 section 2.3)."""
    body = packet[IPV4_HEADER:]
    most = (mtu - IPV4_HEADER) & ~7
    out = []
    for offset in range(0, len(body), most):
        piece = body[offset : offset + most]
        more = _MORE_FRAGMENTS if offset + len(piece) < len(body) else 0
        fields = (
            0x45,
            0,
            IPV4_HEADER + len(piece),
            identification,
            more | offset >> 3,
            packet[8],
            packet[9],
            0,
        )
        out.append(_HEADER_V4.pack(*fields) + packet[12:IPV4_HEADER] + piece)
    return out


def fragments(packet: bytes, identification: int, mtu: int) -> list[bytes]:
    """``packet`` as it is, or cut into fragments of the least MTU where it is over ``mtu``.

    RFC 8200 section 4.5; the packet has no extension header.
    """
    if len(packet) <= mtu:
        return [packet]
    protocol, body = packet[6], packet[IPV6_HEADER:]
    source, target = packet[8:24], packet[24:40]
    out = []
    for offset in range(0, len(body), _FRAGMENT_PAYLOAD):
        piece = body[offset : offset + _FRAGMENT_PAYLOAD]
        more = offset + len(piece) < len(body)
        fragment = bytes((protocol, 0)) + (offset | more).to_bytes(2, "big")
        fragment += identification.to_bytes(4, "big")
        out.append(header(source, target, FRAGMENT, FRAGMENT_HEADER + len(piece)) + fragment + piece)
    return out


def icmp_error_to_v6(kind: int, code: int, mtu: int) -> tuple[int, int, int] | None:
    """An ICMPv4 error as ICMPv6: (type, code, MTU), or None where nothing is sent.

    RFC 7915 section 4.2. The MTU grows by the 20 octets between the two headers, and is never said
    to be under IPv6's least.
    """
    if kind == 11:  # time exceeded
        return 3, code & 1, 0
    if kind != 3:
        return None
    if code == 4:  # fragmentation needed
        return 2, 0, max(mtu + 20, MIN_MTU)
    if code == 3:
        return 1, 4, 0
    if code in (9, 10, 13, 15):
        return 1, 1, 0
    if code == 1:  # host unreachable: what a last-hop router says; the neighbour does not answer
        return 1, 3, 0
    return (1, 0, 0) if code in (0, 5, 6, 7, 8, 11, 12) else None
