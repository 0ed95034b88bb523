"""The relay: two legs of a TCP session and the bytes between them.

Rules, as each leg obeys them:

1. Read 64 KiB and write it on. After two full reads in a row the direction is spliced through a pipe.
2. What the far leg does not take waits (``pending``, or in the pipe); nothing more is read meanwhile.
3. End of input is passed on as a half-close once everything before it was written.
4. Both directions ended: both sockets are closed. A reset or an error on one leg resets the other, after
   what can be passed on at once: nothing tells of it again.
5. Sockets are edge-triggered: a leg reads until it would block, or until its turn is over.
6. An urgent byte goes on as any other, without its urgency (the sockets keep it in line). Linux ends a recv
   before it, and a splice sees nothing behind it, so that neither a short read nor a splice of nothing then
   says what it says else.
"""

from __future__ import annotations

import select
from errno import EAGAIN
from typing import cast

from appliance.errors import Failure
from appliance.proxy.kernel import Kernel
from appliance.proxy.loop import Handler, Loop
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

EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP
EPOLLRDHUP, EPOLLPRI = select.EPOLLRDHUP, select.EPOLLPRI
LEG_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | select.EPOLLET

# The same as C has them, where this is compiled.
_IN, _OUT, _ERR, _RDHUP = EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLRDHUP
# With these, more may be behind a short read: only a recv that would block, or the end, is the last.
_MORE_BEHIND = EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP
_READABLE = EPOLLIN | _MORE_BEHIND
_PLAIN = EPOLLIN | EPOLLOUT
_WOULD_BLOCK = -EAGAIN
_SPLICE_AFTER = FULL_READS_BEFORE_SPLICE
_NOBODY: Leg = cast("Leg", None)  # the peer of a leg that is closed; nobody asks it anything


class Pipes:
    """A pool of empty pipes with a bound on how many exist: ``limit`` pipes, two descriptors each."""

    __slots__ = ("kernel", "limit", "made", "max_spare", "size", "spare")

    def __init__(
        self, kernel: Kernel, limit: int, size: int = PIPE_SIZE, max_spare: int = MAX_SPARE_PIPES
    ) -> None:
        self.kernel = kernel
        self.limit = limit
        self.size = size
        self.max_spare = max_spare
        self.made = 0
        self.spare: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int] | None:
        """A pipe (read end, write end), or None at the limit: the caller goes on copying."""
        if self.spare:
            return self.spare.pop()
        if self.made >= self.limit or self.kernel.open_pipe(self.size) < 0:
            return None
        self.made += 1
        return self.kernel.pipe_ends

    def give(self, pipe: tuple[int, int], empty: bool) -> None:
        """Take a pipe back; one with bytes in it is closed, they belong to a dead session."""
        if empty and len(self.spare) < self.max_spare:
            self.spare.append(pipe)
        else:
            self.kernel.close(pipe[0])
            self.kernel.close(pipe[1])
            self.made -= 1


class Registry:
    """Who keeps the table of relayed sessions; the base class, for which they are nothing to remember."""

    __slots__ = ()

    def opened(self, session: Session) -> None:
        """A session is relayed from now on."""

    def ended(self, session: Session, reason: str) -> None:
        """A relayed session is over."""


class RelayContext:
    """What all legs of a worker share."""

    __slots__ = ("again", "kernel", "legs", "loop", "max_turn", "pipes", "read_size", "registry")

    def __init__(self, loop: Loop, pipes: Pipes, max_turn: int = MAX_TURN) -> None:
        self.loop = loop
        self.kernel = loop.kernel
        self.pipes = pipes
        self.registry = Registry()  # who is told of the ends
        self.read_size = len(self.kernel.buffer)
        self.max_turn = max_turn
        self.again: list[Leg] = []  # legs whose turn was over with more to read
        self.legs: dict[int, Leg] = {}  # the LAN's leg of every relayed session, by its number

    def turn(self, seconds: float) -> None:
        """One batch of the loop's events, waiting at most so long for it."""
        count = self.loop.wait(0.0 if self.again else seconds)
        self.resume()
        self.loop.dispatch(count)
        self.loop.close_buried()

    def resume(self) -> None:
        """Let those whose turn was over go on."""
        if self.again:
            again, self.again = self.again, []
            for leg in again:
                if not leg.closed:
                    try:
                        leg.pump(EPOLLRDHUP)
                    except MemoryError:
                        self.loop.out_of_memory(leg)
                    except Exception:
                        self.loop.fault(leg)


