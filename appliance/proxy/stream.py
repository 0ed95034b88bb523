"""A connection that is read and written in pieces: the explicit proxy's handshakes and HTTP exchanges.

What is relayed octet by octet has the relay's legs; a stream is for what has to be looked at. It is plain, or
TLS ends here: then OpenSSL works between two memory buffers and never sees the socket, which costs a copy and
gains large reads and writes (128 KiB of TLS records in one system call each).

A stream's *owner* hears of what comes. Nothing more is read while it is paused; what the socket does not take
waits in ``unsent``, and the owner asks ``full`` before it has more written.
"""

from __future__ import annotations

import ssl
import traceback
from errno import EAGAIN

from appliance.proxy.kernel import Kernel
from appliance.proxy.loop import Handler, Loop
from appliance.proxy.relay import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP

# Octets that may wait for a slow reader before the other side is read no more. Less stalls fast transfers
# between two wake-ups, more is memory for each slow client.
MAX_UNSENT = 262_144
# Reads of one stream before the others have their turn.
MAX_READS = 8
# A TLS handshake's messages (client certificates included) before the client is known.
MAX_HANDSHAKE = 65_536
# What OpenSSL is asked for at once; as much as a socket read brings.
_TLS_READ = 131_072

# The same as C has them, where this is compiled.
_MOST_UNSENT, _READS = MAX_UNSENT, MAX_READS
_WOULD_BLOCK = -EAGAIN
_OUT, _ERR = EPOLLOUT, EPOLLERR
_BROKEN = EPOLLERR | EPOLLHUP
_READABLE = EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP
# With these, more may be behind a short read.
_MORE_BEHIND = EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP


class Owner:
    """Who hears of a stream. The base class, for which nothing is of interest."""

    __slots__ = ()

    def on_data(self, stream: Stream, data: bytes) -> None:
        """Octets came."""

    def on_end(self, stream: Stream) -> None:
        """The other side will send no more; it may still read."""

    def on_broken(self, stream: Stream, why: str) -> None:
        """The connection is over: reset, or what came was no TLS. The stream is closed already."""

    def on_unwritable(self, stream: Stream) -> None:
        """The connection takes no more octets: the other side has closed it. By default that is the end."""
        stream.broken("reset")

    def on_drained(self, stream: Stream) -> None:
        """All that waited was taken, after ``full``."""

    def on_finished(self, stream: Stream) -> None:
        """The end that ``finish`` announced is out; the stream is closed if the other end was there."""

    def on_secured(self, stream: Stream) -> None:
        """The TLS handshake is done."""

    def kill(self, session: object, reason: str) -> bool:
        """End the session with a reset, where it is one of this owner's; False where it is none."""
        return False


NOBODY = Owner()


class Stream(Handler):
    """One connection. ``fd`` is watched with LEG_EVENTS, or will be."""

    __slots__ = (
        "_behind",
        "closed",
        "ended",
        "fd",
        "finishing",
        "kernel",
        "loop",
        "owner",
        "paused",
        "tls",
        "unsent",
    )

    def __init__(self, loop: Loop, fd: int, owner: Owner) -> None:
        self.loop = loop
        self.kernel: Kernel = loop.kernel
        self.fd = fd
        self.owner = owner
        self.unsent = b""
        self.paused = False
        self.ended = False  # no more will come
        self.finishing = False  # no more will be written: half-close when ``unsent`` is empty
        self.closed = False
        self.tls: Tls | None = None
        # A short read is not the last one: what was reported before it was not heard, or says so.
        self._behind = True

    # -- events --------------------------------------------------------------------------------

    def on_event(self, events: int) -> None:
        """What epoll reports; both directions are edge-triggered.

        A fault of ours in what is made of a peer's octets costs this connection, and no other.
        """
        try:
            self._on_event(events)
        except MemoryError:
            raise  # the loop knows what to do
        except Exception:
            traceback.print_exc()
            self.broken("a fault in the proxy")

    def _on_event(self, events: int) -> None:
        if events & _OUT and not self.closed and (self.unsent or self.finishing):
            self.flush()
        if events & _MORE_BEHIND:
            self._behind = True
        if events & _READABLE and not (self.closed or self.paused or self.ended):
            self.read()
        if events & _BROKEN and not self.closed and (self.paused or self.ended):
            # Neither a read nor a write would meet it.
            code = self.kernel.error_of(self.fd)
            if code or events & _ERR:
                self.broken("reset")

    def read(self) -> None:
        """Take what there is, for the owner, until nothing is left or it is paused."""
        kernel = self.kernel
        for _ in range(_READS):
            size = kernel.receive(self.fd)
            if size <= 0:
                if size == 0:
                    self._end()
                elif size != _WOULD_BLOCK:
                    self.broken("reset")
                else:
                    self._behind = False
                return
            data = kernel.received(0, size)
            # By names of their own: they may let go of the stream while they are at work, and Cython does
            # not hold what it calls by an attribute.
            tls, owner = self.tls, self.owner
            if tls is None:
                owner.on_data(self, data)
            else:
                tls.received(self, data)
            if self.closed or self.paused or self.ended:
                return
            if size < len(kernel.buffer) and not self._behind:
                return  # it emptied the socket
        self.loop.later(self)

    def resume(self) -> None:
        """Read again."""
        if self.paused:
            self.paused = False
            self._behind = True
            tls = self.tls
            if tls is not None:
                tls.drain(self)  # what is inside OpenSSL wakes no epoll
            if not (self.closed or self.paused or self.ended):
                self.loop.later(self)

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            owner = self.owner
            if self.tls is not None and not self.tls.finished:
                self.broken("cut off inside TLS")
            else:
                owner.on_end(self)

    def broken(self, why: str) -> None:
        """Close with a reset, and tell the owner."""
        if not self.closed:
            owner = self.owner
            self.abort()
            owner.on_broken(self, why)

    # -- writing -------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """As much waits as may: write no more until ``on_drained``."""
        return len(self.unsent) >= _MOST_UNSENT

    def write(self, data: bytes) -> None:
        """Send, or keep until the socket takes it."""
        if self.closed or not data:
            return
        if self.tls is not None:
            data = self.tls.sealed(data)
        self.send(data)

    def send(self, data: bytes) -> None:
        """Send octets as they are."""
        if self.unsent:
            self.unsent += data
            return
        sent = self.kernel.send(self.fd, data)
        if sent < 0:
            if sent != _WOULD_BLOCK:
                owner = self.owner
                owner.on_unwritable(self)
                return
            sent = 0
        if sent < len(data):
            self.unsent = data[sent:]

    def flush(self) -> None:
        """Send what waits, now that the socket takes more."""
        while self.unsent:
            sent = self.kernel.send(self.fd, self.unsent)
            if sent < 0:
                if sent != _WOULD_BLOCK:
                    owner = self.owner
                    owner.on_unwritable(self)
                return
            self.unsent = self.unsent[sent:]
        if self.finishing:
            self._half_close()
        else:
            owner = self.owner
            owner.on_drained(self)

    def finish(self) -> None:
        """Write no more; the other side hears of it once all is sent."""
        if self.closed or self.finishing:
            return
        self.finishing = True
        if self.tls is not None:
            self.send(self.tls.farewell())
        if not self.unsent:
            self._half_close()

    def _half_close(self) -> None:
        if self.kernel.half_close(self.fd) < 0:
            self.broken("reset")
            return
        owner = self.owner
        if self.ended:
            self.close()
        owner.on_finished(self)

    # -- the end -------------------------------------------------------------------------------

    def detach(self) -> int:
        """Give the descriptor away, with all that was not read yet; this stream is over."""
        self.closed = True
        self.owner = NOBODY
        return self.fd

    def close(self) -> None:
        """Close in order; what waits is lost."""
        if not self.closed:
            self.closed = True
            self.loop.bury(self.fd)
            # Stream and owner know each other: only the collector would find them, and OpenSSL's memory.
            self.owner = NOBODY
            self.tls = None
            self.unsent = b""

    def kill(self, session: object, reason: str) -> bool:
        """The owner knows its sessions."""
        owner = self.owner
        return owner.kill(session, reason)

    def abort(self) -> None:
        """Close with a reset."""
        if not self.closed:
            self.kernel.reset_on_close(self.fd)
            self.close()


