"""Honest TCP: a client's SYN is held until the origin has answered.

States of a held SYN, by its four-tuple:

    (none)   --SYN-->           DIALLING   connect() is under way
    DIALLING --connected-->     RELEASED   the SYN went back into the TUN; the kernel shakes hands
    DIALLING --failed-->        (none)     RST or ICMPv6 error to the client
    RELEASED --accepted-->      (relayed)  two legs
    RELEASED --no accept-->     (none)     the client never finished; the origin's leg is reset

A repeated SYN of a held or relayed four-tuple never dials again: while dialling it is dropped, later
it is the kernel's to answer and goes back into the TUN.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from errno import EINPROGRESS, EMFILE, ENFILE
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    inet_pton,
    socket,
)
from typing import Any

from appliance.errors import WIRE, Failure, failure_of
from appliance.protocol.packet import tcp_reset
from appliance.proxy.context import Context, Destination
from appliance.proxy.relay import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLOUT,
    LEG_EVENTS,
    RelayContext,
    join,
    reset_on_close,
)
from appliance.session.record import DIALLING, OPEN, Session

# Seconds a released SYN may take to become an accepted socket: three SYN-ACKs of Linux (1 + 2 + 4).
# Shorter would cut clients on lossy links, longer would hold origins for forged SYNs.
ACCEPT_TIMEOUT = 8
# Sockets taken from the listener in one go, so that a burst of new sessions starves no other.
MAX_ACCEPTS = 64
# Descriptors that dials leave free for everything else: pipes, log, hand-over.
SPARE_DESCRIPTORS = 16
# Dial times kept for the median that the dashboard shows.
DIAL_SAMPLES = 512


class Held:
    """A client that waits, and the origin's leg being dialled for it.

    It waits as a SYN, or, where clients are accepted first, as the socket ``client``.
    """

    __slots__ = ("client", "events", "fd", "key", "owner", "released", "session", "sock", "syn")

    def __init__(
        self,
        owner: Transparent,
        key: bytes,
        syn: bytes,
        sock: socket,
        session: Session,
        client: socket | None,
    ) -> None:
        self.owner = owner
        self.key = key
        self.syn = syn  # empty where there is a client
        self.client = client
        self.sock = sock
        self.fd = sock.fileno()
        self.session = session
        self.released = False
        self.events = 0  # of the origin's leg, which is edge-triggered: they come once

    def on_event(self, events: int) -> None:
        """The dial's outcome; once released, what the origin says waits for the pairing."""
        self.events |= events
        if not self.released and events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
            self.owner.dialled(self, failed=bool(events & (EPOLLERR | EPOLLHUP)))

    def deadline(self, _second: int) -> int:
        """Give up a dial or a handshake that takes too long."""
        self.owner.expire(self, released=False)
        return 0

    def accept_deadline(self, _second: int) -> int:
        """Give up on a client that never finished its handshake."""
        self.owner.expire(self, released=True)
        return 0


def _four_tuple(sock: socket, peer: tuple[Any, ...]) -> bytes:
    """The key of an accepted socket: client, server, client's port, server's port, as in a SYN."""
    name = sock.getsockname()
    addresses = inet_pton(AF_INET6, peer[0]) + inet_pton(AF_INET6, name[0])
    return addresses + struct.pack("!HH", peer[1], name[1])