class Leg(Handler):
    """One side of a relayed session: what is read here is written to ``peer``."""

    __slots__ = (
        "closed",
        "context",
        "eof",
        "fd",
        "from_pipe",
        "full_reads",
        "in_pipe",
        "into_pipe",
        "lan",
        "peer",
        "pending",
        "session",
        "shut",
    )

    def __init__(self, context: RelayContext, fd: int, session: Session, lan: bool) -> None:
        self.context = context
        self.fd = fd
        self.session = session
        self.lan = lan  # True for the client's leg
        self.peer = _NOBODY  # until ``join`` says
        self.pending = b""
        self.from_pipe = -1  # the pipe, while there is one
        self.into_pipe = -1
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
            events & _IN
            and not events & ~_PLAIN
            and not self.eof
            and self.from_pipe < 0
            and peer.from_pipe < 0
            and not self.pending
            and not peer.pending
        ):
            # The usual case, a few bytes to be copied, without the calls and checks of the others.
            self._copy_small(peer)
            return
        if events & _OUT and (peer.pending or peer.in_pipe):
            # The peer's own end may have been reported while it waited: read it to the end.
            peer.pump(_RDHUP)
        if events & _READABLE and not self.closed:
            self.pump(events)
            if events & _ERR:
                self.abort("reset")  # the pump meets it neither behind bytes that wait nor after an end

    def _copy_small(self, peer: Leg) -> None:
        """Read once and write it on; what is more than that goes the way of ``pump``."""
        kernel = self.context.kernel
        size = kernel.receive(self.fd)
        if size <= 0:
            self._read_nothing(peer, size)
            return
        sent = kernel.forward(peer.fd, size)
        if sent < 0:
            if sent != _WOULD_BLOCK:
                self.abort("reset")
                return
            sent = 0
        self._count(sent)
        if sent < size:
            self.pending = kernel.received(sent, size)
        elif size < self.context.read_size:
            self.full_reads = 0  # a short read emptied the socket
        else:
            self.full_reads += 1
            self.pump(_IN)

    def _read_nothing(self, peer: Leg, size: int) -> None:
        """A receive of the end, of nothing for now, or of an error."""
        if size == 0:
            self.eof = True
            self._finish(peer)
        elif size != _WOULD_BLOCK:
            self.abort("reset")

    def pump(self, events: int) -> None:
        """Move what can be moved from here to the peer."""
        if self.closed:
            return
        peer = self.peer
        if self.from_pipe >= 0:
            self._splice(peer, events)
            return
        if self.pending:
            sent = self.context.kernel.send(peer.fd, self.pending)
            if sent < 0:
                if sent != _WOULD_BLOCK:
                    self.abort("reset")
                return
            self._count(sent)
            if sent < len(self.pending):
                self.pending = self.pending[sent:]
                return
            self.pending = b""
            events |= _RDHUP
        if self.eof:
            self._finish(peer)
            return
        self._copy(peer, events)

    def _count(self, amount: int) -> None:
        if self.lan:
            self.session.to_wan += amount
        else:
            self.session.to_lan += amount

    def _copy(self, peer: Leg, events: int) -> None:
        context = self.context
        kernel = context.kernel
        for _ in range(context.max_turn):
            size = kernel.receive(self.fd)
            if size <= 0:
                self._read_nothing(peer, size)
                return
            sent = kernel.forward(peer.fd, size)
            if sent < 0:
                if sent != _WOULD_BLOCK:
                    self.abort("reset")
                    return
                sent = 0
            self._count(sent)
            if sent < size:
                self.pending = kernel.received(sent, size)
                return
            if size < context.read_size:
                self.full_reads = 0
                # A short read emptied the socket, unless its end or an urgent byte is behind the bytes.
                if not events & _MORE_BEHIND:
                    return
            else:
                self.full_reads += 1
                if self.full_reads >= _SPLICE_AFTER and self._take_pipe():
                    self._splice(peer, events)
                    return
        context.again.append(self)

    def _splice(self, peer: Leg, events: int) -> None:
        context = self.context
        kernel = context.kernel
        for _ in range(context.max_turn):
            # The pipe is emptied before the socket is read, or EAGAIN could mean either of the two.
            while self.in_pipe:
                moved = kernel.splice(self.from_pipe, peer.fd, self.in_pipe)
                if moved < 0:
                    if moved != _WOULD_BLOCK:
                        self.abort("reset")
                    return
                self.in_pipe -= moved
                self._count(moved)
            size = kernel.splice(self.fd, self.into_pipe, context.pipes.size)
            if size <= 0:
                if size < 0 and size != _WOULD_BLOCK:
                    self.abort("reset")
                    return
                # Nothing in flight: the pipe goes back, and the next bytes are copied again.
                self._release_pipe()
                self.full_reads = 0
                if size == 0 or events & _MORE_BEHIND:
                    break  # only recv can tell the end, or nothing, from an urgent byte
                return
            self.in_pipe = size
        context.again.append(self)

    def _take_pipe(self) -> bool:
        pipe = self.context.pipes.take()
        if pipe is None:
            return False
        self.from_pipe, self.into_pipe = pipe
        return True

    def _release_pipe(self) -> None:
        if self.from_pipe >= 0:
            self.context.pipes.give((self.from_pipe, self.into_pipe), self.in_pipe == 0)
            self.from_pipe = self.into_pipe = -1
            self.in_pipe = 0

    def _finish(self, peer: Leg) -> None:
        """Everything from here was written to the peer, and there will be no more."""
        self._release_pipe()
        if not peer.shut:
            peer.shut = True
            if not (self.shut and peer.eof):
                self.session.state = CLOSING
                if self.context.kernel.half_close(peer.fd) < 0:
                    self.abort("reset")
                return
        if self.shut and peer.eof:
            self._close("closed")

    def abandon(self) -> None:
        """Out of memory: octets may be lost, so both ends are told."""
        self.abort(Failure.MEMORY.value)

    def kill(self, session: object, reason: str) -> bool:
        """End it, where it is this one."""
        if session is not self.session or self.closed:
            return False
        self.abort(reason)
        return True

    def abort(self, reason: str) -> None:
        """End both legs with a reset."""
        if self.closed:
            return
        kernel = self.context.kernel
        kernel.reset_on_close(self.fd)
        kernel.reset_on_close(self.peer.fd)
        self._close(reason)

    def _close(self, reason: str) -> None:
        context, peer = self.context, self.peer
        self._end()
        peer._end()
        # Legs that know each other are garbage that only the collector would find.
        self.peer = peer.peer = _NOBODY
        context.legs.pop(self.session.number, None)
        context.registry.ended(self.session, reason)

    def _end(self) -> None:
        self.closed = True
        self.pending = b""
        self._release_pipe()
        self.context.loop.bury(self.fd)


def join(context: RelayContext, lan: int, wan: int, session: Session) -> tuple[Leg, Leg]:
    """The two legs of a session, (LAN's, WAN's), that know of each other; the loop has yet to.

    Both sockets keep urgent octets in line (SO_OOBINLINE).
    """
    lan_leg = Leg(context, lan, session, True)
    wan_leg = Leg(context, wan, session, False)
    lan_leg.peer = wan_leg
    wan_leg.peer = lan_leg
    context.legs[session.number] = lan_leg
    context.registry.opened(session)
    return lan_leg, wan_leg


def relay_on(
    context: RelayContext, lan: int, wan: int, session: Session, to_wan: bytes = b"", to_lan: bytes = b""
) -> None:
    """Relay two sockets that the loop watches already, each after what waits for it."""
    lan_leg, wan_leg = join(context, lan, wan, session)
    lan_leg.pending = to_wan
    wan_leg.pending = to_lan
    context.loop.hand_to(lan, lan_leg)
    context.loop.hand_to(wan, wan_leg)
    # What was reported before there were legs is not reported again.
    lan_leg.pump(_RDHUP)
    wan_leg.pump(_RDHUP)
