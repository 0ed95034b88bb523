"""Properties of the core: pieces do not matter, nothing but Refused is raised, and h11 agrees.

h11 reads what we send out: it must accept it and find the same message in it.
"""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol.http1 import Kind
from appliance.protocol.http1 import request as request_module
from tests.unit.protocol.http1 import test_requests, test_responses
from tests.unit.protocol.http1.drive import WEBSOCKET, Run, asked, content_of, requests, response

GOOD_REQUESTS = [
    b"GET http://a.example/p HTTP/1.1\r\nHost: a.example\r\nCookie: x\r\n\r\n",
    b"\r\nPOST http://a.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\r\n"
    b"GET http://b.example/ HTTP/1.0\r\nX: y\r\n\r\nGET http://c.example/ HTTP/1.1\r\n\r\n",
    b"PUT http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n"
    b"10\r\n0123456789abcdef\r\n0\r\nA: b\r\nDate: x\r\n\r\n"
    b"CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\ntunnelled",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET /proxy.pac HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
]
GOOD_RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: X\r\nX: y\r\n\r\nabcd",
    b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 102 P\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nA: b\r\n\r\nmore",
    b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nuntil the end",
    b"HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
]


@pytest.mark.parametrize(
    "data", GOOD_REQUESTS + [data for data, _status in test_requests.REFUSED if len(data) < 4000]
)
def test_every_way_to_cut_a_request_gives_the_same(data: bytes) -> None:
    whole = requests(data).plain()
    assert requests(data, 1).plain() == whole
    for at in range(1, len(data)):
        assert requests_cut(data, at).plain() == whole


def requests_cut(data: bytes, at: int) -> Run:
    """In two pieces."""
    return requests(data, max(at, len(data) - at)) if at * 2 >= len(data) else requests(data, at)


@pytest.mark.parametrize(
    "data", GOOD_RESPONSES + [data for data in test_responses.REFUSED if len(data) < 4000]
)
def test_every_way_to_cut_a_response_gives_the_same(data: bytes) -> None:
    whole = response(data).plain()
    for size in range(1, len(data)):
        assert response(data, size).plain() == whole
    switched = response(data, request=asked(extra=WEBSOCKET)).plain()
    assert response(data, 1, asked(extra=WEBSOCKET)).plain() == switched


# Pieces of messages, to be put together in any order: far likelier to reach the parser's corners than octets.
PIECES = [
        b"GET ", b"POST ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"http://a.example/", b"http://[::1]/",
        b"*", b"a.example:443", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\r\n\r\n", b"\r", b"\n",
        b" ", b"\t", b":", b"Host: a.example\r\n", b"Content-Length: 3\r\n", b"Content-Length:",
        b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: upgrade, X-A\r\n",
        b"Upgrade: websocket\r\n", b"X-A: 1\r\n", b"Expect: 100-continue\r\n", b"Max-Forwards: 1\r\n",
        b"Via: 1.1 isthmus-test\r\n", b"Via: 1.0 x\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n",
        b"0\r\nA: b\r\n\r\n", b"3;x=y\r\nabc\r\n", b"\x00", b"\xff", b"chunked", b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 204 N\r\n", b"HTTP/1.1 304 N\r\n",
        b"HTTP/1.1 101 S\r\n", b"X-Forwarded-For: 192.0.2.1\r\n", b",", b"close", b"X",
        b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
]  # fmt: skip
STREAM = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=14).map(b"".join)


@given(STREAM, st.integers(1, 7))
def test_any_client_in_any_pieces(data: bytes, size: int) -> None:
    run = requests(data)
    assert requests(data, size).plain() == run.plain()
    check_requests(run)


@given(STREAM, st.integers(1, 7), st.sampled_from(["GET", "HEAD"]), st.integers(0, 1))
def test_any_origin_in_any_pieces(data: bytes, size: int, method: str, minor: int) -> None:
    request = asked(method, minor, WEBSOCKET if method == "GET" else b"")
    run = response(data, request=request)
    assert response(data, size, request).plain() == run.plain()
    check_response(run, method, minor)


