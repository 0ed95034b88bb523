"""What a client may send, what goes to the origin instead, and what is refused (RFC 9110, 9112)."""

from __future__ import annotations

import pytest

from appliance.protocol.http1 import CHUNKED, ClientLeg, Kind, Refused, Request, State, own_answer
from appliance.protocol.http1.grammar import MAX_FIELDS, MAX_HEAD
from tests.unit.protocol.http1.drive import HOP, WEBSOCKET, requests, state_of

GET = b"GET http://a.example/p?q=1 HTTP/1.1\r\nHost: a.example\r\n"


def one(data: bytes) -> Request:
    request = ClientLeg(HOP).feed(data)
    assert isinstance(request, Request)
    return request


def sent(fields: bytes, line: bytes = b"GET http://a.example/p HTTP/1.1", body: bytes = b"") -> bytes:
    """What the origin gets for these field lines."""
    return one(line + b"\r\nHost: a.example\r\n" + fields + b"\r\n" + body).wire


@pytest.mark.parametrize(
    ("line", "kind", "host", "port", "target", "authority"),
    [
        (b"GET http://a.example/p?q HTTP/1.1", Kind.FORWARD, "a.example", 80, b"/p?q", b"a.example"),
        (b"GET http://A.Example./ HTTP/1.1", Kind.FORWARD, "a.example", 80, b"/", b"A.Example."),
        (b"GET HTTP://a.example:8080/ HTTP/1.1", Kind.FORWARD, "a.example", 8080, b"/", b"a.example:8080"),
        (b"GET http://a.example:0080/ HTTP/1.1", Kind.FORWARD, "a.example", 80, b"/", b"a.example:80"),
        (b"GET http://a.example: HTTP/1.1", Kind.FORWARD, "a.example", 80, b"/", b"a.example"),
        (b"GET http://a.example?q HTTP/1.1", Kind.FORWARD, "a.example", 80, b"/?q", b"a.example"),
        (b"GET http://192.0.2.1/ HTTP/1.1", Kind.FORWARD, "192.0.2.1", 80, b"/", b"192.0.2.1"),
        (b"GET http://[2001:DB8:0::1]:81/ HTTP/1.1", Kind.FORWARD, "2001:db8::1", 81, b"/",
         b"[2001:DB8:0::1]:81"),
        (b"OPTIONS http://a.example HTTP/1.1", Kind.FORWARD, "a.example", 80, b"*", b"a.example"),
        (b"OPTIONS http://a.example/ HTTP/1.1", Kind.FORWARD, "a.example", 80, b"/", b"a.example"),
    ],
)  # fmt: skip
def test_the_target_names_the_origin(
    line: bytes, kind: Kind, host: str, port: int, target: bytes, authority: bytes
) -> None:
    request = one(line + b"\r\nHost: other.example\r\n\r\n")
    assert (request.kind, request.host, request.port, request.target) == (kind, host, port, target)
    method = line.split()[0]
    assert request.wire == (
        method + b" " + target + b" HTTP/1.1\r\nHost: " + authority + b"\r\nVia: 1.1 isthmus-test\r\n\r\n"
    )