class Tls:
    """The TLS side of a stream, between memory buffers.

    Anything malformed, a handshake longer than MAX_HANDSHAKE, or a cut connection ends the stream.
    """

    __slots__ = ("_engine", "_in", "_out", "_taken", "done", "finished")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = context.wrap_bio(self._in, self._out, server_side=True)
        self._taken = 0
        self.done = False  # the handshake
        self.finished = False  # the client's close_notify came: its end is no cut

    def received(self, stream: Stream, data: bytes) -> None:
        """Octets of the socket."""
        self._in.write(data)
        if not self.done:
            self._taken += len(data)
            if not self._shake_hands(stream):
                return
        self.drain(stream)

    def _shake_hands(self, stream: Stream) -> bool:
        try:
            self._engine.do_handshake()
        except ssl.SSLWantReadError:
            self._flush(stream)
            if self._taken > MAX_HANDSHAKE:
                stream.broken("a TLS handshake without end")
            return False
        except (ssl.SSLError, ValueError) as error:
            self._flush(stream)  # the alert
            stream.broken(f"no TLS: {getattr(error, 'reason', None) or 'malformed'}")
            return False
        self.done = True
        # The tickets go with the answer to what is here already, or when there is nothing more to read.
        owner = stream.owner
        owner.on_secured(stream)
        return not stream.closed

    def drain(self, stream: Stream) -> None:
        """Hand on what OpenSSL has, until it wants more of the socket's."""
        if not self.done:
            return
        try:
            while not (stream.closed or stream.paused):
                data = self._engine.read(_TLS_READ)
                if not data:
                    self._over(stream)
                    return
                owner = stream.owner
                owner.on_data(stream, data)
                # Asked once more it would say so by an exception, which takes as long as a record.
                if not self._in.pending and not self._engine.pending():
                    break
            self._flush(stream)
        except ssl.SSLWantReadError:
            self._flush(stream)  # tickets, or a key update's answer
        except ssl.SSLZeroReturnError:
            self._over(stream)
        except ssl.SSLError as error:
            self._flush(stream)
            stream.broken(f"no TLS: {error.reason or 'malformed'}")

    def _over(self, stream: Stream) -> None:
        self.finished = True
        stream._end()

    def _flush(self, stream: Stream) -> None:
        if self._out.pending and not stream.closed:
            stream.send(self._out.read())

    def sealed(self, data: bytes) -> bytes:
        """``data`` as TLS records."""
        self._engine.write(data)
        return self._out.read()

    def farewell(self) -> bytes:
        """close_notify."""
        try:
            self._engine.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # it waits for the client's, which may never come
        return self._out.read()

    @property
    def engine(self) -> ssl.SSLObject:
        """For the certificate and the session of the client."""
        return self._engine
