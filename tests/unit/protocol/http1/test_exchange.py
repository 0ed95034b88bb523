"""Whole exchanges: an h11 client talks through both legs to an h11 server, and each sees what the other sent.

The proxy between them is what an engine does, without sockets: octets travel in pieces of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import h11
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol.http1 import ClientLeg, OriginLeg, Request, Response, State
from appliance.protocol.http1.leg import CLIENT, ORIGIN, Happened
from tests.unit.protocol.http1.drive import HOP


@dataclass(frozen=True)
class Exchange:
    method: str
    body: bytes
    chunked: bool
    status: int
    interim: bool
    answer: bytes
    framing: str  # of the answer: length, chunked, close


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]))
    body = draw(st.binary(max_size=60)) if method == "POST" else b""
    status = draw(st.sampled_from([200, 204, 304, 404]))
    return Exchange(
        method,
        body,
        draw(st.booleans()),
        status,
        draw(st.booleans()),
        b"" if status in (204, 304) or method == "HEAD" else draw(st.binary(max_size=60)),
        draw(st.sampled_from(["length", "chunked", "length", "close"])),
    )


class Proxy:
    """A client's connection, and one to the origin at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.client = ClientLeg(HOP)
        self.origin = OriginLeg(HOP)
        self.server = h11.Connection(h11.SERVER)
        self.reached = 0  # connections to the origin

    def _cut(self, data: bytes) -> Iterator[bytes]:
        return (data[at : at + self.size] for at in range(0, len(data), self.size))

    def send(self, data: bytes) -> None:
        """From the client: what comes of it goes to the server."""
        for piece in self._cut(data):
            event = self.client.feed(piece)
            if isinstance(event, Request):
                if not self.origin.reusable:
                    self.origin, self.server = OriginLeg(HOP), h11.Connection(h11.SERVER)
                    self.reached += 1
                else:
                    self.server.start_next_cycle()
                self.origin.ask(event)
                event = event.wire
            if event:
                self.server.receive_data(event)

    def answer(self, data: bytes, closes: bool) -> tuple[bytes, bool]:
        """From the server: what goes to the client, and whether its connection closes then."""
        out, keep = b"", True
        for piece in self._cut(data):
            event = self.origin.feed(piece)
            if isinstance(event, Response):
                keep, event = event.keep, event.wire
            out += event or b""
        if closes:
            self.origin.eof()
        assert self.origin.state is State.DONE
        assert self.client.finish(keep) is None
        return out, self.client.state is State.CLOSED


def read(connection: h11.Connection) -> tuple[h11.Event, bytes]:
    """The next message: its head and its body."""
    head = connection.next_event()
    while isinstance(head, h11.InformationalResponse):
        head = connection.next_event()
    assert isinstance(head, h11.Request | h11.Response)
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.EndOfMessage):
            return head, body
        assert isinstance(event, h11.Data), event
        body += bytes(event.data)


@given(st.lists(exchanges(), min_size=1, max_size=4), st.integers(1, 50))
def test_both_ends_see_the_same(plan: list[Exchange], size: int) -> None:
    proxy, client = Proxy(size), h11.Connection(h11.CLIENT)
    for step in plan:
        fields = [("Host", "a.example"), ("Connection", "X-Mine"), ("X-Mine", "1"), ("X-Kept", "2")]
        if step.body:
            fields.append(
                ("Transfer-Encoding", "chunked") if step.chunked else ("Content-Length", str(len(step.body)))
            )
        sent = (
            client.send(h11.Request(method=step.method, target="http://a.example/p?q", headers=fields)) or b""
        )
        if step.body:
            sent += client.send(h11.Data(data=step.body)) or b""
        proxy.send(sent + (client.send(h11.EndOfMessage()) or b""))

        head, body = read(proxy.server)
        assert isinstance(head, h11.Request)
        assert (head.method.decode(), head.target, body) == (step.method, b"/p?q", step.body)
        names = {name for name, _ in head.headers}
        assert b"x-kept" in names and b"x-mine" not in names

        out = b""
        if step.interim:
            out += proxy.server.send(h11.InformationalResponse(status_code=103, headers=[("A", "b")])) or b""
        fields = {
            "length": [("Content-Length", str(len(step.answer)))],
            "chunked": [("Transfer-Encoding", "chunked")],
            "close": [("Connection", "close")],
        }[step.framing if step.status not in (204, 304) else "length" if step.status == 304 else "close"]
        out += proxy.server.send(h11.Response(status_code=step.status, headers=[("Y", "z"), *fields])) or b""
        if step.answer:
            out += proxy.server.send(h11.Data(data=step.answer)) or b""
        out += proxy.server.send(h11.EndOfMessage()) or b""
        got, closed = proxy.answer(out, proxy.server.our_state is h11.MUST_CLOSE)

        client.receive_data(got)
        if closed:
            client.receive_data(b"")
        reply, content = read(client)
        assert isinstance(reply, h11.Response)
        assert (reply.status_code, content) == (step.status, step.answer)
        assert (b"y", b"z") in list(reply.headers)
        if closed:
            return
        client.start_next_cycle()


def test_the_tables_lead_somewhere() -> None:
    for table, start in ((CLIENT, State.HEAD), (ORIGIN, State.IDLE)):
        reached, before = {start}, set[State]()
        while reached != before:
            before = set(reached)
            reached |= {after for (state, _), after in table.items() if state in before}
        assert reached == {state for state, _ in table if state in reached}
        assert {after for (state, _), after in table.items() if state is State.CLOSED} == {State.CLOSED}
        assert all((state, Happened.OVER) in table for state in State)