def test_connect_options_and_own_pages_have_nothing_for_an_origin() -> None:
    tunnel = one(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (tunnel.kind, tunnel.host, tunnel.port, tunnel.wire) == (Kind.TUNNEL, "2001:db8::1", 443, b"")
    bare = one(b"CONNECT 2001:db8::1:443 HTTP/1.1\r\nHost: x\r\n\r\n")  # as many clients send it
    assert (bare.host, bare.port) == ("2001:db8::1", 443)
    own = one(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (own.kind, own.wire) == (Kind.SELF, b"")
    assert b"\r\nAllow: " in own_answer(own, keep=True)
    page = one(b"GET /proxy.pac HTTP/1.1\r\nHost: box\r\n\r\n")
    assert (page.kind, page.target, page.wire) == (Kind.PAGE, b"/proxy.pac", b"")


@pytest.mark.parametrize(
    "fields",
    [
        b"Connection: keep-alive\r\n",
        b"Proxy-Connection: keep-alive\r\n",
        b"Keep-Alive: timeout=5\r\n",
        b"TE: trailers\r\n",
        b"Trailer: X\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA\r\n",
        b"Proxy-Authorization: Basic eA==\r\n",
        b"Proxy-Authenticate: Basic\r\n",
        b"Connection: X-Mine, close\r\nX-Mine: 1\r\nx-mine: 2\r\n",
        b"Forwarded: for=192.0.2.9\r\n",
        b"X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Host: a\r\nX-FORWARDED: 1\r\n",
        b"X-Real-IP: 192.0.2.9\r\nClient-IP: 192.0.2.9\r\nTrue-Client-IP: 1\r\nX_Forwarded_For: 1\r\n",
        b"Via: 1.0 inner.lan:3128 (squid)\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: ,\t,\r\n",
    ],
)
def test_what_is_for_this_hop_or_tells_of_the_client_does_not_go_on(fields: bytes) -> None:
    assert sent(b"A: 1\r\n" + fields + b"B: 2\r\n") == (
        b"GET /p HTTP/1.1\r\nHost: a.example\r\nA: 1\r\nB: 2\r\nVia: 1.1 isthmus-test\r\n\r\n"
    )


def test_all_other_fields_go_on_as_they_are() -> None:
    fields = b"Cookie: a=b\r\nX-Odd:\t\xff d\xc3\xbc \t\r\nX.Custom|Pipe:\r\nFrom: me\r\n"
    assert fields in sent(fields) + b"\r\n"


def test_a_websocket_may_pass_and_nothing_else_may_switch() -> None:
    request = one(GET + WEBSOCKET + b"Sec-WebSocket-Key: eA==\r\n\r\n")
    assert request.upgrade
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in request.wire
    for fields in (b"Upgrade: websocket\r\n", b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"):
        assert not one(GET + fields + b"\r\n").upgrade
    assert not one(GET.replace(b"1.1", b"1.0") + WEBSOCKET + b"\r\n").upgrade


def test_bodies_get_a_framing_of_ours() -> None:
    assert sent(b"content-length: 003\r\n", body=b"abc").endswith(
        b"\r\nContent-Length: 3\r\nVia: 1.1 isthmus-test\r\n\r\nabc"
    )
    wire = sent(
        b"Transfer-Encoding:\tCHUNKED\r\n", body=b'0002;a;b="x;\\"y" ; c = d\r\nab\r\n1\r\nc\r\n000\r\n\r\n'
    )
    assert wire.endswith(
        b"\r\nTransfer-Encoding: chunked\r\nVia: 1.1 isthmus-test\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )


def test_trailers_are_filtered() -> None:
    wire = sent(
        b"Transfer-Encoding: chunked\r\n", body=b"0\r\nX-Sum: 1\r\nSet-Cookie: x\r\nAuthorization: y\r\n\r\n"
    )
    assert wire.endswith(b"\r\n\r\n0\r\nX-Sum: 1\r\n\r\n")


def test_expect_is_passed_on_with_a_body_from_http_1_1_only() -> None:
    request = one(GET + b"Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n")
    assert request.expects and b"\r\nExpect: 100-continue\r\n" in request.wire
    old = one(GET.replace(b"1.1", b"1.0") + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n")
    assert not old.expects and b"Expect" not in old.wire


def test_max_forwards_counts_for_trace_and_options_alone() -> None:
    trace = b"TRACE http://a.example/ HTTP/1.1\r\nHost: a\r\nCookie: c\r\nA: b\r\n"
    assert b"\r\nMax-Forwards: 2\r\n" in one(trace + b"Max-Forwards: 3\r\n\r\n").wire
    last = one(trace + b"Max-Forwards: 0\r\n\r\n")
    assert (last.kind, last.wire) == (Kind.SELF, b"")
    answer = own_answer(last, keep=False)
    assert answer.endswith(
        b"\r\n\r\nTRACE http://a.example/ HTTP/1.1\r\nHost: a\r\nA: b\r\nMax-Forwards: 0\r\n\r\n"
    )
    assert b"\r\nMax-Forwards: x\r\n" in sent(b"Max-Forwards: x\r\n")


REFUSED = [
    # request lines
    (b"GET  http://a/ HTTP/1.1\r\n\r\n", 400),
    (b"GET http://a/ HTTP/1.1 \r\n\r\n", 400),
    (b"GET http://a/ http/1.1\r\n\r\n", 400),
    (b"GET http://a/\r\n\r\n", 400),
    (b"GET http://a/ HTTP/1.1\n\n", 400),
    (b"GET http://a/ HTTP/2.0\r\n\r\n", 505),
    (b"GET http://a/ HTTP/1.2\r\n\r\n", 505),
    (b"GET http://a/#f HTTP/1.1\r\n\r\n", 400),
    (b"GET http://a/\xc3\xbc HTTP/1.1\r\n\r\n", 400),
    (b"GET http://u:p@a/ HTTP/1.1\r\n\r\n", 400),
    (b"GET http:///p HTTP/1.1\r\n\r\n", 400),
    (b"GET http://a:99999/ HTTP/1.1\r\n\r\n", 400),
    (b"GET http://a:0/ HTTP/1.1\r\n\r\n", 400),
    (b"GET http://127.1/ HTTP/1.1\r\n\r\n", 400),
    (b"GET http://0x7f000001/ HTTP/1.1\r\n\r\n", 400),
    (b"GET http://017.0.0.1/ HTTP/1.1\r\n\r\n", 400),
    (b"GET http://[fe80::1%25eth0]/ HTTP/1.1\r\n\r\n", 400),
    (b"GET http://[1.2.3.4]/ HTTP/1.1\r\n\r\n", 400),
    (b"GET http://a..b/ HTTP/1.1\r\n\r\n", 400),
    (b"GET https://a/ HTTP/1.1\r\n\r\n", 501),
    (b"GET ftp://a/ HTTP/1.1\r\n\r\n", 501),
    (b"GET urn:a:b HTTP/1.1\r\n\r\n", 400),
    (b"GET a:443 HTTP/1.1\r\n\r\n", 400),
    (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"OPTIONS */x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"CONNECT http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"CONNECT http://a.example/p HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"CONNECT u@a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"\r\n\r\n\r\nGET http://a/ HTTP/1.1\r\n\r\n", 400),
    (b"\nGET http://a/ HTTP/1.1\r\n\r\n", 400),
    # fields
    (GET + b"Host: a.example\r\n\r\n", 400),
    (b"GET http://a/ HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    (b"GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    (GET + b"A : 1\r\n\r\n", 400),
    (GET + b" A: 1\r\n\r\n", 400),
    (GET + b"A: 1\r\n 2\r\n\r\n", 400),
    (GET + b"A: 1\r\n\t2\r\n\r\n", 400),
    (GET + b"A: 1\n\r\n", 400),
    (GET + b"A: 1\rB: 2\r\n\r\n", 400),
    (GET + b"A: 1\x00\r\n\r\n", 400),
    (GET + b"A: \x01\r\n\r\n", 400),
    (GET + b"A\x00: 1\r\n\r\n", 400),
    (GET + b"A\xff: 1\r\n\r\n", 400),
    (GET + b"A\r\n\r\n", 400),
    (GET + b": 1\r\n\r\n", 400),
    (GET + b"A(b): 1\r\n\r\n", 400),
    # framing
    (GET + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
    (GET + b"Content-Length: 1, 1\r\n\r\n", 400),
    (GET + b"Content-Length: +1\r\n\r\n", 400),
    (GET + b"Content-Length: -1\r\n\r\n", 400),
    (GET + b"Content-Length: 0x1\r\n\r\n", 400),
    (GET + b"Content-Length: 1_0\r\n\r\n", 400),
    (GET + b"Content-Length:\r\n\r\n", 400),
    (GET + b"Content-Length: 1000000000000000000\r\n\r\n", 400),
    (GET + b"Content_Length: 1\r\n\r\n", 400),
    (GET + b"Transfer_Encoding: chunked\r\n\r\n", 400),
    (GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: identity\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: ,chunked\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    (GET + b"Transfer-Encoding: \xa0chunked\r\n\r\n", 400),
    (GET.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n", 400),
    (GET + b"Connection: content-length\r\nContent-Length: 0\r\n\r\n", 400),
    (GET + b"Connection: close, Host\r\n\r\n", 400),
    (GET + b"Connection: Cookie\r\n\r\n", 400),
    (GET + b"Connection: a b\r\n\r\n", 400),
    (GET + b"Connection: \"close\"\r\n\r\n", 400),
    # meaning
    (GET + b"Expect: 200-ok\r\n\r\n", 417),
    (GET + b"Via: 1.1 other, 1.1 ISTHMUS-TEST (x)\r\n\r\n", 502),
    (GET + b"Proxy-Authorization: a\r\nProxy-Authorization: b\r\n\r\n", 400),
    (b"TRACE http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n", 400),
    (b"TRACE http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\nMax-Forwards: 1\r\n\r\n", 400),
    (b"TRACE http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na", 400),
    # sizes
    (GET + b"A: " + b"x" * MAX_HEAD + b"\r\n\r\n", 431),
    (GET + b"A: 1\r\n" * MAX_FIELDS + b"\r\n", 431),
    (b"GET http://a/" + b"x" * MAX_HEAD + b" HTTP/1.1\r\n\r\n", 414),
    (GET + b"A: " + b"x" * MAX_HEAD, 431),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status"), REFUSED, ids=lambda v: repr(v)[:60])
def test_refused(data: bytes, status: int) -> None:
    run = requests(data)
    assert run.refused is not None and run.refused[0] == status, run
    assert not run.messages
    assert run.state is State.CLOSED


BAD_CHUNKS = [
    b"+1\r\na\r\n", b"0x1\r\na\r\n", b"1 \r\na\r\n", b"1\na\r\n", b"1\r\nab", b"1\r\na\n0\r\n\r\n",
    b"\r\n1\r\na", b" 1\r\n", b"1 a\r\n", b'1;a="b\r\n', b"1;\r\na", b"1;=b\r\n", b"1_0\r\n", b"g\r\n",
    b"-1\r\n", b"1\r\r;a\r\n", b"1000000000000000\r\n", b"1;a=" + b"x" * 1100 + b"\r\n",
    b"0\r\n A: b\r\n\r\n", b"0\r\nA\r\n\r\n", b"0\r\nA : b\r\n\r\n", b"0\r\nContent-Length: 1\r\n\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nHost: a\r\n\r\n", b"0\r\nA: 1\n\r\n",
    b"0\r\nA: " + b"x" * 9000 + b"\r\n\r\n",
    b"".join(b"1;a=" + b"x" * 900 + b"\r\na\r\n" for _ in range(40)),
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_CHUNKS, ids=lambda v: repr(v)[:40])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_body_that_lies_about_its_chunks_is_never_finished(body: bytes, size: int) -> None:
    run = requests(GET + b"Transfer-Encoding: chunked\r\n\r\n" + body, size)
    assert run.refused is not None and run.refused[0] == 400
    assert not any(message.whole for message in run.messages)


def test_pipelined_requests_wait_for_their_turn() -> None:
    leg = ClientLeg(HOP)
    second = b"POST http://b.example/ HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nab"
    first = leg.feed(GET + b"\r\n\r\n" + second + GET)
    assert isinstance(first, Request) and state_of(leg) is State.DONE
    assert leg.feed(b"\r\n") is None and not leg.full
    again = leg.finish(True)
    assert isinstance(again, Request) and again.host == "b.example" and again.wire.endswith(b"\r\n\r\nab")
    third = leg.finish(True)
    assert isinstance(third, Request) and third.host == "a.example"
    assert leg.finish(False) is None and state_of(leg) is State.CLOSED
    assert leg.feed(GET) is None


def test_a_client_that_sends_ahead_without_end_is_not_read_on() -> None:
    leg = ClientLeg(HOP)
    leg.feed(GET + b"\r\n")
    while not leg.full:
        leg.feed(b"x" * 10_000)
    with pytest.raises(Refused):
        leg.finish(True)


@pytest.mark.parametrize(
    ("line", "fields", "keep"),
    [
        (b"HTTP/1.1", b"", True),
        (b"HTTP/1.1", b"Connection: close\r\n", False),
        (b"HTTP/1.1", b"Connection: x,\tCLOSE\r\n", False),
        (b"HTTP/1.0", b"", False),
        # RFC 9112 section 9.3: a proxy keeps no connection of an HTTP/1.0 client.
        (b"HTTP/1.0", b"Connection: keep-alive\r\n", False),
    ],
)
def test_keep_alive(line: bytes, fields: bytes, keep: bool) -> None:
    leg = ClientLeg(HOP)
    request = leg.feed(b"GET http://a.example/ " + line + b"\r\n" + fields + b"\r\n")
    assert isinstance(request, Request) and request.keep is keep
    leg.finish(True)
    assert state_of(leg) is (State.HEAD if keep else State.CLOSED)


def test_a_body_may_go_by_without_passing_through() -> None:
    leg = ClientLeg(HOP)
    request = leg.feed(GET + b"Content-Length: 10\r\n\r\nabc")
    assert isinstance(request, Request) and request.length == 10 and leg.left == 7
    leg.passed(5)
    assert state_of(leg) is State.BODY and leg.feed(b"yz" + GET) == b"yz"
    assert state_of(leg) is State.DONE
    with pytest.raises(ValueError, match="more octets"):
        leg.passed(1)


def test_the_end_of_the_clients_octets() -> None:
    assert ClientLeg(HOP).eof()
    for data, clean in ((GET + b"\r\n", True), (GET, False), (GET + b"Content-Length: 3\r\n\r\nab", False)):
        leg = ClientLeg(HOP)
        leg.feed(data)
        assert leg.eof() is clean


def test_what_follows_connect_is_the_tunnels() -> None:
    leg = ClientLeg(HOP)
    leg.feed(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03")
    assert leg.tunnel() == b"\x16\x03" and state_of(leg) is State.TUNNEL and leg.feed(b"\x01") == b"\x01"


def test_chunked_length_is_told() -> None:
    request = one(GET + b"Transfer-Encoding: chunked\r\n\r\n")
    assert request.length == CHUNKED and request.field("host") == b"a.example" and request.field("x") is None
