"""The odd exchanges of HTTP through the running proxy: each end says, octet by octet, what a test has it say.

client (raw) --- [ box: http 3128, users 3131 ] --- origin (raw)
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.netns.conftest import Box, needs_root, wait_for
from tests.netns.explicit import ALICE
from tests.netns.hosts import sessions
from tests.netns.wire import PATIENCE, QUIET, Peer, Wire

pytestmark = [pytest.mark.netns, needs_root]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
# More than is copied (proxy/body.py), so that the kernel moves it.
LARGE = 3_000_000


@pytest.fixture
def wire(explicit_box: Box) -> Iterator[Wire]:
    """A listener of an origin, and clients."""
    with Wire(explicit_box) as made:
        yield made


def status_of(head: bytes) -> int:
    """The status of a response's head."""
    return int(head[9:12])


def field(head: bytes, name: str) -> list[str]:
    """The values of a field, in their order."""
    return [v.decode().strip() for v in re.findall(rb"(?im)^" + name.encode() + rb":([^\r]*)\r", head)]


def exchanged(client: Peer, wire: Wire, request: bytes, response: bytes) -> tuple[bytes, Peer]:
    """The request as the origin got it, and the origin, which has answered."""
    client.send(request)
    origin = wire.origin()
    head = origin.head()
    origin.send(response)
    return head, origin


class TestUpgrade:
    """WebSocket (RFC 6455), and nothing else."""

    def test_what_comes_in_the_segment_of_the_reply_comes_first(self, wire: Wire) -> None:
        client = wire.client()
        head, origin = exchanged(client, wire, wire.request(fields=UPGRADE), SWITCHED + b"\x81\x05first")
        assert field(head, "upgrade") == ["websocket"]
        assert field(head, "connection") == ["Upgrade"]
        reply = client.head()
        assert status_of(reply) == 101
        assert field(reply, "upgrade") == ["websocket"]
        assert client.take(7) == b"\x81\x05first"
        client.send(b"\x81\x04back")
        assert origin.take(6) == b"\x81\x04back"
        origin.end()
        assert client.rest() == b""
        client.send(b"late")  # one half is closed, the other is not
        assert origin.take(4) == b"late"

    def test_what_the_client_sends_ahead_waits_for_the_reply(self, wire: Wire) -> None:
        client = wire.client()
        client.send(wire.request(fields=UPGRADE) + b"\x81\x05ahead")
        origin = wire.origin()
        origin.head()
        assert origin.is_quiet()
        origin.send(SWITCHED)
        assert origin.take(7) == b"\x81\x05ahead"

    def test_a_refused_one_leaves_http(self, wire: Wire) -> None:
        client = wire.client()
        exchanged(
            client, wire, wire.request(fields=UPGRADE), b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"
        )
        assert status_of(client.head()) == 403
        assert client.take(2) == b"no"

    def test_another_protocol_is_not_asked_for(self, wire: Wire) -> None:
        client = wire.client()
        asked = wire.request(
            fields="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
        )
        head, _origin = exchanged(client, wire, asked, OK)
        assert not field(head, "upgrade")
        assert not field(head, "http2-settings")
        assert status_of(client.head()) == 200

    def test_a_switch_that_nobody_asked_for_is_an_error(self, wire: Wire) -> None:
        client = wire.client()
        exchanged(client, wire, wire.request(), SWITCHED + b"evil")
        reply = client.head()
        assert status_of(reply) == 502
        assert field(reply, "proxy-status")


