"""What an origin may answer, and what the client gets of it (RFC 9110, 9112)."""

from __future__ import annotations

import pytest

from appliance.protocol.http1 import UNTIL_CLOSE, OriginLeg, Refused, Response, State, answer
from appliance.protocol.http1.grammar import MAX_FIELDS, MAX_HEAD, MAX_INTERIM
from tests.unit.protocol.http1.drive import HOP, WEBSOCKET, asked, response, state_of

OK = b"HTTP/1.1 200 OK\r\n"
VIA = b"Via: 1.1 isthmus-test\r\n"


def through(data: bytes, method: str = "GET", minor: int = 1) -> bytes:
    """What the client gets, all of it."""
    run = response(data, request=asked(method, minor))
    assert run.refused is None, run
    return run.before + b"".join(message.head + message.body for message in run.messages)


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("data", "client"),
    [
        (OK + b"Content-Length: 2\r\n\r\nok", OK + VIA + b"Content-Length: 2\r\n\r\nok"),
        (OK + b"Content-Length: 002\r\n\r\nokPOISON", OK + VIA + b"Content-Length: 2\r\n\r\nok"),
        (OK + b"A: b\r\nKeep-Alive: x\r\nC: d\r\nContent-Length: 0\r\nConnection: C\r\n\r\n",
         OK + b"A: b\r\n" + VIA + b"Content-Length: 0\r\n\r\n"),
        (OK + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
         OK + VIA + b"Content-Length: 0\r\n\r\n"),
        (OK + b"Via: 1.1 cdn\r\nContent-Length: 0\r\n\r\n",
         OK + b"Via: 1.1 cdn\r\n" + VIA + b"Content-Length: 0\r\n\r\n"),
        (b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 204 No\r\n" + VIA + b"\r\n"),
        (b"HTTP/1.1 205 R\r\nContent-Length: 5\r\n\r\nhello",
         b"HTTP/1.1 205 R\r\n" + VIA + b"Content-Length: 0\r\n\r\n"),
        (b"HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\nhello",
         b"HTTP/1.1 304 N\r\n" + VIA + b"Content-Length: 5\r\n\r\n"),
        (b"HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         b"HTTP/1.1 304 N\r\n" + VIA + b"\r\n"),
        (b"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n",
         b"HTTP/1.1 999 \r\n" + VIA + b"Content-Length: 0\r\n\r\n"),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
         b"HTTP/1.1 200 \r\n" + VIA + b"Content-Length: 0\r\n\r\n"),
        (OK + b"\r\nto the end", OK + VIA + b"Connection: close\r\n\r\nto the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
         OK + b"Via: 1.0 isthmus-test\r\nContent-Length: 2\r\n\r\nok"),
        (b"HTTP/1.1 103 E\r\nLink: </s>\r\nContent-Length: 7\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
         b"HTTP/1.1 103 E\r\nLink: </s>\r\n" + VIA + b"\r\n" + OK + VIA + b"Content-Length: 2\r\n\r\nok"),
    ],
    ids=lambda v: repr(v)[:50],
)  # fmt: skip
def test_what_the_client_gets(data: bytes, client: bytes, size: int) -> None:
    run = response(data, size)
    assert run.refused is None
    assert run.before + b"".join(message.head + message.body for message in run.messages) == client
    assert run.messages[-1].whole


def test_head_has_no_body_and_keeps_its_length() -> None:
    assert through(OK + b"Content-Length: 5\r\n\r\nhello", "HEAD") == OK + VIA + b"Content-Length: 5\r\n\r\n"
    assert through(OK + b"Transfer-Encoding: chunked\r\n\r\n", "HEAD") == OK + VIA + b"\r\n"


CHUNKED_BODY = OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-Sum: 1\r\nAge: 2\r\n\r\n"


