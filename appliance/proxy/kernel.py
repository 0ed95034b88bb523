"""The system calls of the data path, by descriptor: the plain implementation, by Python's own library.

``kernel.pyx`` is the other one, by the C library; ``kernel.pxd`` says what both have. They are told apart
by nothing but their speed, and the tests run over both. In place of an exception a call returns the negated
errno: the hot path looks at a number, and pays for no object. A call that a signal interrupts is made anew.

Nothing here decides anything: what an answer means is the caller's to know.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import time
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    SHUT_WR,
    SO_ERROR,
    SO_LINGER,
    SO_OOBINLINE,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    inet_ntop,
    inet_pton,
    socket,
)

MAX_PACKET = 65_536  # of a TUN
MAX_EVENTS = 512  # taken from epoll at once

_SO_BINDTODEVICE = 25
_IP_BIND_ADDRESS_NO_PORT = 24
_IPV6_TRANSPARENT = 75
_IPV6_FREEBIND = 78
_F_SETPIPE_SZ = 1031
_SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_MAPPED = bytes(10) + b"\xff\xff"

_UNKNOWN = errno.EIO  # an OSError without a number, which Python raises of its own accord


def _code(error: OSError) -> int:
    return -(error.errno or _UNKNOWN)


class Kernel:
    """One worker's system calls. ``read_size``: octets that ``receive`` takes at most."""

    def __init__(self, read_size: int) -> None:
        self.buffer = bytearray(read_size)  # what ``receive`` fills
        self.endpoints = b""  # of what ``accept`` returned: client, server, their ports; 36 octets
        self.pipe_ends = (-1, -1)  # of what ``open_pipe`` opened: to read from, to write to
        self.now = time.monotonic()  # of the last ``wait``
        self._view = memoryview(self.buffer)
        self._epoll = select.epoll()
        self._events: list[tuple[int, int]] = []
        self._sockets: dict[int, socket] = {}

    # -- the loop ------------------------------------------------------------------------------

    def watch(self, fd: int, events: int) -> int:
        """Have ``wait`` report ``events`` of ``fd``."""
        try:
            self._epoll.register(fd, events)
        except OSError as error:
            return _code(error)
        return 0

    def ignore(self, fd: int) -> int:
        """Have it report them no more."""
        try:
            self._epoll.unregister(fd)
        except OSError as error:
            return _code(error)
        return 0

    def wait(self, seconds: float) -> int:
        """Wait at most so long; how many events there are, and ``now`` is fresh."""
        self._events = self._epoll.poll(max(seconds, 0.0), MAX_EVENTS)
        self.now = time.monotonic()
        return len(self._events)

    def clock(self) -> float:
        """Monotonic seconds of this very moment; ``now`` is that of the batch."""
        return time.monotonic()

    def event_fd(self, index: int) -> int:
        """The descriptor of one of the events."""
        return self._events[index][0]

    def event_mask(self, index: int) -> int:
        """What happened to it."""
        return self._events[index][1]

    # -- streams -------------------------------------------------------------------------------

    def adopt(self, fd: int) -> None:
        """Know a socket that was opened elsewhere; it is closed by ``close`` from now on."""
        if fd not in self._sockets:
            self._sockets[fd] = socket(fileno=fd)

    def receive(self, fd: int) -> int:
        """Read into ``buffer``: how many octets, 0 for the end."""
        try:
            return self._sockets[fd].recv_into(self.buffer)
        except OSError as error:
            return _code(error)

    def received(self, start: int, end: int) -> bytes:
        """A copy of what stands in ``buffer``."""
        return bytes(self._view[start:end])

    def forward(self, fd: int, size: int) -> int:
        """Send the first ``size`` octets of ``buffer``: how many were taken."""
        try:
            return self._sockets[fd].send(self._view[:size])
        except OSError as error:
            return _code(error)

    def send(self, fd: int, data: bytes) -> int:
        """Send ``data``: how many octets were taken."""
        try:
            return self._sockets[fd].send(data)
        except OSError as error:
            return _code(error)

    def splice(self, source: int, target: int, size: int) -> int:
        """Move octets between a socket and a pipe: how many, 0 for the end."""
        try:
            return os.splice(source, target, size, flags=_SPLICE_FLAGS)
        except OSError as error:
            return _code(error)

    def open_pipe(self, size: int) -> int:
        """A pipe of ``size`` octets, or of the default size where so many are not to be had."""
        try:
            self.pipe_ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return _code(error)
        try:
            fcntl.fcntl(self.pipe_ends[1], _F_SETPIPE_SZ, size)
        except OSError:
            pass  # over fs.pipe-user-pages-soft: the default size serves, only slower
        return 0

    def half_close(self, fd: int) -> int:
        """Tell the other end that nothing more will come."""
        try:
            self._sockets[fd].shutdown(SHUT_WR)
        except OSError as error:
            return _code(error)
        return 0

    def reset_on_close(self, fd: int) -> None:
        """Make ``close`` send RST: otherwise a failure would look like an orderly end to the peer."""
        try:
            self._sockets[fd].setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            pass  # the socket is in no state to send anything

    def close(self, fd: int) -> None:
        """Close a socket or an end of a pipe."""
        sock = self._sockets.pop(fd, None)
        if sock is not None:
            sock.close()
        else:
            os.close(fd)

    def error_of(self, fd: int) -> int:
        """SO_ERROR, read and cleared; an errno, 0 for none."""
        try:
            return self._sockets[fd].getsockopt(SOL_SOCKET, SO_ERROR)
        except OSError as error:
            return -_code(error)

    # -- opening -------------------------------------------------------------------------------

    def accept(self, listener: int) -> int:
        """The next connection's descriptor, non-blocking; ``endpoints`` says whose it is.

        ``listener`` was adopted. An IPv4 address stands there as its IPv4-mapped form.
        """
        try:
            sock, peer = self._sockets[listener].accept()
        except OSError as error:
            return _code(error)
        sock.setblocking(False)
        fd, family, name = sock.fileno(), sock.family, sock.getsockname()
        self._sockets[fd] = sock
        addresses = inet_pton(family, peer[0]), inet_pton(family, name[0])
        if family == AF_INET:
            addresses = _MAPPED + addresses[0], _MAPPED + addresses[1]
        self.endpoints = addresses[0] + addresses[1] + struct.pack("!HH", peer[1], name[1])
        return fd

    def dial(self, address: bytes, port: int, device: bytes, source: bytes) -> int:
        """Begin to connect to an address of 4 or 16 octets: the descriptor; ``wait`` tells the outcome.

        ``device``: leave by this interface only; ``source``: from this address, of the same family, with
        any port; each empty for "as the routes say". An IPv6 source may be a foreign one (which needs
        CAP_NET_RAW). The socket sends at once (TCP_NODELAY) and keeps urgent octets in line.
        """
        family = AF_INET if len(address) == 4 else AF_INET6
        try:
            sock = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        except OSError as error:
            return _code(error)
        try:
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)
            if device:
                sock.setsockopt(SOL_SOCKET, _SO_BINDTODEVICE, device)
            if source:
                sock.setsockopt(IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                if family == AF_INET6:
                    sock.setsockopt(IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
                    sock.setsockopt(IPPROTO_IPV6, _IPV6_FREEBIND, 1)
                sock.bind((inet_ntop(family, source), 0))
            code = sock.connect_ex((inet_ntop(family, address), port))
        except OSError as error:
            code = error.errno or _UNKNOWN
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            return -code
        fd = sock.fileno()
        self._sockets[fd] = sock
        return fd

    # -- packets -------------------------------------------------------------------------------

    def read_packet(self, tun: int) -> bytes | int:
        """The next packet of a TUN, or a negated errno."""
        try:
            return os.read(tun, MAX_PACKET)
        except OSError as error:
            return _code(error)

    def write_packet(self, tun: int, packet: bytes) -> int:
        """Send a packet into the TUN."""
        try:
            return os.write(tun, packet)
        except OSError as error:
            return _code(error)