class TestExpect:
    """100-continue (RFC 9110 section 10.1.1)."""

    FIELDS = "Expect: 100-continue\r\nContent-Length: 4\r\n"

    @pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b""], ids=["told", "not-told"])
    def test_the_client_is_told_to_go_on(self, wire: Wire, interim: bytes) -> None:
        """By the box, once the origin is there; whether the origin says so too makes no difference."""
        client = wire.client()
        client.send(wire.request("POST", fields=self.FIELDS))
        origin = wire.origin()
        origin.head()
        origin.send(interim)
        assert status_of(client.head()) == 100
        client.send(b"body")
        assert origin.take(4) == b"body"
        origin.send(OK)
        head = client.head()
        if status_of(head) == 100:
            head = client.head()
        assert status_of(head) == 200
        assert client.take(2) == b"ok"

    def test_an_answer_at_once_is_final(self, wire: Wire) -> None:
        client = wire.client()
        client.send(wire.request("POST", fields=self.FIELDS))
        origin = wire.origin()
        origin.head()
        origin.send(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno")
        head = client.head()
        if status_of(head) == 100:
            head = client.head()
        assert status_of(head) == 413
        # The body that may come yet cannot be told from a next request.
        assert field(head, "connection") == ["close"]
        assert client.rest() == b"no"

    def test_where_nobody_is_the_body_is_not_asked_for(self, wire: Wire) -> None:
        client = wire.client()
        client.send(wire.request("POST", fields=self.FIELDS).replace(wire.host.encode(), b"192.31.196.80:9"))
        assert status_of(client.head()) == 502

    def test_another_expectation_fails(self, wire: Wire) -> None:
        client = wire.client().send(wire.request("POST", fields="Expect: wonders\r\nContent-Length: 0\r\n"))
        assert status_of(client.head()) == 417
        assert wire.nobody_came()


class TestOldVersions:
    """HTTP/1.0 on either side."""

    def test_a_client_of_1_0_gets_no_chunks(self, wire: Wire) -> None:
        client = wire.client()
        chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        head, _origin = exchanged(client, wire, wire.request(minor=0), chunks)
        assert head.startswith(b"GET / HTTP/1.1\r\n")
        reply = client.head()
        assert not field(reply, "transfer-encoding")
        assert client.rest() == b"abc"

    def test_a_client_of_1_0_gets_no_interim_response(self, wire: Wire) -> None:
        client = wire.client()
        exchanged(client, wire, wire.request(minor=0), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
        assert status_of(client.head()) == 200

    def test_an_origin_of_1_0_with_a_length(self, wire: Wire) -> None:
        """Its connection is not kept, the client's is."""
        client = wire.client()
        for _ in range(2):
            _head, origin = exchanged(client, wire, wire.request(), OK.replace(b"1.1", b"1.0", 1))
            reply = client.head()
            assert reply.startswith(b"HTTP/1.1 200")
            assert client.take(2) == b"ok"
            assert origin.rest() == b""  # closed by the box

    def test_an_origin_of_1_0_without_a_length(self, wire: Wire) -> None:
        """The end of its connection is the body's, and so it is on the client's leg."""
        client = wire.client()
        _head, origin = exchanged(client, wire, wire.request(), b"HTTP/1.0 200 OK\r\n\r\nto the")
        reply = client.head()
        assert field(reply, "connection") == ["close"]
        assert not field(reply, "content-length")
        origin.send(b" end")
        origin.close()
        assert client.rest() == b"to the end"

    def test_a_reset_is_not_that_end(self, wire: Wire) -> None:
        for minor in (0, 1):
            client = wire.client()
            _head, origin = exchanged(client, wire, wire.request(minor=minor), b"HTTP/1.0 200 OK\r\n\r\nhalf")
            client.head()
            origin.reset()
            assert client.is_cut()


class TestMaxForwards:
    """RFC 9110 section 7.6.2: OPTIONS and TRACE say how far they go."""

    @pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
    def test_at_zero_the_box_answers(self, wire: Wire, method: str) -> None:
        client = wire.client().send(wire.request(method, fields="Max-Forwards: 0\r\nCookie: secret\r\n"))
        head = client.head()
        if method == "TRACE":
            body = client.take(int(field(head, "content-length")[0]))
            assert body.startswith(b"TRACE " + wire.url.encode())
            assert b"secret" not in body
        else:
            assert "GET" in field(head, "allow")[0]
        assert wire.nobody_came()

    @pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
    def test_before_it_is_one_less(self, wire: Wire, method: str) -> None:
        head, _origin = exchanged(wire.client(), wire, wire.request(method, fields="Max-Forwards: 7\r\n"), OK)
        assert field(head, "max-forwards") == ["6"]

    def test_others_do_not_count(self, wire: Wire) -> None:
        head, _origin = exchanged(wire.client(), wire, wire.request(fields="Max-Forwards: 0\r\n"), OK)
        assert head.startswith(b"GET / ")


class TestInterim:
    """1xx before the answer."""

    @pytest.mark.parametrize("apart", [False, True], ids=["one-segment", "apart"])
    def test_early_hints_come_through(self, wire: Wire, apart: bool) -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
        client = wire.client()
        _head, origin = exchanged(client, wire, wire.request(), hints + (b"" if apart else OK))
        early = client.head()
        assert status_of(early) == 103
        assert field(early, "link") == ["</style.css>; rel=preload"]
        if apart:
            origin.send(OK)
        assert status_of(client.head()) == 200
        assert client.take(2) == b"ok"

    def test_without_end_they_are_an_error(self, wire: Wire) -> None:
        client = wire.client()
        exchanged(client, wire, wire.request(), b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200)
        statuses = [status_of(client.head())]
        while statuses[-1] == 103:
            statuses.append(status_of(client.head()))
        assert statuses[-1] == 502
        assert len(statuses) < 200


class TestNoBody:
    """Answers that have none, whatever the origin sends behind their heads."""

    @pytest.mark.parametrize(
        ("method", "response"),
        [
            ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
            ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ],
        ids=["204", "304", "head-length", "head-chunked"],
    )
    def test_a_forbidden_body_goes_nowhere(self, wire: Wire, method: str, response: bytes) -> None:
        """Neither to the client nor into the next answer: the origin's connection is not used again."""
        client = wire.client()
        poison = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        exchanged(client, wire, wire.request(method), response + poison)
        assert status_of(client.head()) == status_of(response)
        assert client.is_quiet()
        exchanged(client, wire, wire.request(), OK)  # on a new connection
        assert status_of(client.head()) == 200
        assert client.take(2) == b"ok"

    @pytest.mark.parametrize("late", [False, True])
    def test_more_than_the_length_says(self, wire: Wire, late: bool) -> None:
        client = wire.client()
        _head, origin = exchanged(client, wire, wire.request(), OK + (b"" if late else b"surplus"))
        client.head()
        assert client.take(2) == b"ok"
        if late:
            origin.send(b"surplus")
        assert client.is_quiet()
        with contextlib.suppress(ConnectionResetError):  # in order or not: it is over
            assert origin.rest() == b""
        exchanged(client, wire, wire.request(), OK)
        assert status_of(client.head()) == 200


class TestKept:
    """Connections that serve several exchanges."""

    def test_both_legs_are_kept(self, wire: Wire) -> None:
        client = wire.client()
        _head, origin = exchanged(client, wire, wire.request(), OK)
        for number in range(5):
            assert status_of(client.head()) == 200
            assert client.take(2) == b"ok"
            client.send(wire.request(path=f"/{number}"))
            assert origin.head().startswith(b"GET /%d " % number)
            origin.send(OK)
        assert wire.nobody_came()

    def test_pipelined_requests_go_out_one_after_the_other(self, wire: Wire) -> None:
        client = wire.client()
        client.send(b"".join(wire.request(path=f"/{number}") for number in range(4)))
        origin = wire.origin()
        for number in range(4):
            assert origin.head().startswith(b"GET /%d " % number)
            assert origin.is_quiet()
            origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
            client.head()
            assert client.take(1) == b"%d" % number

    @pytest.mark.parametrize("how", ["closed", "reset"])
    def test_one_that_the_origin_closed_while_idle_is_not_used(self, wire: Wire, how: str) -> None:
        client = wire.client()
        _head, origin = exchanged(client, wire, wire.request(), OK)
        client.head()
        client.take(2)
        origin.close() if how == "closed" else origin.reset()
        assert client.is_quiet()
        exchanged(client, wire, wire.request("POST", fields="Content-Length: 0\r\n"), OK)
        assert status_of(client.head()) == 200

    def test_one_that_dies_by_the_request_is_tried_once_more(self, wire: Wire) -> None:
        """Idempotent ones alone (RFC 9110 section 9.2.2): nobody buys twice."""
        for method, fields, again in (("GET", "", True), ("POST", "Content-Length: 0\r\n", False)):
            client = wire.client()
            _head, origin = exchanged(client, wire, wire.request(), OK)
            client.head()
            client.take(2)
            client.send(wire.request(method, path="/second", fields=fields))
            if again:
                assert b"/second" in origin.head()
                origin.close()
            second = wire.origin()  # for what may not be repeated, at once
            assert second.head().startswith(method.encode() + b" /second ")
            second.close()  # and not a third time
            reply = client.head()
            assert status_of(reply) == 502
            assert "http_response_incomplete" in field(reply, "proxy-status")[0]
            assert wire.nobody_came()

    def test_one_with_half_a_request_on_it_serves_nobody(self, wire: Wire) -> None:
        """The origin would take the next client's request for the rest of the body."""
        for status in (b"200 OK", b"405 No"):
            client = wire.client()
            client.send(wire.request("POST", fields="Content-Length: 150\r\n") + b"x")
            origin = wire.origin()
            origin.head()
            origin.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
            head = client.head()
            assert status_of(head) == int(status[:3]) and field(head, "connection") == ["close"]
            victim = wire.client()
            victim.send(wire.request(path="/victim", fields="Cookie: secret\r\n"))
            second = wire.origin()
            assert second.head().startswith(b"GET /victim ")
            second.send(OK)
            assert status_of(victim.head()) == 200
            with contextlib.suppress(ConnectionResetError):
                assert b"secret" not in origin.rest()
            second.close()

    def test_a_continue_costs_no_connection(self, wire: Wire) -> None:
        client = wire.client()
        client.send(wire.request("POST", fields="Content-Length: 3\r\nExpect: 100-continue\r\n"))
        origin = wire.origin()
        origin.head()
        origin.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert status_of(client.head()) == 100
        client.send(b"abc")
        assert origin.take(3) == b"abc"
        origin.send(OK)
        head = client.head()
        while status_of(head) == 100:
            head = client.head()
        assert status_of(head) == 200 and field(head, "connection") != ["close"]
        client.take(2)
        client.send(wire.request(path="/next"))
        assert origin.head().startswith(b"GET /next ")

    def test_users_share_none(self, wire: Wire) -> None:
        """A connection that served alice serves nobody else; nor does one that an origin authenticates."""
        alice = f"Proxy-Authorization: Basic {base64.b64encode(ALICE.encode()).decode()}\r\n"
        client = wire.client(3131)
        head, _origin = exchanged(client, wire, wire.request(fields=alice), OK)
        assert not field(head, "proxy-authorization")
        client.head()
        stranger = wire.client(3128)
        exchanged(stranger, wire, wire.request(), OK)  # accepted anew
        assert status_of(stranger.head()) == 200

    def test_one_that_the_origin_authenticates_is_not_kept(self, wire: Wire) -> None:
        challenge = b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
        client = wire.client()
        exchanged(client, wire, wire.request(), challenge)
        assert status_of(client.head()) == 401
        exchanged(wire.client(), wire, wire.request(), OK)


class TestCutOff:
    """A client must be able to tell half a body from a whole one."""

    @pytest.mark.parametrize("framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
    @pytest.mark.parametrize("how", ["closed", "reset"])
    @pytest.mark.parametrize("minor", [0, 1])
    def test_in_the_middle_of_a_body(self, wire: Wire, framing: bytes, how: str, minor: int) -> None:
        client = wire.client()
        half = b"half" if b"Length" in framing else b"4\r\nhalf\r\n"
        response = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + half
        _head, origin = exchanged(client, wire, wire.request(minor=minor), response)
        client.head()
        origin.close() if how == "closed" else origin.reset()
        assert client.is_cut()

    def test_a_spliced_one(self, wire: Wire) -> None:
        client = wire.client()
        _head, origin = exchanged(
            client, wire, wire.request(), b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n"
        )
        origin.send(bytes(500_000))
        client.head()
        client.take(500_000)
        origin.close()
        assert client.is_cut()

    def test_before_the_answer(self, wire: Wire) -> None:
        client = wire.client()
        client.send(wire.request("POST", fields="Content-Length: 0\r\n"))
        origin = wire.origin()
        origin.head()
        origin.close()
        reply = client.head()
        assert status_of(reply) == 502
        assert "http_response_incomplete" in field(reply, "proxy-status")[0]


class TestChunks:
    """Framed anew on the way."""

    CHUNKS = b'5;name="va\\"lue"\r\nhello\r\n6;x\r\n world\r\n'
    BODY = CHUNKS + b"0;last\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\nAuthorization: x\r\n\r\n"

    def test_of_a_response(self, wire: Wire) -> None:
        client = wire.client()
        response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + self.BODY
        exchanged(client, wire, wire.request(fields="TE: trailers\r\n"), response)
        client.head()
        self.check(client.until(b"\r\n\r\n"))
        assert client.is_quiet()

    def test_of_a_request(self, wire: Wire) -> None:
        client = wire.client()
        client.send(wire.request("POST", fields="Transfer-Encoding: chunked\r\n") + self.BODY)
        origin = wire.origin()
        assert field(origin.head(), "transfer-encoding") == ["chunked"]
        self.check(origin.until(b"\r\n\r\n"))
        origin.send(OK)
        assert status_of(client.head()) == 200

    @staticmethod
    def check(body: bytes) -> None:
        assert body == b"b\r\nhello world\r\n0\r\nX-Sum: 1\r\n\r\n"

    def test_a_trailer_that_frames_anew_is_an_error(self, wire: Wire) -> None:
        body = self.CHUNKS + b"0\r\nContent-Length: 7\r\n\r\n"
        client = wire.client().send(wire.request("POST", fields="Transfer-Encoding: chunked\r\n") + body)
        assert status_of(client.head()) == 400
        assert wire.nobody_came()

    def test_malformed_ones_cut_the_connection(self, wire: Wire) -> None:
        client = wire.client()
        good = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        _head, origin = exchanged(client, wire, wire.request(), good)
        client.until(b"abc")
        origin.send(b"zz\r\n")
        assert client.is_cut()

    def test_malformed_ones_with_the_head_are_told(self, wire: Wire) -> None:
        client = wire.client()
        exchanged(
            client, wire, wire.request(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        )
        assert status_of(client.head()) == 502


class TestLargeUploads:
    """Bodies that the kernel moves, and what may happen meanwhile."""

    def begin(self, wire: Wire, size: int = LARGE) -> tuple[Peer, Peer]:
        client = wire.client()
        client.send(wire.request("PUT", fields=f"Content-Length: {size}\r\n"))
        origin = wire.origin()
        origin.head()
        return client, origin

    def test_arrive_whole_and_leave_the_connections_usable(self, wire: Wire) -> None:
        client, origin = self.begin(wire)
        body = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(LARGE // 32 + 1))[:LARGE]
        for at in range(0, LARGE, 100_000):
            client.send(body[at : at + 100_000])
            assert origin.take(100_000) == body[at : at + 100_000]
        origin.send(OK)
        assert status_of(client.head()) == 200
        assert client.take(2) == b"ok"
        client.send(wire.request(path="/next"))
        assert origin.head().startswith(b"GET /next ")

    def test_what_follows_is_the_next_request(self, wire: Wire) -> None:
        client, origin = self.begin(wire, 600_000)
        client.send(bytes(300_000))
        origin.take(300_000)
        client.send(bytes(300_000) + wire.request(path="/next"))
        origin.take(300_000)
        assert origin.is_quiet()
        origin.send(OK)
        assert origin.head().startswith(b"GET /next ")

    def test_an_answer_in_the_middle_is_told_at_once(self, wire: Wire) -> None:
        client, origin = self.begin(wire)
        client.send(bytes(500_000))
        origin.take(500_000)
        origin.send(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno")
        head = client.head()
        assert status_of(head) == 413
        assert field(head, "connection") == ["close"]
        assert client.rest() == b"no"

    def test_an_answer_in_the_middle_before_a_reset_is_told_too(self, wire: Wire) -> None:
        """The origin closes with a body unread, which resets the connection."""
        client, origin = self.begin(wire)
        client.send(bytes(500_000))
        origin.send(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno")
        origin.close()
        assert status_of(client.head()) == 413

    def test_an_interim_response_in_the_middle_ends_nothing(self, wire: Wire) -> None:
        client, origin = self.begin(wire)
        client.send(bytes(500_000))
        origin.take(500_000)
        origin.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        assert status_of(client.head()) == 102
        for _ in range(25):
            client.send(bytes(100_000))
            origin.take(100_000)
        origin.send(OK)
        assert status_of(client.head()) == 200

    def test_an_origin_that_reads_nothing_and_answers(self, wire: Wire) -> None:
        """What waits in the pipe does not hold the answer up."""
        client, origin = self.begin(wire, 50_000_000)
        client.sock.settimeout(QUIET)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while True:
                sent += client.sock.send(bytes(65_536))
        client.sock.settimeout(PATIENCE)
        assert sent > LARGE
        origin.send(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno")
        assert status_of(client.head()) == 413

    def test_a_client_that_leaves_takes_the_request_with_it(self, wire: Wire) -> None:
        client, origin = self.begin(wire)
        client.send(bytes(500_000))
        origin.take(500_000)
        client.reset()
        assert origin.is_cut()

    def test_an_origin_that_leaves_is_told(self, wire: Wire) -> None:
        client, origin = self.begin(wire)
        client.send(bytes(500_000))
        origin.take(500_000)
        origin.reset()
        assert status_of(client.head()) == 502


OWN_ANSWERS = {
    "malformed": (b"GET http://a b/ HTTP/1.1\r\n\r\n", 400),
    "a version": (b"GET http://a/ HTTP/3.0\r\n\r\n", 505),
    "a port": (b"CONNECT web.example:23 HTTP/1.1\r\n\r\n", 403),
    "refused": (b"GET http://192.31.196.80:9/ HTTP/1.1\r\nHost: x\r\n\r\n", 502),
    "no name": (b"GET http://none.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 502),
    "itself": (b"GET http://[::1]/ HTTP/1.1\r\nHost: x\r\n\r\n", 403),
    "unreachable": (b"GET http://192.31.202.1/ HTTP/1.1\r\nHost: x\r\n\r\n", 502),
    "https": (b"GET https://web.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 501),
}


@pytest.mark.parametrize("case", OWN_ANSWERS)
def test_proxy_status_is_on_each_answer_of_our_own(wire: Wire, case: str) -> None:
    """RFC 9209: what the proxy itself made up can be told from what an origin said."""
    request, status = OWN_ANSWERS[case]
    head = wire.client().send(request).head()
    assert status_of(head) == status
    (said,) = field(head, "proxy-status")
    assert said.startswith("isthmus")
    assert "error=" in said


@pytest.mark.parametrize(("port", "status"), [(3131, 407), (80, 403)], ids=["login", "pac-port"])
def test_proxy_status_where_nothing_is_carried(wire: Wire, port: int, status: int) -> None:
    head = wire.client(port).send(wire.request()).head()
    assert status_of(head) == status
    assert "error=http_request_denied" in field(head, "proxy-status")[0]


def test_nothing_stays_behind(explicit_box: Box) -> None:
    wait_for(lambda: sessions(explicit_box)["total"] == 0, "the end of all sessions", 8)


def slowly(peer: Peer, wait: float) -> bytes:
    """All that comes, of a client that has something else to do first."""
    time.sleep(wait)
    return peer.rest()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["close", "until the end", "old"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_slow_client_has_the_last_answer_whole(wire: Wire, way: str, tls: bool) -> None:
    """What waits for it is sent as long as it takes some of it; it was cut off in order after two seconds."""
    size = 9_000_000
    length = b"" if way == "until the end" else b"Content-Length: %d\r\n" % size
    fields = "Connection: close\r\n" if way == "close" else ""
    client = wire.client(3129 if tls else 3128, tls)
    client.send(wire.request(fields=fields, minor=0 if way == "old" else 1))
    origin = wire.origin()
    origin.head()
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(slowly, client, 4.0)
        origin.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + bytes(size))
        origin.close()
        body = got.result().partition(b"\r\n\r\n")[2]
    assert len(body) == size


def test_a_client_that_asks_and_takes_no_answer_holds_up_nobody(wire: Wire) -> None:
    """Of thousands of requests as many are answered as there is room for, and the rest when it has read."""
    count = 12_000
    greedy = wire.client()
    request = b"GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n"
    greedy.sock.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < count * len(request):
            sent += greedy.sock.send((request * count)[sent : sent + 65_536])
    asked = time.monotonic()
    other = wire.client()
    other.send(request)
    assert status_of(other.head()) == 200
    assert time.monotonic() - asked < 4.0, "a worker that works off what is pipelined takes longer"
    greedy.sock.settimeout(PATIENCE)
    length = int(field(greedy.head(), "content-length")[0])
    greedy.take(length)
    for _ in range(sent // len(request) - 1):
        assert int(field(greedy.head(), "content-length")[0]) == length
        greedy.take(length)
