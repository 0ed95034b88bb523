"""The relay: two legs of a TCP session and the bytes between them.

Rules, as each leg obeys them:

1. Read 64 KiB and write it on. After two full reads in a row the direction is spliced through a pipe.
2. What the far leg does not take waits (``pending``, or in the pipe); nothing more is read meanwhile.
3. End of input is passed on as a half-close once everything before it was written.
4. Both directions ended: both sockets are closed. A reset or an error on one leg resets the other, after
   what can be passed on at once: nothing tells of it again.
5. Sockets are edge-triggered: a leg reads until it would block, or until its turn is over.
6. An urgent byte goes on as any other, without its urgency. Linux ends a recv before it, and a splice sees
   nothing behind it, so that neither a short read nor a splice of nothing then says what it says else.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
from collections.abc import Callable
from socket import SHUT_WR, SO_LINGER, SO_OOBINLINE, SOL_SOCKET, socket

from appliance.session.record import CLOSING, Session

# One recv. Smaller costs system calls, larger cache misses; bulk goes by splice anyway.
READ_SIZE = 65_536
# How many reads or splices one leg may do before the others have their turn.
MAX_TURN = 16
# The main knob for bulk: 64 KiB gave 14 Gbit/s, 256 KiB 17, 1 MiB 19. Held only while it has bytes.
PIPE_SIZE = 1 << 20
# Spare pipes a worker keeps: each is two descriptors and, empty, next to no memory.
MAX_SPARE_PIPES = 64
# Two full reads say "bulk"; splicing everything from the start costs a quarter of the session rate.
FULL_READS_BEFORE_SPLICE = 2

_SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_F_SETPIPE_SZ = 1031
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP
EPOLLRDHUP, EPOLLPRI = select.EPOLLRDHUP, select.EPOLLPRI
LEG_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | select.EPOLLET
# With these, more may be behind a short read: only a recv that would block, or the end, is the last.
_MORE_BEHIND = EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP
_READABLE = EPOLLIN | _MORE_BEHIND
_PLAIN = EPOLLIN | EPOLLOUT


def reset_on_close(sock: socket) -> None:
    """Make close() send RST: otherwise a failure would look like an orderly end to the peer."""
    try:
        sock.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
    except OSError:
        pass  # the socket is in no state to send anything


class Pipes:
    """A pool of empty pipes with a bound on how many exist: ``limit`` pipes, two descriptors each."""

    __slots__ = ("_limit", "_made", "_spare")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._made = 0
        self._spare: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int] | None:
        """A pipe (read end, write end), or None at the limit: the caller goes on copying."""
        if self._spare:
            return self._spare.pop()
        if self._made >= self._limit:
            return None
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.fcntl(pipe[1], _F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            pass  # over fs.pipe-user-pages-soft: the default size serves, only slower
        self._made += 1
        return pipe

    def give(self, pipe: tuple[int, int], empty: bool) -> None:
        """Take a pipe back; one with bytes in it is closed, they belong to a dead session."""
        if empty and len(self._spare) < MAX_SPARE_PIPES:
            self._spare.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])
            self._made -= 1


class RelayContext:
    """What all legs of a worker share."""

    __slots__ = ("again", "buffer", "bury", "ended", "legs", "pipes", "view")

    def __init__(
        self, pipes: Pipes, bury: Callable[[int, socket], None], ended: Callable[[Session, str], None]
    ) -> None:
        self.pipes = pipes
        self.bury = bury  # forget the descriptor now, close the socket when this batch of events is done
        self.ended = ended
        self.buffer = bytearray(READ_SIZE)
        self.view = memoryview(self.buffer)
        self.again: list[Leg] = []  # legs whose turn was over with more to read
        self.legs: dict[int, Leg] = {}  # the LAN's leg of every relayed session, by its number


class Leg:
    """One side of a relayed session: what is read here is written to ``peer``."""

    __slots__ = (
        "closed",
        "context",
        "eof",
        "fd",
        "full_reads",
        "in_pipe",
        "lan",
        "peer",
        "pending",
        "pipe",
        "session",
        "shut",
        "sock",
    )

    peer: Leg

    def __init__(self, context: RelayContext, sock: socket, session: Session, lan: bool) -> None:
        self.context = context
        self.sock = sock
        self.fd = sock.fileno()
        self.session = session
        self.lan = lan  # True for the client's leg
        self.pending = b""
        self.pipe: tuple[int, int] | None = None
        self.in_pipe = 0
        self.full_reads = 0
        self.eof = False  # read to the end here
        self.shut = False  # our end of input was passed on to this socket
        self.closed = False

    def on_event(self, events: int) -> None:
        """What epoll reports of this leg's socket."""
        if self.closed:
            return
        peer = self.peer
        if (
            events & EPOLLIN
            and not events & ~_PLAIN
            and not self.pending
            and not self.eof
            and self.pipe is None
            and not peer.pending
            and peer.pipe is None
        ):
            # The usual case, a few bytes to be copied, without the calls and checks of the others.
            self._copy_small(peer)
            return
        if events & EPOLLOUT and (peer.pending or peer.in_pipe):
            # The peer's own end may have been reported while it waited: read it to the end.
            peer.pump(EPOLLRDHUP)
        if events & _READABLE and not self.closed:
            self.pump(events)
            if events & EPOLLERR:
                self.abort("reset")  # the pump meets it neither behind bytes that wait nor after an end

    def _copy_small(self, peer: Leg) -> None:
        """Read once and write it on; what is more than that goes the way of ``pump``."""
        context = self.context
        try:
            size = self.sock.recv_into(context.buffer)
            if size == 0:
                self.eof = True
                self._finish(peer)
                return
            try:
                sent = peer.sock.send(context.view[:size])
            except BlockingIOError:
                sent = 0
        except BlockingIOError:
            return
        except OSError:
            self.abort("reset")
            return
        if self.lan:
            self.session.to_wan += sent
        else:
            self.session.to_lan += sent
        if sent < size:
            self.pending = bytes(context.view[sent:size])
        elif size < READ_SIZE:
            self.full_reads = 0  # a short read emptied the socket
        else:
            self.full_reads += 1
            self.pump(EPOLLIN)

    def pump(self, events: int) -> None:
        """Move what can be moved from here to the peer."""
        peer = self.peer
        try:
            if self.pipe is not None:
                self._splice(peer, events)
                return
            if self.pending:
                sent = peer.sock.send(self.pending)
                self._count(sent)
                if sent < len(self.pending):
                    self.pending = self.pending[sent:]
                    return
                self.pending = b""
                events |= EPOLLRDHUP
            if self.eof:
                self._finish(peer)
                return
            self._copy(peer, events)
        except BlockingIOError:
            return
        except OSError:
            self.abort("reset")

    def _count(self, amount: int) -> None:
        if self.lan:
            self.session.to_wan += amount
        else:
            self.session.to_lan += amount

    def _copy(self, peer: Leg, events: int) -> None:
        context = self.context
        receive = self.sock.recv_into
        for _ in range(MAX_TURN):
            size = receive(context.buffer)
            if size == 0:
                self.eof = True
                self._finish(peer)
                return
            try:
                sent = peer.sock.send(context.view[:size])
            except BlockingIOError:
                sent = 0
            self._count(sent)
            if sent < size:
                self.pending = bytes(context.view[sent:size])
                return
            if size < READ_SIZE:
                self.full_reads = 0
                # A short read emptied the socket, unless its end or an urgent byte is behind the bytes.
                if not events & _MORE_BEHIND:
                    return
            else:
                self.full_reads += 1
                if self.full_reads >= FULL_READS_BEFORE_SPLICE:
                    self.pipe = context.pipes.take()
                    if self.pipe is not None:
                        self._splice(peer, events)
                        return
        context.again.append(self)

    def _splice(self, peer: Leg, events: int) -> None:
        assert self.pipe is not None
        from_pipe, into_pipe = self.pipe
        for _ in range(MAX_TURN):
            # The pipe is emptied before the socket is read, or EAGAIN could mean either of the two.
            while self.in_pipe:
                moved = os.splice(from_pipe, peer.fd, self.in_pipe, flags=_SPLICE_FLAGS)
                self.in_pipe -= moved
                self._count(moved)
            try:
                size = os.splice(self.fd, into_pipe, PIPE_SIZE, flags=_SPLICE_FLAGS)
            except BlockingIOError:
                size = -1
            if size <= 0:
                # Nothing in flight: the pipe goes back, and the next bytes are copied again.
                self._release_pipe()
                self.full_reads = 0
                if size == 0 or events & _MORE_BEHIND:
                    break  # only recv can tell the end, or nothing, from an urgent byte
                return
            self.in_pipe = size
        self.context.again.append(self)

    def _release_pipe(self) -> None:
        if self.pipe is not None:
            self.context.pipes.give(self.pipe, empty=self.in_pipe == 0)
            self.pipe = None
            self.in_pipe = 0

    def _finish(self, peer: Leg) -> None:
        """Everything from here was written to the peer, and there will be no more."""
        self._release_pipe()
        if not peer.shut:
            peer.shut = True
            if not (self.shut and peer.eof):
                self.session.state = CLOSING
                peer.sock.shutdown(SHUT_WR)
                return
        if self.shut and peer.eof:
            self._close("closed")

    def abort(self, reason: str) -> None:
        """End both legs with a reset."""
        if self.closed:
            return
        reset_on_close(self.sock)
        reset_on_close(self.peer.sock)
        self._close(reason)

    def _close(self, reason: str) -> None:
        context, peer = self.context, self.peer
        # Legs that know each other are garbage that only the collector would find.
        del self.peer, peer.peer
        for leg in (self, peer):
            leg.closed = True
            leg.pending = b""
            leg._release_pipe()
            context.bury(leg.fd, leg.sock)
        context.legs.pop(self.session.number, None)
        context.ended(self.session, reason)


def join(context: RelayContext, lan: socket, wan: socket, session: Session) -> tuple[Leg, Leg]:
    """The two legs of a session, (LAN's, WAN's), that know of each other; the loop has yet to."""
    lan_leg = Leg(context, lan, session, lan=True)
    wan_leg = Leg(context, wan, session, lan=False)
    for sock in (lan, wan):
        sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)
    lan_leg.peer = wan_leg
    wan_leg.peer = lan_leg
    context.legs[session.number] = lan_leg
    return lan_leg, wan_leg
