"""What is fuzzed: each target takes octets, and raises on anything that must not be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance.protocol import advertisement, dhcpv6
from appliance.protocol.client_hello import Sniff, from_records
from appliance.protocol.http1.chunked import Chunked, ChunkError
from appliance.protocol.proxy_sniff import Told, tell
from appliance.protocol.quic_initial import QuicInitial
from appliance.protocol.socks import parse_datagram
from tests.unit.protocol import test_advertisement as advertisement_tests
from tests.unit.protocol import test_dhcpv6 as dhcpv6_tests
from tests.unit.protocol import test_socks as socks
from tests.unit.protocol.http1 import test_properties as http1
from tests.unit.protocol.http1 import test_requests, test_responses
from tests.unit.protocol.http1.drive import WEBSOCKET, asked, content_of, requests, response
from tests.unit.protocol.http1.judge import judge_requests, judge_response
from tests.unit.protocol.quic import V1, V2, crypto, initial
from tests.unit.protocol.test_sniff import client_hello


@dataclass(frozen=True)
class Target:
    """``seeds`` begin the corpus; ``words`` are what a mutation may insert whole."""

    run: Callable[[bytes], None]
    seeds: Iterable[bytes]
    words: Iterable[bytes]


def _heads(data: bytes) -> None:
    size, data = 1 + data[:1].ljust(1, b"\0")[0] % 16, data[1:]
    run = requests(data)
    if requests(data, size).plain() != run.plain():
        raise AssertionError("pieces matter")
    http1.check_requests(run)
    for message in run.messages:
        verdict = judge_requests(message.head + message.body)
        if verdict.dangerous or len(verdict.messages) > 1:
            raise AssertionError(verdict)


def _responses(data: bytes) -> None:
    size, how, data = 1 + data[:1].ljust(1, b"\0")[0] % 16, data[1:2].ljust(1, b"\0")[0], data[2:]
    method, minor = ("HEAD" if how & 1 else "GET"), how >> 1 & 1
    request = asked(method, minor, WEBSOCKET if how & 4 else b"")
    run = response(data, request=request)
    if response(data, size, request).plain() != run.plain():
        raise AssertionError("pieces matter")
    if not how & 4:
        http1.check_response(run, method, minor)
    if run.messages and run.messages[-1].facts[0] != 101:
        message = run.messages[-1]
        verdict = judge_response(run.before + message.head + message.body, True, method)
        if verdict.dangerous or (message.whole and verdict.rest):
            raise AssertionError(verdict)


def _chunked(data: bytes) -> None:
    size, data = 1 + data[:1].ljust(1, b"\0")[0] % 16, data[1:]
    whole = _read_chunks(data, len(data) or 1)
    if _read_chunks(data, size) != whole:
        raise AssertionError("pieces matter")


def _read_chunks(data: bytes, size: int) -> object:
    framed, bare = Chunked(True), Chunked(False)
    out = content = b""
    try:
        for at in range(0, len(data), size):
            out += framed.feed(data[at : at + size])
            content += bare.feed(data[at : at + size])
            if framed.done:
                rest = framed.rest + data[at + size :]
                got, end, _trailers = content_of(out).partition(b"<end>")
                if not end or got != content or not bare.done:
                    raise AssertionError((out, content))
                return out[-4:], content, rest
    except ChunkError as error:
        return str(error)
    return "more", content if not framed.done else None


def _socks(data: bytes) -> None:
    size, how, data = 1 + data[:1].ljust(1, b"\0")[0] % 16, data[1:2].ljust(1, b"\0")[0], data[2:]
    methods = socks.OPEN if how & 1 else socks.USERS
    whole = socks.run(data, methods, right=bool(how & 2))
    if socks.run(data, methods, size, right=bool(how & 2)) != whole:
        raise AssertionError("pieces matter")
    parse_datagram(data)
    told = tell(data)
    if told is not Told.MORE and any(tell(data[:end]) not in (Told.MORE, told) for end in range(len(data))):
        raise AssertionError("a beginning told otherwise")


def _hellos(data: bytes) -> None:
    how, cut, data = data[:1].ljust(1, b"\0")[0], data[1:2].ljust(1, b"\0")[0], data[2:]
    if how & 1:
        whole = from_records(data)
        if whole is not Sniff.MORE and any(
            from_records(data[:end]) not in (Sniff.MORE, whole) for end in range(len(data))
        ):
            raise AssertionError("a beginning told otherwise")
        return
    flow = QuicInitial()
    if how & 2:  # datagrams as they are
        flow.feed(data[:cut])
        flow.feed(data[cut:])
        return
    flow.feed(initial(data[:cut], 0, V2 if how & 4 else V1))
    flow.feed(initial(data[cut:], 1, V2 if how & 4 else V1))


_HELLO = client_hello("www.example.org")
_HTTP_WORDS = http1.PIECES


def _links(data: bytes) -> None:
    """What anybody on a LAN sends to isthmus-lan."""
    told = advertisement.parse(data)
    if told is not None and len(told.prefixes) > advertisement.MAX_PREFIXES:
        raise AssertionError(told)
    asked = dhcpv6.question(data, dhcpv6_tests.SERVER)
    if asked is not None:
        answer = dhcpv6.reply(asked, dhcpv6_tests.SERVER, dhcpv6_tests.ANSWERS)
        if len(answer) > 200 + dhcpv6.MAX_DUID or not answer.startswith(b"\x07" + data[1:4]):
            raise AssertionError(answer)


TARGETS = {
    "links": Target(
        _links,
        [
            dhcpv6_tests.asks(
                dhcpv6_tests.option(1, dhcpv6_tests.CLIENT), dhcpv6_tests.wanted(23, 24, 31, 56)
            ),
            advertisement_tests.message(advertisement_tests.MAC, advertisement_tests.prefix("fd00::/64")),
        ],
        [b"\x0b", b"\x86\0", b"\0\x01\0\x0a", b"\0\x06\0\x02", b"\x03\x04\x40", b"\x01\x01"],
    ),
    "heads": Target(
        _heads,
        [
            b"\x03" + data
            for data in http1.GOOD_REQUESTS + [d for d, _ in test_requests.REFUSED if len(d) < 2000]
        ],
        _HTTP_WORDS,
    ),
    "responses": Target(
        _responses,
        [
            b"\x03\x00" + d
            for d in http1.GOOD_RESPONSES + [d for d in test_responses.REFUSED if len(d) < 2000]
        ],
        _HTTP_WORDS,
    ),
    "socks": Target(
        _socks,
        [
            b"\x03\x03" + data
            for data in (socks.GREETING + socks.V4, socks.GREETING + socks.name(b"a.example"))
        ]
        + [b"\x03\x02" + socks.GREETING + b"\x01\x03bob\x02pw" + socks.V6]
        + [b"\x03\x03\x04\x01\x01\xbb\x00\x00\x00\x01u\x00a.example\x00"],
        [socks.GREETING, socks.V4, socks.V6, b"\x04\x01", b"\x05\x03\x00", b"\0\0\0\x01", b"a.example"],
    ),
    "hellos": Target(
        _hellos,
        [
            b"\x01\0" + _HELLO,
            b"\0\xff" + crypto(0, _HELLO[5:105]) + b"\x01" + crypto(100, _HELLO[105:]),
            b"\x02\xff" + initial(crypto(0, _HELLO[5:])),
        ],
        [b"\x16\x03\x01", b"\0\0\0\x05\0\x03\0\0", b"\xfe\x0d", b"\x06\0\x40", b"\x02\x03\x01\0\0", b"\x1c"],
    ),
    "chunked": Target(
        _chunked,
        [b"\x03" + body for body in test_requests.BAD_CHUNKS if len(body) < 2000]
        + [b'\x033;a="b\\"c";d\r\nabc\r\n00a\r\n0123456789\r\n0\r\nA: b\r\n\r\nrest'],
        [b"\r\n", b"0\r\n\r\n", b"1\r\n", b";a=b", b'"', b"\\", b"A: b\r\n", b"host:", b"content-length:"],
    ),
}
