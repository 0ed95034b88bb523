"""The client's leg: requests in, one at a time, and octets for the origin out."""

from __future__ import annotations

from appliance.protocol.http1.chunked import ChunkError
from appliance.protocol.http1.grammar import MAX_EMPTY_LINES, MAX_HEAD, MAX_PIPELINED, Refused, bad_request
from appliance.protocol.http1.hop import Hop
from appliance.protocol.http1.leg import (
    BODY,
    CHUNKS,
    CLIENT,
    CLOSED,
    DONE,
    HEAD,
    NEXT,
    OVER,
    SWITCHED,
    TUNNEL,
    Leg,
    steps,
)
from appliance.protocol.http1.request import Request, begin_request, parse_request
from appliance.protocol.http1.request_line import Kind, refuse_stray, too_large

_FORWARD = Kind.FORWARD
_STEPS = steps(CLIENT)


class ClientLeg(Leg):
    """Requests of one client connection, one at a time."""

    __slots__ = ("_empty", "_forward", "_hop", "keep")

    def __init__(self, hop: Hop) -> None:
        super().__init__(HEAD, _STEPS)
        self._hop = hop
        self._empty = 0
        self._forward = True
        self.keep = True

    def feed(self, data: bytes) -> Request | bytes | None:
        """Octets from the client: a Request, octets of its body for the origin, or None: nothing yet.

        The body of a request that is for no origin is read and dropped. A request without body is whole when
        it is returned (``state`` is DONE). What comes after it waits for ``finish`` or ``take``; stop reading
        while ``full``. In a tunnel all octets go on. Raises Refused: answer it if the response has not begun,
        and close.
        """
        state = self.state
        try:
            if state is HEAD:
                request = None if self._held else begin_request(data, self._hop)
                return self._enter(request, data) if request else self._gather(data)
            if state is BODY or state is CHUNKS:
                out = self._body(data)
                return out if out and self._forward else None
        except ChunkError as error:
            self._go(OVER)
            raise bad_request(str(error)) from None
        except Refused:
            self._go(OVER)
            raise
        if state is TUNNEL:
            return data
        if state is not CLOSED:
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
        if not (keep and self.keep and self.state is DONE):
            self._go(OVER)
            return None
        self._go(NEXT)
        if not self._held:
            return None
        request = self.feed(self.take())
        assert not isinstance(request, bytes)
        return request

    def tunnel(self) -> bytes:
        """CONNECT or Upgrade was granted: what the client has sent already."""
        self._go(SWITCHED)
        return self.take()

    def eof(self) -> bool:
        """The client will send no more. False: it left in the middle of a request, which cannot be answered.

        After a whole request it may still read the response; then the connection closes.
        """
        self.keep = False
        if self.state is DONE or self.state is TUNNEL:
            return True
        clean = self.state is HEAD and not self._held
        self._go(OVER)
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
                raise too_large(held)
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
