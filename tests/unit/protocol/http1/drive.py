"""Runs octets through the legs, whole or in pieces, and says what came out in a form that can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.protocol.http1 import ClientLeg, Hop, Kind, OriginLeg, Refused, Request, Response, State

HOP = Hop("isthmus-test")
_FACTS = (
    "kind",
    "method",
    "host",
    "port",
    "target",
    "minor",
    "length",
    "keep",
    "credentials",
    "expects",
    "upgrade",
)
_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def content_of(framed: bytes) -> bytes:
    """The content in chunks of ours, however they are cut, with what ends them."""
    out, at = b"", 0
    while at < len(framed):
        match = _CHUNK.match(framed, at)
        assert match, framed[at : at + 40]
        size = int(match[1], 16)
        if size == 0:
            return out + b"<end>" + framed[match.end() :]
        out += framed[match.end() : match.end() + size]
        assert framed[match.end() + size : match.end() + size + 2] == b"\r\n"
        at = match.end() + size + 2
    return out


@dataclass
class Seen:
    """One message as it went on, with its body in one piece."""

    facts: tuple[object, ...]
    head: bytes
    body: bytes = b""
    whole: bool = False

    def plain(self) -> tuple[object, ...]:
        chunked = b"\r\nTransfer-Encoding: chunked\r\n" in self.head
        return (*self.facts, self.head, content_of(self.body) if chunked else self.body, self.whole)


@dataclass
class Run:
    """Everything that one connection gave."""

    messages: list[Seen] = field(default_factory=list)
    refused: tuple[int, str] | None = None
    state: State = State.IDLE
    before: bytes = b""  # interim responses
    rest: bytes = b""

    def plain(self) -> object:
        """For comparison. What had gone on of a message before it was refused depends on the pieces."""
        carried = [m.plain() for m in self.messages if m.whole or self.refused is None]
        before = self.before if self.refused is None else b""
        return carried, self.refused, self.state, before, self.rest


def _split(wire: bytes) -> tuple[bytes, bytes]:
    head, sep, body = wire.partition(b"\r\n\r\n")
    return head + sep, body


def requests(data: bytes, size: int = 1 << 30, eof: bool = True) -> Run:
    """A client that sends ``data``; every request is answered at once when it is whole."""
    leg, run = ClientLeg(HOP), Run()

    def take(event: Request | bytes | None) -> None:
        while True:
            if isinstance(event, Request):
                head, body = _split(event.wire)
                facts = tuple(getattr(event, name) for name in _FACTS)
                run.messages.append(Seen(facts, head, body))
            elif event and run.messages[-1].facts[0] is Kind.FORWARD:
                run.messages[-1].body += event
            if leg.state is not State.DONE:
                return
            run.messages[-1].whole = True
            event = leg.finish(True)
            if event is None:
                return

    try:
        for piece in pieces(data, size):
            take(leg.feed(piece))
        if eof:
            leg.eof()
    except Refused as error:
        run.refused = error.status, error.reason
    run.state = leg.state
    return run


def state_of(leg: ClientLeg | OriginLeg) -> State:
    """The state now: asking the attribute twice, a type checker takes the first answer for the second."""
    return leg.state


def asked(method: str = "GET", minor: int = 1, extra: bytes = b"") -> Request:
    """A request to which the origin's answer is read."""
    head = b"%b http://a.example/ HTTP/1.%d\r\nHost: a.example\r\n%b\r\n" % (method.encode(), minor, extra)
    request = ClientLeg(HOP).feed(head)
    assert isinstance(request, Request)
    return request


WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


def response(data: bytes, size: int = 1 << 30, request: Request | None = None, eof: bool = True) -> Run:
    """An origin that answers one request with ``data``, and then closes."""
    leg, run = OriginLeg(HOP), Run()
    request = request or asked()
    leg.ask(request)
    try:
        for piece in pieces(data, size):
            event = leg.feed(piece)
            if isinstance(event, Response):
                wire = event.wire
                while wire.startswith(b"HTTP/1.1 1") and event.status >= 200:
                    interim, wire = _split(wire)
                    run.before += interim
                head, body = _split(wire)
                facts = (event.status, event.length, event.keep, event.keep_origin)
                run.messages.append(Seen(facts, head, body))
            elif event and run.messages:
                run.messages[-1].body += event
            elif event:
                run.before += event
        if eof:
            leg.eof()
    except Refused as error:
        run.refused = error.status, error.reason
    run.state = leg.state
    if run.messages:
        run.messages[-1].whole = leg.state is State.DONE
    if leg.state is State.TUNNEL:
        run.rest = leg.take()
        run.messages[-1].body = run.rest + run.messages[-1].body
        run.rest = b""
    return run