class Transparent:
    """The TCP part of a worker: held SYNs, the listener, and the relayed sessions by four-tuple."""

    def __init__(self, context: Context, relay: RelayContext, listener: socket) -> None:
        self._context = context
        self._relay = relay
        self._listener = listener
        self.held: dict[bytes, Held] = {}
        self.relayed: set[bytes] = set()
        self._half_open: dict[bytes, int] = {}

    # -- from the TUN --------------------------------------------------------------------------

    def on_syn(self, packet: bytes) -> None:
        """A TCP packet of a client, from the TUN. Only pure SYNs are routed here."""
        if len(packet) < 60 or packet[53] & 0x17 != 0x02:
            self._context.counters.malformed += 1
            return
        key = packet[8:44]
        held = self.held.get(key)
        if held is not None:
            if held.released:
                self._context.write(packet)
            return
        if key in self.relayed:
            self._context.write(packet)
            return
        target = self._context.destination(packet[24:40])
        if target is None:
            self._context.counters.malformed += 1
            return
        failure = target.failure or self._admit(packet[8:24])
        if failure is None:
            failure = self._dial(key, packet, target, None)
        if failure is not None:
            self._refuse(packet, target, failure)

    def _admit(self, client: bytes) -> Failure | None:
        proxy = self._context.config.proxy
        if len(self.held) >= proxy.max_half_open:
            return Failure.LIMIT
        if self._half_open.get(client, 0) >= proxy.max_half_open_per_client:
            return Failure.LIMIT
        return self._context.admit(client)

    def _dial(self, key: bytes, syn: bytes, target: Destination, client: socket | None) -> Failure | None:
        context = self._context
        port = int.from_bytes(key[34:36], "big")
        if context.is_own(target.origin) and ("tcp", port) not in context.published:
            return Failure.DENIED  # the box itself is nobody's origin, but for what it publishes
        try:
            sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        except OSError as error:
            return failure_of(error.errno or 0)
        if sock.fileno() + len(self.held) + SPARE_DESCRIPTORS > context.descriptor_limit:
            # The kernel gives the lowest free number: none would be left to accept the client with.
            sock.close()
            return Failure.RESOURCES
        try:
            target.way.bind(sock, key[:16])
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            code = sock.connect_ex((target.origin, port))
        except OSError as error:
            code = error.errno or 0
        if code not in (0, EINPROGRESS):
            sock.close()
            return failure_of(code)
        session = context.open("tcp", key, target.origin, DIALLING)
        held = Held(self, key, syn, sock, session, client)
        self._hold(held)
        context.timers.add(int(context.now) + context.config.proxy.timers.dial, held.deadline)
        return None

    def _hold(self, held: Held) -> None:
        self.held[held.key] = held
        client = held.session.client
        self._half_open[client] = self._half_open.get(client, 0) + 1
        self._context.watch(held.fd, held, LEG_EVENTS)

    def _refuse(self, syn: bytes, target: Destination, failure: Failure) -> None:
        context = self._context
        context.refused("tcp", syn[8:24], target.origin, int.from_bytes(syn[42:44], "big"), failure)
        if WIRE[failure].icmpv6 is None:
            context.write(tcp_reset(syn))
        else:
            context.answer_error(failure, syn)

    # -- the dial ------------------------------------------------------------------------------

    def dialled(self, held: Held, failed: bool) -> None:
        """connect() has ended, well or not."""
        code = held.sock.getsockopt(SOL_SOCKET, SO_ERROR) if failed else 0
        if code:
            self._drop(held, failure_of(code))
            return
        context = self._context
        counters = context.counters
        if len(counters.dial_ms) >= DIAL_SAMPLES:
            del counters.dial_ms[: DIAL_SAMPLES // 2]
        counters.dial_ms.append((context.now - held.session.started) * 1000)
        if held.client is not None:
            self._pair(held, held.client)
            return
        held.released = True
        context.timers.add(int(context.now) + ACCEPT_TIMEOUT, held.accept_deadline)
        context.write(held.syn)

    def expire(self, held: Held, released: bool) -> None:
        """A deadline has come; it is void when the SYN has moved on since."""
        if self.held.get(held.key) is held and held.released == released:
            self._drop(held, Failure.TIMEOUT)

    def _drop(self, held: Held, failure: Failure) -> None:
        context = self._context
        self._forget(held)
        reset_on_close(held.sock)
        context.bury(held.fd, held.sock)
        context.ended(held.session, failure.value)
        target = context.destination(held.key[16:32])
        if held.client is not None:
            reset_on_close(held.client)
            held.client.close()
            context.counters.count(failure)
        elif not held.released and target is not None:
            self._refuse(held.syn, target, failure)

    def _forget(self, held: Held) -> None:
        del self.held[held.key]
        client = held.session.client
        left = self._half_open[client] - 1
        if left:
            self._half_open[client] = left
        else:
            del self._half_open[client]

    # -- from one worker to the next -------------------------------------------------------------

    def hand_over(self) -> Iterator[tuple[dict[str, Any], socket]]:
        """The held SYNs, as what ``adopt`` of another worker takes; here they are forgotten."""
        for held in list(self.held.values()):
            session = held.session
            if held.client is not None:
                continue  # it stays, and is served to its end here
            yield (
                {
                    "kind": "held",
                    "syn": held.syn.hex(),
                    "released": held.released,
                    "origin": session.origin,
                    "started": session.started,
                },
                held.sock,
            )
            self._forget(held)
            self._context.ignore(held.fd)
            self._context.bury(held.fd, held.sock)
            self._context.drop(session)

    def adopt(self, entry: dict[str, Any], sock: socket) -> None:
        """Take a held SYN over."""
        context = self._context
        syn = bytes.fromhex(entry["syn"])
        session = context.open("tcp", syn[8:44], entry["origin"], DIALLING, entry["started"])
        held = Held(self, syn[8:44], syn, sock, session, None)
        held.released = entry["released"]
        self._hold(held)
        if held.released:
            context.timers.add(int(context.now) + ACCEPT_TIMEOUT, held.accept_deadline)
        else:
            context.timers.add(int(context.now) + context.config.proxy.timers.dial, held.deadline)

    # -- the listener --------------------------------------------------------------------------

    def on_event(self, _events: int) -> None:
        """New sockets on the transparent listener."""
        for _ in range(MAX_ACCEPTS):
            try:
                sock, peer = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (EMFILE, ENFILE) or not self._shed():
                    return
                continue
            key = _four_tuple(sock, peer)
            held = self.held.get(key)
            if held is not None and held.released:
                self._pair(held, sock)
            elif self._context.config.proxy.accept_first:
                self._accepted_first(key, sock)
            else:
                reset_on_close(sock)
                sock.close()

    def _accepted_first(self, key: bytes, sock: socket) -> None:
        """A client whose SYN was not held: dial, and reset it where that fails."""
        context = self._context
        target = context.destination(key[16:32])
        failure = Failure.DENIED if target is None else target.failure or self._admit(key[:16])
        if failure is None and target is not None:
            sock.setblocking(False)
            failure = self._dial(key, b"", target, sock)
        if failure is not None:
            origin = target.origin if target is not None else ""
            context.refused("tcp", key[:16], origin, int.from_bytes(key[34:36], "big"), failure)
            reset_on_close(sock)
            sock.close()

    def _shed(self) -> bool:
        """Without a descriptor to accept with, the spare one serves to reset what waits.

        Left in the queue, it would wake the worker for ever. False where there is nothing to shed.
        """
        context = self._context
        if not context.release_spare():
            return False
        try:
            sock, peer = self._listener.accept()
            held = self.held.get(_four_tuple(sock, peer))
            reset_on_close(sock)
            sock.close()
        except OSError:
            return False
        finally:
            context.take_spare()
        if held is not None:
            self._drop(held, Failure.RESOURCES)
            context.counters.count(Failure.RESOURCES)
        return True

    def _pair(self, held: Held, sock: socket) -> None:
        context = self._context
        self._forget(held)
        sock.setblocking(False)
        session = held.session
        session.state = OPEN
        context.counters.opened += 1
        client, origin = join(self._relay, sock, held.sock, session)
        self.relayed.add(held.key)
        context.handlers[origin.fd] = origin
        context.watch(client.fd, client, LEG_EVENTS)
        origin.on_event(held.events & ~EPOLLOUT)  # what was reported before there were legs

    def ended(self, session: Session) -> None:
        """A relayed session is over: its four-tuple is free again."""
        ports = struct.pack("!HH", session.client_port, session.server_port)
        self.relayed.discard(session.client + session.server + ports)
