"""The origin's leg: responses in, and octets for the client out."""

from __future__ import annotations

from appliance.protocol.http1.chunked import ChunkError
from appliance.protocol.http1.grammar import MAX_HEAD, MAX_INTERIM, Refused, bad_response
from appliance.protocol.http1.hop import Hop
from appliance.protocol.http1.leg import (
    ASKED,
    BODY,
    BODY_ENDED,
    CHUNKS,
    DONE,
    HEAD,
    IDLE,
    NEXT,
    ORIGIN,
    OVER,
    SWITCHED,
    TUNNEL,
    UNTIL_END,
    Leg,
    steps,
)
from appliance.protocol.http1.request import Request
from appliance.protocol.http1.response import Response, begin_response, parse_response, too_large

_STEPS = steps(ORIGIN)


class OriginLeg(Leg):
    """Responses on one connection to an origin."""

    __slots__ = ("_asked", "_hop", "_interims", "_keep", "closing", "started")

    def __init__(self, hop: Hop) -> None:
        super().__init__(IDLE, _STEPS)
        self._hop = hop
        self._asked: Request | None = None
        self._interims = 0
        self._keep = True
        self.closing = False  # set it before a head comes: the client's connection closes after this response
        self.started = False  # the final head was handed on: an error can no longer be told in words

    def ask(self, request: Request) -> None:
        """A request goes out on this connection; its response is what comes next."""
        if self.state is DONE and self.reusable:
            self._go(NEXT)
        self._go(ASKED)
        self._asked = request
        self._interims = 0
        self.closing = self.started = False

    @property
    def reusable(self) -> bool:
        """The response is through and the connection may carry another request."""
        return self.state is DONE and self._keep and not self._held

    def feed(self, data: bytes) -> Response | bytes | None:
        """Octets from the origin: a Response, octets for the client, or None: nothing yet.

        Octets before the Response are interim responses. A Response without body is whole when it is
        returned; with status 101 the connection is a tunnel from here on (``take`` first). Raises Refused:
        answer the client with it unless ``started``, else cut its connection; and close this one. Octets
        that nobody asked for are dropped, and the connection is not reusable.
        """
        state = self.state
        try:
            if state is HEAD:
                return self._heads(data)
            if state is BODY or state is CHUNKS:
                return self._body(data) or None
        except ChunkError as error:
            self._go(OVER)
            raise bad_response(f"The origin's body is malformed: {error}") from None
        except Refused:
            self._go(OVER)
            raise
        if state is UNTIL_END or state is TUNNEL:
            self.content += len(data)
            return data
        self._keep = False
        return None

    def eof(self) -> None:
        """The origin will send no more: ends a body that ends so, raises Refused if a response is cut off."""
        self._keep = False
        state = self.state
        if state is UNTIL_END:
            self._go(BODY_ENDED)
        elif state is HEAD or state is BODY or state is CHUNKS:
            self._go(OVER)
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
            self._go(SWITCHED)
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