def test_chunks_are_framed_anew_or_taken_off() -> None:
    assert through(CHUNKED_BODY) == (
        OK + VIA + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    assert through(CHUNKED_BODY, minor=0) == OK + VIA + b"Connection: close\r\n\r\nok"


def test_http_1_0_clients_get_no_interim_response() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"
    assert through(data, minor=0) == OK + VIA + b"Content-Length: 0\r\nConnection: close\r\n\r\n"


REFUSED = [
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.2 200 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n",
    b"HTTP/1.1  200 OK\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
    b" " + OK + b"\r\n",
    b"\r\n" + OK + b"\r\n",
    b"HTTP/1.1 200 O\x01K\r\n\r\n",
    OK + b"A\r\n\r\n",
    OK + b"A: 1\r\n 2\r\n\r\n",
    OK + b"A : 1\r\n\r\n",
    OK + b"A: 1\rB: 2\r\n\r\n",
    OK + b"A: \x00\r\n\r\n",
    OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    OK + b"Content-Length: 2, 2\r\n\r\nok",
    OK + b"Content-Length: +2\r\n\r\nok",
    OK + b"Content-Length: \r\n\r\nok",
    OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: identity\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok",
    OK + b"Connection: set-cookie\r\n\r\n",
    b"HTTP/1.1 407 Log in\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.0 100 C\r\n\r\n" + OK + b"\r\n",
    b"HTTP/1.1 102 P\r\n\r\n" * (MAX_INTERIM + 1),
    b"HTTP/1.1 102 P\r\n\r\n",
    b"HTTP/1.1 2",
    b"",
    OK + b"A: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    OK + b"A: " + b"x" * MAX_HEAD,
    OK + b"A: " + b"x" * MAX_HEAD + b"\r\n\r\n",
]


@pytest.mark.parametrize("data", REFUSED, ids=lambda v: repr(v)[:60])
def test_refused(data: bytes) -> None:
    run = response(data)
    assert run.refused is not None and run.refused[0] == 502
    assert not run.messages and run.state is State.CLOSED


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 3\r\n\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 4\r\n\r\n",
    ],
)
def test_a_body_that_is_cut_off_never_looks_whole(data: bytes) -> None:
    for size in (1, 1 << 20):
        run = response(data, size)
        assert run.refused is not None and not any(m.whole for m in run.messages)
        assert not any(m.body.endswith(b"0\r\n\r\n") for m in run.messages)


def _leg(data: bytes, extra: bytes = b"") -> tuple[OriginLeg, Response]:
    leg = OriginLeg(HOP)
    leg.ask(asked(extra=extra))
    event = leg.feed(data)
    assert isinstance(event, Response)
    return leg, event


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (OK + b"Content-Length: 2\r\n\r\nok", True),
        (OK + b"Content-Length: 2\r\n\r\nokx", False),
        (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 204 N\r\n\r\n", True),
        (b"HTTP/1.1 204 N\r\nContent-Length: 1\r\n\r\n", False),
        (b"HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n", False),
    ],
)
def test_which_origin_connections_serve_again(data: bytes, reusable: bool) -> None:
    leg, _event = _leg(data)
    assert leg.state is State.DONE and leg.reusable is reusable
    if reusable:
        leg.ask(asked())
        assert state_of(leg) is State.HEAD and not leg.started
    else:
        with pytest.raises(KeyError):
            leg.ask(asked())


def test_an_idle_connection_that_speaks_is_not_reusable() -> None:
    leg, _event = _leg(OK + b"Content-Length: 2\r\n\r\nok")
    assert leg.reusable and leg.feed(b"HTTP/1.1 408 Bye\r\n\r\n") is None
    assert not leg.reusable


def test_a_body_to_the_end_of_the_connection() -> None:
    leg, event = _leg(OK + b"\r\nab")
    assert event.length == UNTIL_CLOSE and not event.keep
    assert leg.feed(b"HTTP/1.1 200 OK\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"
    leg.eof()
    assert leg.state is State.DONE and not leg.reusable


def test_closing_is_told_to_the_client() -> None:
    leg = OriginLeg(HOP)
    leg.ask(asked())
    leg.closing = True
    event = leg.feed(OK + b"Content-Length: 0\r\n\r\n")
    assert isinstance(event, Response) and not event.keep and b"\r\nConnection: close\r\n" in event.wire


def test_a_websocket_becomes_a_tunnel() -> None:
    switching = (
        b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
    )
    leg, event = _leg(switching + b"\x81\x00", WEBSOCKET)
    assert leg.state is State.TUNNEL and leg.take() == b"\x81\x00" and leg.feed(b"\x81") == b"\x81"
    assert event.wire == (
        b"HTTP/1.1 101 S\r\nSec-WebSocket-Accept: x\r\n"
        + VIA
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    for other in (b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"Upgrade: websocket\r\n", b""):
        with pytest.raises(Refused):
            _leg(b"HTTP/1.1 101 S\r\n" + other + b"\r\n", WEBSOCKET)


def test_100_continue_is_passed_on_at_once() -> None:
    leg = OriginLeg(HOP)
    leg.ask(asked("POST", extra=b"Content-Length: 1\r\nExpect: 100-continue\r\n"))
    assert leg.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1") == b"HTTP/1.1 100 Continue\r\n" + VIA + b"\r\n"
    assert not leg.started
    event = leg.feed(b" 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(event, Response) and leg.started


def test_answers_of_our_own_are_one_message() -> None:
    assert answer(204, [], keep=True) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert answer(200, [("A", "b")], b"xy", head_only=True).endswith(
        b"\r\nA: b\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    )
    for name, value in (("A", "b\r\nC: d"), ("A: x", "b"), ("", "b"), ("A", "b\x00")):
        with pytest.raises(ValueError, match="no field line"):
            answer(200, [(name, value)])
