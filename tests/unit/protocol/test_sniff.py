"""Names in first bytes: real ClientHellos in any pieces, requests strict as RFC 9112, never an exception."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol.client_hello import ClientHello, from_records
from appliance.protocol.proxy_header import version_2
from appliance.protocol.sniff import Sniff, http_host, may_hide_name, said_name, server_name


def client_hello(name: str | None) -> bytes:
    """What OpenSSL sends first."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    client = context.wrap_bio(into, out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


HELLO = client_hello("WWW.Example.org")


def in_records(hello: bytes, sizes: list[int]) -> bytes:
    """The same ClientHello, cut into several records."""
    body, out = hello[5:], b""
    for size in [*sizes, len(body)]:
        piece, body = body[:size], body[size:]
        if piece:
            out += b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece
    return out


def test_every_beginning_asks_for_more_and_the_whole_has_the_name() -> None:
    for end in range(len(HELLO)):
        assert server_name(HELLO[:end]) is Sniff.MORE
    assert server_name(HELLO) == "www.example.org"
    assert server_name(HELLO + b"more") == "www.example.org"


@given(st.lists(st.integers(1, 200), max_size=8))
def test_a_hello_in_several_records(sizes: list[int]) -> None:
    whole = in_records(HELLO, sizes)
    assert server_name(whole) == "www.example.org"
    assert server_name(whole[:-1]) is Sniff.MORE


def test_a_hello_without_a_name() -> None:
    assert server_name(client_hello(None)) is Sniff.NONE


@given(st.binary(max_size=400), st.integers(0, len(HELLO)), st.binary(max_size=8))
def test_mutated_hellos_never_raise(tail: bytes, cut: int, middle: bytes) -> None:
    for data in (tail, HELLO[:cut] + middle + HELLO[cut + len(middle) :], HELLO[:cut] + tail):
        assert isinstance(server_name(data), str | Sniff)
        assert isinstance(http_host(data), str | Sniff)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x16\x02\x01", b"\x17\x03\x03\0\1a", b"SSH-2.0-x\r\n"]
)
def test_other_protocols_are_told_at_once(data: bytes) -> None:
    assert server_name(data) is Sniff.BAD


@pytest.mark.parametrize(
    ("head", "host"),
    [
        (b"GET / HTTP/1.1\r\nHost: A.example\r\n\r\n", "a.example"),
        (b"GET / HTTP/1.1\r\nX: y\r\nhost:\t a.example:8080 \r\n\r\nbody", "a.example"),
        (b"GET http://b.example:80/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", "b.example"),
        (b"GET / HTTP/1.0\r\n\r\n", Sniff.NONE),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", Sniff.BAD),
        (b"GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", Sniff.BAD),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\n folded\r\n\r\n", Sniff.BAD),
        (b"GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n", Sniff.BAD),
        (b"GET / HTTP/1.1\r\nHost: a.example@b\r\n\r\n", Sniff.BAD),
        (b"GET /\0 HTTP/1.1\r\nHost: a.example\r\n\r\n", Sniff.BAD),
        (b"GET / HTTP/2.0\r\n", Sniff.BAD),
        (b"GET / HTTP/1.1\r\nHost: a.exam", Sniff.MORE),
        (b"GE", Sniff.MORE),
    ],
)
def test_hosts(head: bytes, host: str | Sniff) -> None:
    assert http_host(head) == host


def test_the_proxy_header_is_the_one_of_the_specification() -> None:
    header = version_2(b"\xc6\x33\x64\x07", 40_000, b"\xcb\x00\x71\x02", 443)
    assert header.hex() == "0d0a0d0a000d0a515549540a" + "21" + "11" + "000c" + "c6336407cb007102" + "9c4001bb"


def with_extension(hello: bytes, extension: bytes) -> bytes:
    """A record with the same hello, and one more extension."""
    body = bytearray(hello[5:])
    at = 4 + 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    body[at : at + 2] = (int.from_bytes(body[at : at + 2], "big") + len(extension)).to_bytes(2, "big")
    body += extension
    body[1:4] = (len(body) - 4).to_bytes(3, "big")
    return b"\x16\x03\x01" + len(body).to_bytes(2, "big") + bytes(body)


def test_ech_is_told() -> None:
    assert from_records(HELLO) == ClientHello("www.example.org", False)
    assert from_records(with_extension(HELLO, b"\xfe\x0d\0\x01\0")) == ClientHello("www.example.org", True)


def test_two_names_are_one_too_many() -> None:
    second = b"\0\0\0\x0e\0\x0c\0\0\x09b.example"
    assert from_records(with_extension(client_hello(None), second)) == ClientHello("b.example", False)
    assert from_records(with_extension(HELLO, second)) is Sniff.BAD


def test_a_hello_of_sixteen_kilobytes() -> None:
    hello = with_extension(HELLO, b"\x00\x15" + (15_000).to_bytes(2, "big") + bytes(15_000))
    assert server_name(in_records(hello, [1_400] * 12)) == "www.example.org"
    assert server_name(with_extension(hello, b"\x00\x16\x07\xd0" + bytes(2_000))) is Sniff.BAD


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_before_a_request_are_nothing(before: bytes) -> None:
    """RFC 9112 section 2.2; so servers read the name behind them, and so do we."""
    head = b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n"
    assert said_name(before + head) == http_host(before + head) == "www.example.org"
    assert all(said_name((before + head)[:size]) is Sniff.MORE for size in range(1, len(before + head)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: blocked.example\n\n",
        b"\r\nGET / HTTP/1.1\nHost: blocked.example\n\n",
        b"get / HTTP/1.1\r\nHost: blocked.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: blocked.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: blocked.example\r\nX:\1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        HELLO[:5] + b"\1\xff\xff\xff" + HELLO[9:],
    ],
    ids=[
        "bare line feeds",
        "after an empty line",
        "small letters",
        "two hosts",
        "a bad field",
        "HTTP/2",
        "TLS",
    ],
)
def test_what_a_lenient_server_may_read_a_name_in(data: bytes) -> None:
    assert said_name(data) is Sniff.BAD
    assert may_hide_name(data)


@pytest.mark.parametrize(
    "data", [b"", b"SSH-2.0-OpenSSH\r\n", b"EHLO mail\r\n", b"CAP LS 302\r\nNICK x\r\n", bytes(100)]
)
def test_what_is_of_another_protocol(data: bytes) -> None:
    assert not may_hide_name(data)