_PATHS = st.from_regex(r"(/[a-z0-9._~%!$&'()*+,;=:@-]{0,9}){0,3}(\?[a-z0-9/?=&|]{0,9})?", fullmatch=True)
_NAMES = st.from_regex(rb"[A-Za-z!#$%&'*+.^_`|~-]{1,12}", fullmatch=True)
_VALUES = st.from_regex(rb"[\t -~\x80-\xff]{0,20}", fullmatch=True)


@st.composite
def request_messages(draw: st.DrawFn) -> bytes:
    """Requests that are mostly right."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"]))
    path = draw(_PATHS)
    head = f"{method} http://a.example{path} HTTP/1.{draw(st.integers(0, 1))}\r\nHost: a.example\r\n".encode()
    for name, value in draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=5)):
        head += name + b":" + value + b"\r\n"
    body = draw(st.binary(max_size=50))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "none":
        return head + b"\r\n"
    if framing == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    out = head + b"Transfer-Encoding: chunked\r\n\r\n"
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        if end > start:
            out += b"%X\r\n" % (end - start) + body[start:end] + b"\r\n"
    return out + b"0\r\n\r\n"


@given(st.lists(request_messages(), max_size=3).map(b"".join), st.integers(1, 40))
def test_requests_mean_the_same_to_h11(data: bytes, size: int) -> None:
    run = requests(data)
    assert requests(data, size).plain() == run.plain()
    check_requests(run)


@given(st.lists(request_messages(), max_size=2).map(b"".join) | STREAM)
def test_the_short_way_and_the_careful_one_agree(data: bytes) -> None:
    short = requests(data).plain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_module, "_COMMON", re.compile(rb"(?!)"))
        assert requests(data).plain() == short


def check_requests(run: Run) -> None:
    """Every whole request that went on is one request to h11, with the same method, target, Host and body."""
    for message in run.messages:
        kind, method, host, port, target = message.facts[:5]
        if kind is not Kind.FORWARD:
            assert message.head == message.body == b""
            continue
        if not message.whole:
            continue
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(message.head + message.body)
        got = connection.next_event()
        assert isinstance(got, h11.Request)
        assert (got.method.decode(), got.target, got.http_version) == (method, target, b"1.1")
        fields = list(got.headers)
        (authority,) = [value.decode() for name, value in fields if name == b"host"]
        bare, _, digits = (
            authority.rpartition(":") if authority[-1] != "]" and ":" in authority else (authority, "", "")
        )
        assert int(digits or 80) == port
        assert ":" in str(host) or bare.rstrip(".").lower() == host
        assert not {name for name, _ in fields} & {
            b"proxy-authorization",
            b"x-forwarded-for",
            b"te",
            b"keep-alive",
        }
        body, done = b"", False
        while not done:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                assert isinstance(event, h11.EndOfMessage)
                done = True
        chunked = (b"transfer-encoding", b"chunked") in fields
        assert body == (content_of(message.body).partition(b"<end>")[0] if chunked else message.body)
        assert connection.trailing_data == (b"", False)


def check_response(run: Run, method: str, minor: int) -> None:
    """Every whole response is one response to h11, with the same status and body, and nothing after it."""
    if not run.messages or not run.messages[-1].whole:
        return
    (message,) = run.messages
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(
        h11.Request(method=method, target="/", headers=[("Host", "a.example")], http_version=b"1.1")
    )
    connection.send(h11.EndOfMessage())
    connection.receive_data(run.before + message.head + message.body)
    connection.receive_data(b"")
    got = connection.next_event()
    while isinstance(got, h11.InformationalResponse):
        got = connection.next_event()
    assert isinstance(got, h11.Response) and got.status_code == message.facts[0]
    body = b""
    event = connection.next_event()
    while isinstance(event, h11.Data):
        body += bytes(event.data)
        event = connection.next_event()
    assert isinstance(event, h11.EndOfMessage)
    chunked = (b"transfer-encoding", b"chunked") in list(got.headers)
    assert not (chunked and minor == 0)
    assert body == (content_of(message.body).partition(b"<end>")[0] if chunked else message.body)
    assert connection.trailing_data[0] == b""
