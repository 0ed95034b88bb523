"""A leg of a proxied connection as a state machine: its states, what moves it, what both legs share.

Bodies of a known length need not pass through here: while ``left`` is not 0, so many octets of body are the
next thing on the socket. The engine may splice any of them and tell by ``passed``.
"""

from __future__ import annotations

from enum import IntEnum

from appliance.protocol.http1.chunked import Chunked
from appliance.protocol.http1.grammar import CHUNKED, UNTIL_CLOSE


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


def steps(table: dict[tuple[State, Happened], State]) -> tuple[tuple[State | None, ...], ...]:
    """The table by the state's number and the event's, to be looked into quickly."""
    return tuple(tuple(table.get((state, happened)) for happened in Happened) for state in State)


# Members by short names: looking one up on its class costs more than a step of the machine.
IDLE, HEAD, BODY, CHUNKS, UNTIL_END, DONE, TUNNEL, CLOSED = State
ASKED, NO_BODY, SIZED_BODY, CHUNKED_BODY, OPEN_BODY, BODY_ENDED, NEXT, SWITCHED, OVER = Happened


class Leg:
    """What both legs share: the state, the beginning of a head, the body's frame."""

    __slots__ = ("_chunks", "_held", "_steps", "content", "left", "state")

    def __init__(self, state: State, steps: tuple[tuple[State | None, ...], ...]) -> None:
        self.state = state
        self._steps = steps
        self.left = 0
        self.content = 0  # octets, up to here, of a body whose length is not told
        self._chunks: Chunked | None = None
        # Octets that wait: the beginning of a head, what was pipelined, or what came after the end.
        self._held = bytearray()

    def _go(self, happened: Happened) -> None:
        following = self._steps[self.state][happened]
        if following is None:
            raise KeyError(self.state, happened)
        self.state = following

    def passed(self, octets: int) -> None:
        """So many octets of a body of known length went by without passing through ``feed``."""
        if not 0 <= octets <= self.left:
            raise ValueError("more octets than the body has left")
        self.left -= octets
        if not self.left and self.state is BODY:
            self._go(BODY_ENDED)

    def take(self) -> bytes:
        """The octets that wait here, once: what a tunnel begins with."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def _start_body(self, length: int, reframe: bool, data: bytes) -> bytes:
        """Enters the body; what of ``data`` belongs to it, as it is to be sent on."""
        if length == 0:
            self._go(NO_BODY)
            if data:
                self._held += data
            return b""
        self._go(_BODY_OF.get(length, SIZED_BODY))
        self.content = 0
        if length == CHUNKED:
            self._chunks = Chunked(reframe)
        elif length == UNTIL_CLOSE:
            self.content = len(data)
            return data
        else:
            self.left = length
        return self._body(data) if data else b""

    def _body(self, data: bytes) -> bytes:
        """What of ``data`` is body goes on; what is not is held."""
        chunks = self._chunks
        if chunks is not None:
            out = chunks.feed(data)
            self.content = chunks.content
            if chunks.done:
                self._held += chunks.rest
                self._chunks = None
                self._go(BODY_ENDED)
            return out
        surplus = len(data) - self.left
        if surplus < 0:
            self.left = -surplus
            return data
        if surplus:
            self._held += data[self.left :]
            data = data[: self.left]
        self.left = 0
        self._go(BODY_ENDED)
        return data
