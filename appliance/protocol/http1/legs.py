"""The two legs of a proxied HTTP/1 connection as state machines: bytes in, wire bytes out.

``ClientLeg`` reads requests from a client, ``OriginLeg`` the responses of an origin. Neither knows of the
other: the engine hands each request to ``OriginLeg.ask`` and tells ``ClientLeg.finish`` when its response is
through. Both hand out octets that are to be sent on as they are.

Bodies of a known length need not pass through here: while ``left`` is not 0, so many octets of body are the
next thing on the socket. The engine may splice any of them and tell by ``passed``.
"""

from __future__ import annotations

from enum import IntEnum

from appliance.protocol.http1.chunked import Chunked, ChunkError
from appliance.protocol.http1.grammar import (
    CHUNKED,
    MAX_EMPTY_LINES,
    MAX_HEAD,
    MAX_INTERIM,
    MAX_PIPELINED,
    UNTIL_CLOSE,
    Refused,
    bad_request,
    bad_response,
)
from appliance.protocol.http1.hop import Hop
from appliance.protocol.http1.request import Kind, Request, begin_request, parse_request, refuse_stray
from appliance.protocol.http1.request import too_large as request_too_large
from appliance.protocol.http1.response import Response, begin_response, parse_response, too_large


class State(IntEnum):
    """Where a leg is."""

    IDLE = 0  # origin: nothing was asked, nothing may come
    HEAD = 1  # a head is awaited
    BODY = 2  # ``left`` octets of body follow
    CHUNKS = 3
    UNTIL_CLOSE = 4
    DONE = 5  # the message is whole; client: its response is awaited
    TUNNEL = 6  # no HTTP any more
    CLOSED = 7


class Happened(IntEnum):
    """What moves a leg."""

    ASKED = 0
    NO_BODY = 1  # a head without body was read
    SIZED_BODY = 2
    CHUNKED_BODY = 3
    OPEN_BODY = 4  # only the connection's end will end it
    BODY_ENDED = 5
    NEXT = 6  # the exchange is through, and the connection serves another
    SWITCHED = 7  # CONNECT or Upgrade was granted
    OVER = 8  # refused, cut off, or closed in order


_ENDS = {(state, Happened.OVER): State.CLOSED for state in State}
CLIENT: dict[tuple[State, Happened], State] = _ENDS | {
    (State.HEAD, Happened.NO_BODY): State.DONE,
    (State.HEAD, Happened.SIZED_BODY): State.BODY,
    (State.HEAD, Happened.CHUNKED_BODY): State.CHUNKS,
    (State.BODY, Happened.BODY_ENDED): State.DONE,
    (State.CHUNKS, Happened.BODY_ENDED): State.DONE,
    (State.DONE, Happened.NEXT): State.HEAD,
    (State.DONE, Happened.SWITCHED): State.TUNNEL,
}
ORIGIN: dict[tuple[State, Happened], State] = _ENDS | {
    (State.IDLE, Happened.ASKED): State.HEAD,
    (State.HEAD, Happened.NO_BODY): State.DONE,
    (State.HEAD, Happened.SIZED_BODY): State.BODY,
    (State.HEAD, Happened.CHUNKED_BODY): State.CHUNKS,
    (State.HEAD, Happened.OPEN_BODY): State.UNTIL_CLOSE,
    (State.HEAD, Happened.SWITCHED): State.TUNNEL,
    (State.BODY, Happened.BODY_ENDED): State.DONE,
    (State.CHUNKS, Happened.BODY_ENDED): State.DONE,
    (State.UNTIL_CLOSE, Happened.BODY_ENDED): State.DONE,
    (State.DONE, Happened.NEXT): State.IDLE,
}
_BODY_OF = {CHUNKED: Happened.CHUNKED_BODY, UNTIL_CLOSE: Happened.OPEN_BODY}


# Members by short names: looking one up on its class costs more than a step of the machine.
_IDLE, _HEAD, _BODY, _CHUNKS, _UNTIL_CLOSE, _DONE, _TUNNEL, _CLOSED = State
_ASKED, _NO_BODY, _SIZED_BODY, _CHUNKED_BODY, _OPEN_BODY, _BODY_ENDED, _NEXT, _SWITCHED, _OVER = Happened
_FORWARD = Kind.FORWARD


