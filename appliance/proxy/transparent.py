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

from collections.abc import Iterator
from errno import EMFILE, ENFILE
from functools import partial
from typing import Any

from appliance.errors import WIRE, Failure, failure_of
from appliance.policy.request import Verdict
from appliance.protocol.packet import tcp_reset
from appliance.proxy.context import Context, Destination
from appliance.proxy.kernel import Kernel
from appliance.proxy.listening import NAMED_PORTS, Listening
from appliance.proxy.loop import Handler
from appliance.proxy.relay import EPOLLERR, EPOLLHUP, EPOLLOUT, LEG_EVENTS, Registry, RelayContext, join
from appliance.proxy.tally import HALF_OPEN
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

_NONE = -1  # no descriptor
# Octets of a SYN, with the data that it may bear: as much as one packet of an ordinary LAN. More could not be
# handed over to another worker.
MAX_SYN = 1_500
_MAX_SYN = MAX_SYN
_HALF_OPEN = HALF_OPEN
_OUT, _FAILED, _LEG_EVENTS = EPOLLOUT, EPOLLERR | EPOLLHUP, LEG_EVENTS


class Held(Handler):
    """A client that waits, and the origin's leg being dialled for it.

    It waits as a SYN, or, where clients are accepted first, as the socket ``client``.
    """

    __slots__ = ("client", "deadline", "events", "fd", "key", "owner", "released", "session", "syn")

    def __init__(
        self, owner: Transparent, syn: bytes, fd: int, session: Session, client: int, deadline: float
    ) -> None:
        self.owner = owner
        self.key = session.endpoints
        self.syn = syn  # empty where there is a client
        self.client = client  # a descriptor, or _NONE
        self.fd = fd
        self.session = session
        self.deadline = deadline  # of the dial, then of the handshake; monotonic
        self.released = False
        self.events = 0  # of the origin's leg, which is edge-triggered: they come once

    def on_event(self, events: int) -> None:
        """The dial's outcome; once released, what the origin says waits for the pairing."""
        self.events |= events
        if not self.released and events & (_OUT | _FAILED):
            self.owner.dialled(self, bool(events & _FAILED))

    def abandon(self) -> None:
        """Out of memory, or a fault."""
        self.owner.give_up(self, Failure.MEMORY)

    def kill(self, session: object, reason: str) -> bool:
        """The client is told that it may not, as by a rule."""
        return session is self.session and self.owner.give_up(self, Failure.DENIED)


