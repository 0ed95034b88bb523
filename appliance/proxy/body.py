"""A message body of known length, moved from socket to socket by the kernel, past the HTTP of it."""

from __future__ import annotations

from collections.abc import Callable
from errno import EAGAIN
from typing import Protocol

from appliance.proxy.loop import Handler
from appliance.proxy.relay import EPOLLIN, MAX_TURN, RelayContext
from appliance.proxy.stream import Stream

# Bodies with less than this to come are copied: taking a pipe and two more system calls cost what they save.
MIN_LENGTH = 262_144


class Body(Protocol):
    """The leg of protocol.http1 whose body it is."""

    left: int

    def passed(self, octets: int) -> None:
        """So many octets went by."""


class SplicedBody(Handler):
    """Takes both streams' events until the body is through, or one of them is at its end.

    ``over`` is called then, with the streams as they were; what broke is left for them to find.
    """

    def __init__(
        self,
        relay: RelayContext,
        source: Stream,
        target: Stream,
        body: Body,
        count: Callable[[int], None],
        over: Callable[[], None],
    ) -> None:
        self._relay = relay
        self._source = source
        self._target = target
        self._body = body
        self._count = count
        self._over = over
        self._pipe: tuple[int, int] | None = None
        self._in_pipe = 0

    def begin(self) -> bool:
        """Take over; False where there is no pipe to be had, and nothing has changed."""
        self._pipe = self._relay.pipes.take()
        if self._pipe is None:
            return False
        for stream in (self._source, self._target):
            stream.paused = True  # or a read that is under way would go on, past what is in the pipe
            self._source.loop.hand_to(stream.fd, self)
        self.on_event(EPOLLIN)
        return True

    def kill(self, session: object) -> bool:
        """The client's stream knows whose it is."""
        return self._target.kill(session)

    def on_event(self, events: int) -> None:
        """Something moved on either side."""
        if self._pipe is None:
            return
        kernel, body = self._relay.kernel, self._body
        from_pipe, into_pipe = self._pipe
        for _ in range(MAX_TURN):
            while self._in_pipe:
                moved = kernel.splice(from_pipe, self._target.fd, self._in_pipe)
                if moved <= 0:
                    if moved != -EAGAIN:
                        self._end()
                    return
                self._in_pipe -= moved
                self._count(moved)
            if not body.left:
                self._end()
                return
            size = kernel.splice(self._source.fd, into_pipe, min(body.left, self._relay.pipes.size))
            if size <= 0:
                if size != -EAGAIN:
                    self._end()
                return
            self._in_pipe = size
            body.passed(size)
        self._source.loop.later(self)

    def _end(self) -> None:
        assert self._pipe is not None
        self._relay.pipes.give(self._pipe, self._in_pipe == 0)
        self._pipe = None
        lost = self._in_pipe > 0
        for stream in (self._source, self._target):
            self._source.loop.hand_to(stream.fd, stream)
        if lost:
            self._target.broken("reset")  # what was in the pipe did not reach it
            return
        for stream in (self._source, self._target):
            stream.resume()  # what happened meanwhile is looked at in the next batch
        self._over()

    def stop(self) -> None:
        """Give up, when the exchange is over for another reason; both streams are closed by then."""
        if self._pipe is not None:
            self._relay.pipes.give(self._pipe, self._in_pipe == 0)
            self._pipe = None