class _Leg:
    """What both legs share: the state, the beginning of a head, the body's frame."""

    __slots__ = ("_chunks", "_held", "left", "state")
    _table: dict[tuple[State, Happened], State]

    def __init__(self, state: State) -> None:
        self.state = state
        self.left = 0
        self._chunks: Chunked | None = None
        # Octets that wait: the beginning of a head, what was pipelined, or what came after the end.
        self._held = bytearray()

    def _go(self, happened: Happened) -> None:
        self.state = self._table[self.state, happened]

    def passed(self, octets: int) -> None:
        """So many octets of a body of known length went by without passing through ``feed``."""
        if not 0 <= octets <= self.left:
            raise ValueError("more octets than the body has left")
        self.left -= octets
        if not self.left and self.state is _BODY:
            self._go(_BODY_ENDED)

    def take(self) -> bytes:
        """The octets that wait here, once: what a tunnel begins with."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def _start_body(self, length: int, reframe: bool, data: bytes) -> bytes:
        """Enters the body; what of ``data`` belongs to it, as it is to be sent on."""
        if length == 0:
            self._go(_NO_BODY)
            if data:
                self._held += data
            return b""
        self._go(_BODY_OF.get(length, _SIZED_BODY))
        if length == CHUNKED:
            self._chunks = Chunked(reframe)
        elif length == UNTIL_CLOSE:
            return data
        else:
            self.left = length
        return self._body(data) if data else b""

    def _body(self, data: bytes) -> bytes:
        """What of ``data`` is body goes on; what is not is held."""
        chunks = self._chunks
        if chunks is not None:
            out = chunks.feed(data)
            if chunks.done:
                self._held += chunks.rest
                self._chunks = None
                self._go(_BODY_ENDED)
            return out
        surplus = len(data) - self.left
        if surplus < 0:
            self.left = -surplus
            return data
        if surplus:
            self._held += data[self.left :]
            data = data[: self.left]
        self.left = 0
        self._go(_BODY_ENDED)
        return data


class ClientLeg(_Leg):
    """Requests of one client connection, one at a time."""

    __slots__ = ("_empty", "_forward", "_hop", "keep")
    _table = CLIENT

    def __init__(self, hop: Hop) -> None:
        super().__init__(_HEAD)
        self._hop = hop
        self._empty = 0
        self._forward = True
        self.keep = True

    def feed(self, data: bytes) -> Request | bytes | None:
        """Octets from the client: a Request, octets of its body for the origin, or None: nothing yet.

        The body of a request that is for no origin is read and dropped. A request without body is whole when
        it is returned (``state`` is DONE). What comes after it waits for ``finish`` or ``take``; stop reading
        while ``full``. Raises Refused: answer it if the response has not begun, and close.
        """
        state = self.state
        try:
            if state is _HEAD:
                request = None if self._held else begin_request(data, self._hop)
                return self._enter(request, data) if request else self._gather(data)
            if state is _BODY or state is _CHUNKS:
                out = self._body(data)
                return out if out and self._forward else None
        except ChunkError as error:
            self._go(_OVER)
            raise bad_request(str(error)) from None
        except Refused:
            self._go(_OVER)
            raise
        if state is not _CLOSED:
            self._held += data
        return None

    @property
    def full(self) -> bool:
        """As much waits as may; read no more until the request that is being answered is through."""
        return len(self._held) >= MAX_PIPELINED

    def finish(self, keep: bool) -> Request | None:
        """The response is through; ``keep``: it left the connection open. The next request, if it is there.

        Where no other can follow, ``state`` is CLOSED afterwards: flush and close.
        """
        if not (keep and self.keep and self.state is _DONE):
            self._go(_OVER)
            return None
        self._go(_NEXT)
        if not self._held:
            return None
        request = self.feed(self.take())
        assert not isinstance(request, bytes)
        return request

    def tunnel(self) -> bytes:
        """CONNECT or Upgrade was granted: what the client has sent already."""
        self._go(_SWITCHED)
        return self.take()

    def eof(self) -> bool:
        """The client will send no more. False: it left in the middle of a request, which cannot be answered.

        After a whole request it may still read the response; then the connection closes.
        """
        self.keep = False
        if self.state is _DONE or self.state is _TUNNEL:
            return True
        clean = self.state is _HEAD and not self._held
        self._go(_OVER)
        return clean

    def _gather(self, data: bytes) -> Request | None:
        """A head that comes in pieces, or after empty lines."""
        held = self._held
        start = max(0, len(held) - 3)
        held += data
        while held[:2] == b"\r\n" and self._empty < MAX_EMPTY_LINES:
            del held[:2]
            self._empty += 1
            start = 0
        end = held.find(b"\r\n\r\n", start) + 4
        if end == 3:
            refuse_stray(held, max(0, start - 1))
            if len(held) > MAX_HEAD:
                raise request_too_large(held)
            return None
        data = bytes(held)
        held.clear()
        return self._enter(parse_request(data[:end], self._hop), data)

    def _enter(self, request: Request, data: bytes) -> Request:
        """A request whose head ``data`` begins with."""
        self._empty = 0
        if not request.keep:
            self.keep = False
        self._forward = request.kind is _FORWARD
        size = len(request.head)
        body = self._start_body(request.length, True, data[size:] if size < len(data) else b"")
        if body and self._forward:
            request.wire += body
        return request


class OriginLeg(_Leg):
    """Responses on one connection to an origin."""

    __slots__ = ("_asked", "_hop", "_interims", "_keep", "closing", "started")
    _table = ORIGIN

    def __init__(self, hop: Hop) -> None:
        super().__init__(_IDLE)
        self._hop = hop
        self._asked: Request | None = None
        self._interims = 0
        self._keep = True
        self.closing = False  # set it before a head comes: the client's connection closes after this response
        self.started = False  # the final head was handed on: an error can no longer be told in words

    def ask(self, request: Request) -> None:
        """A request goes out on this connection; its response is what comes next."""
        if self.state is _DONE and self.reusable:
            self._go(_NEXT)
        self._go(_ASKED)
        self._asked = request
        self._interims = 0
        self.closing = self.started = False

    @property
    def reusable(self) -> bool:
        """The response is through and the connection may carry another request."""
        return self.state is _DONE and self._keep and not self._held

    def feed(self, data: bytes) -> Response | bytes | None:
        """Octets from the origin: a Response, octets for the client, or None: nothing yet.

        Octets before the Response are interim responses. A Response without body is whole when it is
        returned; with status 101 the connection is a tunnel from here on (``take`` first). Raises Refused:
        answer the client with it unless ``started``, else cut its connection; and close this one. Octets
        that nobody asked for are dropped, and the connection is not reusable.
        """
        state = self.state
        try:
            if state is _HEAD:
                return self._heads(data)
            if state is _BODY or state is _CHUNKS:
                return self._body(data) or None
        except ChunkError as error:
            self._go(_OVER)
            raise bad_response(f"The origin's body is malformed: {error}") from None
        except Refused:
            self._go(_OVER)
            raise
        if state is _UNTIL_CLOSE or state is _TUNNEL:
            return data
        self._keep = False
        return None

    def eof(self) -> None:
        """The origin will send no more: ends a body that ends so, raises Refused if a response is cut off."""
        self._keep = False
        state = self.state
        if state is _UNTIL_CLOSE:
            self._go(_BODY_ENDED)
        elif state is _HEAD or state is _BODY or state is _CHUNKS:
            self._go(_OVER)
            raise bad_response("The origin closed before its answer was whole.", "http_response_incomplete")

    def _heads(self, data: bytes) -> Response | bytes | None:
        """The next final head, and the interim responses before it."""
        asked = self._asked
        assert asked is not None
        before = b""
        while True:
            response = None if self._held else begin_response(data, asked, self._hop, not self.closing)
            if response is None:
                head = self._gather(data)
                if head is None:
                    return before or None
                data = self.take()
                response = parse_response(head, asked, self._hop, not self.closing)
            size = len(response.head)
            rest = data[size:] if size < len(data) else b""
            if response.status >= 200 or response.status == 101:
                break
            self._interims += 1
            if self._interims > MAX_INTERIM:
                raise bad_response("The origin sends interim responses without end.")
            before += response.wire
            if not rest:
                return before or None
            data = rest
        self._keep = response.keep_origin
        if before:
            response.wire = before + response.wire
        if response.status == 101:
            self._go(_SWITCHED)
            self._held += rest
        else:
            body = self._start_body(response.length, asked.minor == 1, rest)
            if body:
                response.wire += body
        self.started = True
        return response

    def _gather(self, data: bytes) -> bytes | None:
        """A head that comes in pieces, once it is whole; what is held begins with it."""
        held = self._held
        start = max(0, len(held) - 3)
        held += data
        end = held.find(b"\r\n\r\n", start) + 4
        if end > 3:
            return bytes(held[:end])
        if len(held) > MAX_HEAD:
            raise too_large()
        return None