class _Sessions(Registry):
    """The end of a relayed session: out of the tables, into the log."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.four_tuples: set[bytes] = set()  # of clients that came by a prefix

    def opened(self, session: Session) -> None:
        if self.context.quotas is not None:
            self.context.quotas.opened(session)

    def ended(self, session: Session, reason: str) -> None:
        self.four_tuples.discard(session.endpoints)
        self.context.ended(session, reason)


class Transparent(Handler):
    """The TCP part of a worker: held SYNs, the listener, and the relayed sessions by four-tuple."""

    def __init__(self, context: Context, relay: RelayContext, listener: int) -> None:
        """``listener``: the descriptor of the worker's transparent listener."""
        self._context = context
        self._kernel: Kernel = context.kernel
        self._relay = relay
        self._listener = listener
        self._dial_timeout = 0
        self._max_half_open = 0
        self._max_half_open_per_client = 0
        # By four-tuple, in the order of their deadlines, so that those that are over stand in front.
        self.dialling: dict[bytes, Held] = {}
        self.released: dict[bytes, Held] = {}
        sessions = _Sessions(context)
        self.relayed = sessions.four_tuples
        relay.registry = sessions
        self._half_open: dict[bytes, int] = {}

    def configure(self) -> None:
        """Take up what the context was configured with."""
        proxy = self._context.config.proxy
        self._dial_timeout = proxy.timers.dial
        self._max_half_open = proxy.max_half_open
        self._max_half_open_per_client = proxy.max_half_open_per_client

    @property
    def half_open(self) -> int:
        """How many clients wait."""
        return len(self.dialling) + len(self.released)

    # -- from the TUN --------------------------------------------------------------------------

    def on_syn(self, packet: bytes) -> None:
        """A TCP packet of a client, from the TUN. Only pure SYNs are routed here."""
        context, octets = self._context, packet
        if not 60 <= len(packet) <= _MAX_SYN or octets[53] & 0x17 != 0x02:
            context.counters.malformed += 1
            return
        key = octets[8:44]
        if key in self.dialling:
            return
        if key in self.released or key in self.relayed:
            context.write(packet)
            return
        address, server = octets[8:24], octets[24:40]
        target = context.destination(server)
        if target is None:
            context.counters.malformed += 1
            return
        if context.arbiter.knows_devices and context.put_off(address, partial(self.on_syn, packet)):
            return
        failure = target.failure or self._admit(address)
        verdict = None
        name = context.arbiter.name_of(address, server, target.packed)
        if failure is None and context.arbiter.asks:
            verdict = self._judge(key, address, target, name)
            if not (verdict.allow or verdict.pending):
                failure = Failure.DENIED
        if failure is None:
            failure = self._dial(key, address, packet, target, _NONE, verdict, name)
        if failure is not None:
            self._refuse(packet, target, failure, name, verdict)

    def _admit(self, client: bytes) -> Failure | None:
        tally = self._context.tally
        waiting = len(self.dialling) + len(self.released)
        if waiting + tally.others(_HALF_OPEN) >= self._max_half_open:
            return Failure.HALF_OPEN
        if self._half_open.get(client, 0) >= self._max_half_open_per_client:
            return Failure.HALF_OPEN
        return self._context.admit(client)

    def _judge(self, key: bytes, address: bytes, target: Destination, name: str) -> Verdict:
        """What the policy says, as far as can be told before the client has said anything.

        ``name``: what it has asked the DNS for; empty where that is not known.
        """
        port = (key[34] << 8) | key[35]
        verdict: Verdict = self._context.arbiter.packet("tcp", address, target.packed, port, name or None)
        return verdict

    def _dial(
        self,
        key: bytes,
        address: bytes,
        syn: bytes,
        target: Destination,
        client: int,
        verdict: Verdict | None,
        name: str,
    ) -> Failure | None:
        context, octets = self._context, key
        port = (octets[34] << 8) | octets[35]
        if context.is_own(target.origin) and ("tcp", port) not in context.published:
            return Failure.DENIED  # the box itself is nobody's origin, but for what it publishes
        way = target.way
        fd = self._kernel.dial(target.packed, port, way.interface, way.source_for(address))
        if fd < 0:
            return failure_of(-fd)
        if fd + len(self.dialling) + len(self.released) + SPARE_DESCRIPTORS > context.descriptor_limit:
            # The kernel gives the lowest free number: none would be left to accept the client with.
            self._kernel.close(fd)
            return Failure.DESCRIPTORS
        session: Session | None = None
        try:
            session = context.open("tcp", key, target.origin, DIALLING)
            if name:
                session.name, session.named_by = name, "dns"
            if verdict is not None:
                session.rule = verdict.rule
            self._hold(Held(self, syn, fd, session, client, context.now + self._dial_timeout))
        except (OSError, MemoryError) as error:
            self._undo(key, fd, session)
            if isinstance(error, OSError):
                return failure_of(error.errno or 0)
            raise
        return None

    def _undo(self, key: bytes, fd: int, session: Session | None) -> None:
        """Nothing stays of a dial that came about by half."""
        held = self.dialling.pop(key, None)
        if held is not None:
            self._context.ignore(fd)
        self._kernel.close(fd)
        if session is not None:
            self._context.drop(session)

    def give_up(self, held: Held, failure: Failure) -> bool:
        """A client that waits will get nothing; False where it does not wait any more."""
        if held.key not in self.dialling and held.key not in self.released:
            return False
        self._drop(held, failure)
        return True

    def _hold(self, held: Held) -> None:
        self._context.watch(held.fd, held, _LEG_EVENTS)
        (self.released if held.released else self.dialling)[held.key] = held
        client = held.session.client
        self._half_open[client] = self._half_open.get(client, 0) + 1
        self._context.tally.tell(_HALF_OPEN, len(self.dialling) + len(self.released))

    def _refuse(
        self, syn: bytes, target: Destination, failure: Failure, name: str, verdict: Verdict | None = None
    ) -> None:
        context = self._context
        port = int.from_bytes(syn[42:44], "big")
        rule = verdict.rule if verdict is not None and failure is Failure.DENIED else ""
        context.refused("tcp", syn[8:24], target.origin, port, failure, rule, name)
        if WIRE[failure].icmpv6 is None:
            context.write(tcp_reset(syn))
        else:
            context.answer_error(failure, syn)

    # -- the dial ------------------------------------------------------------------------------

    def dialled(self, held: Held, failed: bool) -> None:
        """connect() has ended, well or not."""
        code = self._kernel.error_of(held.fd) if failed else 0
        if code:
            self._drop(held, failure_of(code))
            return
        context = self._context
        samples = context.counters.dial_ms
        if len(samples) >= DIAL_SAMPLES:
            del samples[: DIAL_SAMPLES // 2]
        samples.append((context.now - held.session.started) * 1000)
        if held.client != _NONE:
            self._pair(held, held.client)
            return
        held.released = True
        held.deadline = context.now + ACCEPT_TIMEOUT
        del self.dialling[held.key]
        self.released[held.key] = held
        context.write(held.syn)

    def every_second(self) -> None:
        """Give up dials and handshakes that take too long."""
        now = self._context.now
        for waiting in (self.dialling, self.released):
            while waiting:
                held = next(iter(waiting.values()))
                if held.deadline > now:
                    break
                self._drop(held, Failure.TIMEOUT)

    def _drop(self, held: Held, failure: Failure) -> None:
        context = self._context
        self._forget(held)
        self._kernel.reset_on_close(held.fd)
        context.bury(held.fd)
        target = context.destination(held.key[16:32])
        if held.client == _NONE and not held.released and target is not None:
            context.drop(held.session)  # the line about the refusal says it all
            self._refuse(held.syn, target, failure, held.session.name)
            return
        context.ended(held.session, failure.value)
        if held.client != _NONE:
            self._kernel.reset_on_close(held.client)
            self._kernel.close(held.client)
            context.counters.count(failure)

    def _forget(self, held: Held) -> None:
        del (self.released if held.released else self.dialling)[held.key]
        self._context.tally.tell(_HALF_OPEN, len(self.dialling) + len(self.released))
        client = held.session.client
        left = self._half_open[client] - 1
        if left:
            self._half_open[client] = left
        else:
            del self._half_open[client]

    # -- from one worker to the next -------------------------------------------------------------

    def hand_over(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The held SYNs and their descriptors, as ``adopt`` of another worker takes them; here they go."""
        for held in [*self.dialling.values(), *self.released.values()]:
            session = held.session
            if held.client != _NONE:
                continue  # it stays, and is served to its end here
            yield (
                {
                    "kind": "held",
                    "syn": held.syn.hex(),
                    "released": held.released,
                    "origin": session.origin,
                    **session.heirloom(),
                },
                held.fd,
            )
            self._forget(held)
            self._context.ignore(held.fd)
            self._context.bury(held.fd)
            self._context.drop(session)

    def adopt(self, entry: dict[str, Any], fd: int) -> None:
        """Take a held SYN over."""
        context = self._context
        self._kernel.adopt(fd)
        syn = bytes.fromhex(entry["syn"])
        key = syn[8:44]
        if key in self.dialling or key in self.released or key in self.relayed:
            self._kernel.close(fd)  # the client has gone on with us already
            return
        session = context.open("tcp", key, entry["origin"], DIALLING, entry["started"])
        session.inherit(entry)
        wait = ACCEPT_TIMEOUT if entry["released"] else self._dial_timeout
        held = Held(self, syn, fd, session, _NONE, context.now + wait)
        held.released = entry["released"]
        self._hold(held)

    # -- the listener --------------------------------------------------------------------------

    def on_event(self, events: int) -> None:
        """New sockets on the transparent listener."""
        kernel = self._kernel
        for _ in range(MAX_ACCEPTS):
            fd = kernel.accept(self._listener)
            if fd < 0:
                if -fd not in (EMFILE, ENFILE) or not self._shed():
                    return
                continue
            key = kernel.endpoints
            held = self.released.get(key)
            if held is not None:
                self._pair(held, fd)
            else:
                # As the firewall says, which is told before us: with ``accept_first`` no SYN is held.
                self._accepted_first(key, fd)

    def _accepted_first(self, key: bytes, fd: int) -> None:
        """A client whose SYN was not held: dial, and reset it where that fails."""
        context = self._context
        earlier = self.dialling.get(key)
        if earlier is not None:
            if earlier.client == _NONE:
                # An old SYN-ACK of ours was answered after all, while the origin is asked anew.
                earlier.client = fd
                return
            self._drop(earlier, Failure.RESET)  # the client has reset that connection, and begun another
        octets = key
        address, server = octets[:16], octets[16:32]
        if context.arbiter.knows_devices and context.put_off(address, partial(self._accepted_first, key, fd)):
            return
        target = context.destination(server)
        failure = Failure.DENIED if target is None else target.failure or self._admit(address)
        rule = ""
        if failure is None and target is not None:
            name = context.arbiter.name_of(address, server, target.packed)
            verdict = self._judge(key, address, target, name) if context.arbiter.asks else None
            if verdict is not None and not (verdict.allow or verdict.pending):
                failure, rule = Failure.DENIED, verdict.rule
            else:
                failure = self._dial(key, address, b"", target, fd, verdict, name)
        if failure is not None:
            origin = target.origin if target is not None else ""
            context.refused("tcp", address, origin, int.from_bytes(key[34:36], "big"), failure, rule)
            self._kernel.reset_on_close(fd)
            self._kernel.close(fd)

    def _shed(self) -> bool:
        """Without a descriptor to accept with, the spare one serves to reset what waits.

        Left in the queue, it would wake the worker for ever. False where there is nothing to shed.
        """
        context, kernel = self._context, self._kernel
        if not context.release_spare():
            return False
        fd = kernel.accept(self._listener)
        if fd >= 0:
            kernel.reset_on_close(fd)
            kernel.close(fd)
        context.take_spare()
        if fd < 0:
            return False
        held = self.released.get(kernel.endpoints)
        if held is not None:
            self._drop(held, Failure.DESCRIPTORS)
            context.counters.count(Failure.DESCRIPTORS)
        return True

    def _pair(self, held: Held, fd: int) -> None:
        context = self._context
        self._forget(held)
        session = held.session
        named = session.server_port in NAMED_PORTS
        if named or (context.arbiter.asks and not session.name):
            target = context.destination(held.key[16:32])
            if target is not None and (named or self._judge(held.key, session.client, target, "").pending):
                Listening(context, self._relay, session, target, fd, held.fd, self.relayed)
                return
        session.state = OPEN
        context.counters.opened += 1
        try:
            client, origin = join(self._relay, fd, held.fd, session)
            self.relayed.add(held.key)
            context.hand_to(origin.fd, origin)
        except MemoryError:
            self._relay.legs.pop(session.number, None)
            self.relayed.discard(held.key)
            for end in (fd, held.fd):
                self._kernel.reset_on_close(end)
                context.bury(end)
            context.ended(session, Failure.MEMORY.value)
            raise
        try:
            context.watch(fd, client, _LEG_EVENTS)
        except OSError:
            client.abort(Failure.RESOURCES.value)
            return
        origin.on_event(held.events & ~_OUT)  # what was reported before there were legs
