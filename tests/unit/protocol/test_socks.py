"""SOCKS 5, 4 and 4a handshakes in any pieces, every failure's code, and the UDP header."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import WIRE, Failure
from appliance.protocol.socks import (
    MAX_EARLY,
    Command,
    Credentials,
    Method,
    SocksRequest,
    SocksServer,
    State,
    datagram_header,
    parse_datagram,
)

OPEN = (Method.NONE, Method.PASSWORD)
USERS = (Method.PASSWORD,)
GREETING = b"\x05\x02\x00\x02"
V4 = b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"
V6 = b"\x05\x01\x00\x04" + ip_address("2001:db8::1").packed + b"\x01\xbb"


def name(text: bytes, command: int = 1, port: int = 443) -> bytes:
    return bytes((5, command, 0, 3, len(text))) + text + port.to_bytes(2, "big")


def run(
    data: bytes, methods: tuple[Method, ...] = OPEN, size: int = 1 << 20, right: bool = True
) -> tuple[list[object], bytes, State, bytes]:
    """Events, replies in one, how it ended, and what the tunnel begins with."""
    server, events, out = SocksServer(methods), list[object](), b""
    for at in range(0, len(data), size):
        event = server.feed(data[at : at + size])
        while event is not None:
            if isinstance(event, bytes):
                out += event
            else:
                events.append(event)
                if isinstance(event, Credentials):
                    out += server.verified(right)
            event = server.feed(b"")
    state = server.state
    return events, out, state, server.take()


@pytest.mark.parametrize(
    ("request_", "host", "port"),
    [
        (V4, "192.0.2.1", 443),
        (V6, "2001:db8::1", 443),
        (name(b"WWW.Example.org."), "www.example.org", 443),
        (name(b"2001:DB8::1"), "2001:db8::1", 443),
        (name(b"[2001:DB8::1]"), "2001:db8::1", 443),
        (name(b"192.0.2.1"), "192.0.2.1", 443),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_connect(request_: bytes, host: str, port: int, size: int) -> None:
    events, out, state, rest = run(GREETING + request_ + b"early", size=size)
    assert events == [SocksRequest(5, Command.CONNECT, host, port, b"")]
    assert (out, state, rest) == (b"\x05\x00", State.DECIDING, b"early")


def test_password() -> None:
    login = b"\x01\x03bob\x02pw"
    for size in range(1, 20):
        events, out, state, _rest = run(GREETING + login + V4, USERS, size)
        assert events == [Credentials(b"bob", b"pw"), SocksRequest(5, Command.CONNECT, "192.0.2.1", 443, b"")]
        assert (out, state) == (b"\x05\x02\x01\x00", State.DECIDING)
        events, out, state, rest = run(GREETING + login + V4, USERS, size, right=False)
        assert (events, out, state, rest) == (
            [Credentials(b"bob", b"pw")], b"\x05\x02\x01\x01", State.CLOSED, b""
        )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "methods", "reply"),
    [
        (b"GET / HTTP/1.1\r\n", OPEN, b""),
        (b"\x16\x03\x01", OPEN, b""),
        (b"\x05\x01\x00", USERS, b"\x05\xff"),
        (b"\x05\x00", OPEN, b"\x05\xff"),
        (b"\x05\x01\x01", OPEN, b"\x05\xff"),
        (b"\x05\x01\x02\x05\x03bob\x02pw", USERS, b"\x05\x02\x01\x01"),
        (GREETING + b"\x04", OPEN, b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
        (GREETING + V4[:2] + b"\x01" + V4[3:], OPEN, b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
        (GREETING + b"\x05\x02" + V4[2:], OPEN, b"\x05\x00\x05\x07\x00\x01\0\0\0\0\0\0"),
        (GREETING + b"\x05\x01\x00\x02\x00\x00", OPEN, b"\x05\x00\x05\x08\x00\x01\0\0\0\0\0\0"),
        (GREETING + V4[:-2] + b"\0\0", OPEN, b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
        (GREETING + name(b""), OPEN, b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
        (GREETING + name(b"a b"), OPEN, b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
        (GREETING + name(b"127.1"), OPEN, b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
        (GREETING + name(b"a\xff"), OPEN, b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
        (GREETING + name(b"fe80::1%eth0"), OPEN, b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
        (b"\x04\x01\x01\xbb\xc0\x00\x02\x01u\x00", USERS, b"\0\x5b\0\0\0\0\0\0"),
        (b"\x04\x02\x01\xbb\xc0\x00\x02\x01u\x00", OPEN, b"\0\x5b\0\0\0\0\0\0"),
        (b"\x04\x01\x00\x00\xc0\x00\x02\x01u\x00", OPEN, b"\0\x5b\0\0\0\0\0\0"),
        (b"\x04\x01\x01\xbb\xc0\x00\x02\x01" + b"u" * 256, OPEN, b"\0\x5b\0\0\0\0\0\0"),
        (b"\x04\x01\x01\xbb\x00\x00\x00\x01u\x00" + b"n" * 256, OPEN, b"\0\x5b\0\0\0\0\0\0"),
        (b"\x04\x01\x01\xbb\x00\x00\x00\x01u\x00a b\x00", OPEN, b"\0\x5b\0\0\0\0\0\0"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_refused(data: bytes, methods: tuple[Method, ...], reply: bytes, size: int) -> None:
    events, out, state, _rest = run(data, methods, size, right=False)
    assert (events, out, state) == ([], reply, State.CLOSED)


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_socks_4(size: int) -> None:
    plain = b"\x04\x01\x01\xbb\xc0\x00\x02\x01bob\x00early"
    named = b"\x04\x01\x00\x50\x00\x00\x00\x07\x00Example.ORG\x00early"
    for data, expected in (
        (plain, SocksRequest(4, Command.CONNECT, "192.0.2.1", 443, b"bob")),
        (named, SocksRequest(4, Command.CONNECT, "example.org", 80, b"")),
    ):
        assert run(data, OPEN, size) == ([expected], b"", State.DECIDING, b"early")


def test_replies() -> None:
    def deciding(data: bytes) -> SocksServer:
        server = SocksServer(OPEN)
        while isinstance(server.feed(data), bytes):
            data = b""
        return server

    assert deciding(GREETING + V4).granted() == b"\x05\0\0\x01\0\0\0\0\0\0"
    address = ip_address("2001:db8::5").packed
    assert deciding(GREETING + name(b"a", 3, 0)).granted(address, 7) == b"\x05\0\0\x04" + address + b"\0\x07"
    socks4 = b"\x04\x01\x01\xbb\xc0\x00\x02\x01\x00"
    assert deciding(socks4).granted() == b"\0\x5a\0\0\0\0\0\0"
    for failure in Failure:
        server = deciding(GREETING + V4)
        assert server.failed(failure) == bytes((5, WIRE[failure].socks5, 0, 1, 0, 0, 0, 0, 0, 0))
        assert server.state is State.CLOSED and server.problem
        assert deciding(socks4).failed(failure) == bytes((0, 91, 0, 0, 0, 0, 0, 0))


def test_answers_out_of_turn_are_mistakes_of_the_engine() -> None:
    server = SocksServer(OPEN)
    with pytest.raises(ValueError, match="nobody asked"):
        server.verified(True)
    with pytest.raises(ValueError, match="nobody asked"):
        server.granted()
    with pytest.raises(ValueError, match="nobody asked"):
        server.failed(Failure.REFUSED)


def test_every_failure_has_an_answer_in_every_protocol() -> None:
    assert set(WIRE) == set(Failure)
    for answer in WIRE.values():
        assert 1 <= answer.socks5 <= 8 and answer.socks4 == 91 and 400 <= answer.http <= 599
        assert answer.proxy_status.replace("_", "").isalpha()
    assert WIRE[Failure.REFUSED].socks5 == 5 and WIRE[Failure.DENIED].socks5 == 2


def test_a_client_that_sends_ahead_is_stopped() -> None:
    server = SocksServer(OPEN)
    data = GREETING + V4
    while isinstance(server.feed(data), bytes):
        data = b""
    assert not server.full and server.feed(b"x" * MAX_EARLY) is None and server.full


def test_udp_header() -> None:
    v6 = ip_address("2001:db8::1").packed
    for packet, expected in (
        (b"\0\0\0\x01\xc0\0\x02\x01\0\x35hi", ("192.0.2.1", 53, 10)),
        (b"\0\0\0\x04" + v6 + b"\0\x35", ("2001:db8::1", 53, 22)),
        (b"\0\0\0\x03\x01A\0\x35hi", ("a", 53, 8)),
        (b"\0\0\x01\x01\xc0\0\x02\x01\0\x35hi", None),
        (b"\0\x01\0\x01\xc0\0\x02\x01\0\x35hi", None),
        (b"\0\0\0\x01\xc0\0\x02\x01\0\0hi", None),
        (b"\0\0\0\x05\xc0\0\x02\x01\0\x35hi", None),
        (b"\0\0\0\x03\x05A\0\x35hi", None),
        (b"\0\0\0", None),
        (b"", None),
    ):
        assert parse_datagram(packet) == expected
    assert parse_datagram(datagram_header(v6, 53) + b"x") == ("2001:db8::1", 53, 22)
    assert parse_datagram(datagram_header(b"\xc0\0\x02\x01", 53)) == ("192.0.2.1", 53, 10)


@given(
    st.sampled_from(
        [b"", b"\x05\x01\x00", GREETING, GREETING + b"\x05\x01\x00\x03", b"\x04\x01\x00\x50", GREETING + V4]
    ),
    st.binary(max_size=40),
    st.sampled_from([OPEN, USERS]),
    st.integers(1, 7),
    st.booleans(),
)  # fmt: skip
def test_any_octets_in_any_pieces(
    start: bytes, data: bytes, methods: tuple[Method, ...], size: int, right: bool
) -> None:
    assert run(start + data, methods, size, right) == run(start + data, methods, right=right)


@given(st.binary(max_size=40))
def test_any_datagram(data: bytes) -> None:
    for packet in (data, b"\0\0\0" + data):
        found = parse_datagram(packet)
        assert found is None or (3 < found.start <= len(packet) and 0 < found.port < 65536)
