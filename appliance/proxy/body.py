"""A message body of known length, moved from socket to socket by the kernel, past the HTTP of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EAGAIN
from typing import Protocol

from appliance.proxy.loop import Handler
from appliance.proxy.relay import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLRDHUP, MAX_TURN, RelayContext
from appliance.proxy.stream import Stream

# Bodies with less than this to come are copied: taking a pipe and two more system calls cost what they save.
# Measured for uploads on a busy machine, processor seconds for a GB, copied once and spliced three times:
# 256 KiB 1.14 and 0.93 to 1.41, 1 MiB 0.76 and 0.53 to 0.82, 4 MiB 0.56 and 0.37 to 0.50, 512 MiB 0.70 and
# 0.30 to 0.34. So large ones gain; where exactly it begins to pay is within the noise.
MIN_LENGTH = 262_144

_SAYS = EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP


class Body(Protocol):
    """The leg of protocol.http1 whose body it is."""

    left: int

    def passed(self, octets: int) -> None:
        """So many octets went by."""


class SplicedBody(Handler):
    """Takes both streams' events until the body is through, or one of them is at its end.

    ``over`` is called then, with the streams as they were; what broke is left for them to find. ``speaks`` is
    the target, where that may have something to say meanwhile (an origin that answers before the request's
    body is through): then it is over, too, and what is on its way waits in the target's stream.
    """

    def __init__(
        self,
        relay: RelayContext,
        source: Stream,
        target: Stream,
        body: Body,
        count: Callable[[int], None],
        over: Callable[[], None],
        speaks: Stream | None = None,
    ) -> None:
        self._relay = relay
        self._source = source
        self._target = target
        self._body = body
        self._count = count
        self._over = over
        self._speaks = speaks
        self._pipe: tuple[int, int] | None = None
        self._in_pipe = 0

    def begin(self) -> bool:
        """Take over; False where there is no pipe to be had, and nothing has changed."""
        self._pipe = self._relay.pipes.take()
        if self._pipe is None:
            return False
        loop = self._source.loop
        for stream in (self._source, self._target):
            stream.paused = True  # or a read that is under way would go on, past what is in the pipe
            loop.hand_to(stream.fd, self)
        if self._speaks is not None:
            loop.hand_to(self._target.fd, _Listening(self))
        self.on_event(EPOLLIN)
        return True

    @property
    def empty(self) -> bool:
        """All that was taken has gone on."""
        return self._in_pipe == 0

    def interrupt(self) -> None:
        """The target speaks: both streams are read and written as before."""
        if self._pipe is None:
            return
        held = b""
        while len(held) < self._in_pipe:
            held += os.read(self._pipe[0], self._in_pipe - len(held))
        self._in_pipe = 0
        self._target.unsent = held
        self._count(len(held))
        self._end()
        if held and not self._target.closed:
            self._target.flush()  # that it takes more may have been told in the same event, and is told once

    def kill(self, session: object, reason: str) -> bool:
        """The client's stream knows whose it is."""
        return self._target.kill(session, reason) or self._source.kill(session, reason)

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
            self._target.paused = False
            self._target.owner.on_unwritable(self._target)  # what was in the pipe did not reach it
            return
        for stream in (self._source, self._target):
            stream.resume()  # what happened meanwhile is looked at in the next batch
        self._over()

    def stop(self) -> None:
        """Give up, when the exchange is over for another reason; both streams are closed by then."""
        if self._pipe is not None:
            self._relay.pipes.give(self._pipe, self._in_pipe == 0)
            self._pipe = None


class _Listening(Handler):
    """The target's descriptor, while it may have something to say."""

    def __init__(self, spliced: SplicedBody) -> None:
        self._spliced = spliced

    def on_event(self, events: int) -> None:
        """It takes more, or it speaks."""
        if events & _SAYS:
            self._spliced.interrupt()
        else:
            self._spliced.on_event(events)

    def kill(self, session: object, reason: str) -> bool:
        """The other side's handler is asked."""
        return False
