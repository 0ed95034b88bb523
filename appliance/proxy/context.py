"""What the parts of one worker share: its loop, its TUN, its prefixes, its limits and its counters."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from mmap import mmap
from socket import AF_INET, IPPROTO_IP, SOL_SOCKET, inet_ntop, socket
from typing import Any, Protocol
from zlib import crc32

from appliance.addressing import TranslationPrefix
from appliance.config.schema import Config
from appliance.dataplane import MARK_WAN
from appliance.errors import CAPS, SHORTAGES, WIRE, Failure
from appliance.host import is_own_address
from appliance.policy.forbidden import is_metadata
from appliance.protocol.packet import icmpv6_error
from appliance.proxy.arbiter import Arbiter
from appliance.proxy.batch import send_packet
from appliance.proxy.kernel import Kernel
from appliance.proxy.loop import Handler, Loop
from appliance.proxy.tally import NEW, SECOND, SESSIONS, Tally
from appliance.proxy.timers import Timers
from appliance.session.log import Log
from appliance.session.record import Session, address_text

# ICMPv6 errors a worker sends each second (RFC 4443 section 2.4 (f)): enough for a busy LAN, too few
# to make the box an amplifier of somebody's scan.
MAX_ERRORS_PER_SECOND = 1_000
# Destinations whose translation is remembered; the oldest half goes when it is full.
MAX_DESTINATIONS = 16_384
# Seconds for which a limit that was hit counts as a matter of now.
RECENT = 60.0
# Octets of address space that are given back when memory runs out, so that what has to be done about it can
# be done. They are never touched, so they cost nothing. Python takes memory by the mebibyte.
BALLAST = 4 << 20
# Of the sessions that there were when memory ran out, so many sixteenths are allowed until it is there again.
# What ended sessions leave serves new ones, but Python seldom gives it back to the system.
SIXTEENTHS = 15
NO_CAP = 1 << 62
# Packets and connections that wait until it is known whose device their client is, and seconds between two
# looks. More would be memory for whoever makes up addresses; those beyond are judged as nobody's.
MAX_PUT_OFF = 256
LOOK_AGAIN = 0.005

_SESSIONS, _NEW, _SECOND = SESSIONS, NEW, SECOND

_SO_BINDTODEVICE = 25
_SO_MARK = 36
_IP_BIND_ADDRESS_NO_PORT = 24


class Limits(Protocol):
    """What is limited by client, user and device (``proxy.quotas``)."""

    refused_by: str

    def admit(self, client: bytes, user: str) -> bool:
        """Whether one more session is within all limits."""

    def passes(self, session: Session, to_wan: bool, size: int) -> bool:
        """Whether a datagram is within the rates."""

    def opened(self, session: Session) -> None:
        """A session is carried by its legs, its streams, or as datagrams."""

    def ended(self, session: Session) -> None:
        """A session is over."""


class Counters:
    """Totals of one worker since it started."""

    def __init__(self) -> None:
        self.opened = 0
        self.refused = 0
        self.unreachable = 0
        self.denied = 0
        self.limited = 0
        self.limits: dict[str, int] = {}  # of those, by the limit's name
        self.malformed = 0
        self.to_wan = 0
        self.to_lan = 0
        self.dial_ms: list[float] = []

    def count(self, failure: Failure) -> None:
        """Book a session that did not come about."""
        if failure is Failure.REFUSED or failure is Failure.PORT_UNREACHABLE:
            self.refused += 1
        elif failure is Failure.DENIED or failure is Failure.NON_GLOBAL:
            self.denied += 1
        elif failure in CAPS or failure in SHORTAGES:
            self.limited += 1
            self.limits[failure.value] = self.limits.get(failure.value, 0) + 1
        else:
            self.unreachable += 1


class Way:
    """A translation prefix with what its sessions leave the box by, compiled from the configuration.

    ``interface`` and ``sources`` (packed IPv4 addresses) are empty where the routes decide.
    """

    def __init__(
        self,
        prefix: TranslationPrefix,
        networks: tuple[IPv4Network, ...],
        interface: bytes,
        sources: tuple[bytes, ...],
    ) -> None:
        self.prefix = prefix
        self.networks = networks
        self.interface = interface
        self.sources = sources
        self.place = prefix.network.network_address.packed  # tells one way from another

    def may_carry(self, address: IPv4Address) -> Failure | None:
        """Why ``address`` is not reached by this prefix, or None."""
        if not self.prefix.may_carry(address):
            return Failure.NON_GLOBAL
        if self.networks and not any(address in network for network in self.networks):
            return Failure.NO_ROUTE
        return None

    def source_for(self, client: bytes) -> bytes:
        """The packed source address of a client's sessions, or nothing.

        By the client's address alone, so that it keeps its source over sessions and restarts.
        """
        return self.sources[crc32(client) % len(self.sources)] if self.sources else b""

    def bind(self, sock: socket, client: bytes) -> None:
        """Let ``sock`` leave this way; OSError where an interface or an address is not there."""
        sock.setsockopt(SOL_SOCKET, _SO_MARK, MARK_WAN)
        if self.interface:
            sock.setsockopt(SOL_SOCKET, _SO_BINDTODEVICE, self.interface)
        if self.sources:
            sock.setsockopt(IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((inet_ntop(AF_INET, self.source_for(client)), 0))


class Destination:
    """Where a packet to an IPv4-embedded address goes: ``origin`` as text, or why it may not go."""

    def __init__(self, origin: str, packed: bytes, way: Way, failure: Failure | None) -> None:
        self.origin = origin
        self.packed = packed
        self.way = way
        self.failure = failure


class Context(Loop):
    """One worker's shared state. Not a place for behaviour: that is in transparent, datagram, relay."""

    def __init__(self, kernel: Kernel, config: Config, tun: int, recorder: Log, tally: Tally) -> None:
        super().__init__(kernel)
        self.config = config
        self.ways: tuple[Way, ...] = ()
        self.tally = tally
        self.published: set[tuple[str, int]] = set()  # protocols and ports that lead back to the LAN
        self.tun = tun
        self.raw = -1  # a raw socket to the LAN, once the worker has one
        self.arbiter = Arbiter()
        self.quotas: Limits | None = None  # while there are limits
        self.counters = Counters()
        self.timers = Timers(int(self.now))
        self.recorder = recorder
        self.sessions: dict[int, Session] = {}
        self.by_client: dict[bytes, int] = {}
        # By a session's number, where it has no legs: the sockets of its two streams, for who paces them.
        self.streams: dict[int, tuple[int, int]] = {}
        # Ends of connections whose last answer is not out yet, though its session is over.
        self.unsent: set[object] = set()
        self._put_off = 0  # packets that wait until it is known whose they are
        self._numbers = 0
        self._destinations: dict[bytes, Destination | None] = {}
        self._errors_left = MAX_ERRORS_PER_SECOND
        self._spare = -1
        self.take_spare()
        self._ballast: mmap | None = None
        self._take_ballast()
        self._memory_for = NO_CAP  # sessions, while memory is short
        self.descriptor_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._own: dict[str, bool] = {}
        self.descriptors = 0  # sessions that this worker has descriptors for
        self.max_sessions = 0
        self.max_sessions_per_client = 0
        self.max_new = 0
        self.max_new_per_client = 0
        self._new_sessions: dict[bytes, int] = {}  # by client, in this second
        self._new_in_all = 0
        self._second = int(self.now)  # that they are of
        self._limits_seen: dict[str, int] = {}
        self._limit_hit: dict[str, float] = {}  # when, by the limit's name
        self._limited: set[bytes] = set()  # clients whose limit was logged in this second

    def configure(self, config: Config, descriptors: int) -> None:
        """Take a configuration up. ``descriptors``: for so many sessions they suffice."""
        self.config = config
        self.ways = tuple(
            Way(
                TranslationPrefix(entry.prefix),
                entry.networks,
                (entry.interface or "").encode(),
                tuple(address.packed for address in entry.sources),
            )
            for entry in config.translation
        )
        self.descriptors = descriptors
        self.max_sessions = config.proxy.max_sessions
        self.max_sessions_per_client = config.proxy.max_sessions_per_client
        self.max_new = config.proxy.max_new
        self.max_new_per_client = config.proxy.max_new_per_client
        self.published = {(service.protocol, service.port) for service in config.published}
        self._destinations.clear()
        self.arbiter.configure(config)

    # -- descriptors ---------------------------------------------------------------------------

    def release_spare(self) -> bool:
        """Give the descriptor kept for bad times back to the system; False where it is not there."""
        if self._spare < 0:
            return False
        os.close(self._spare)
        self._spare = -1
        return True

    def take_spare(self) -> None:
        """Keep a descriptor for bad times (again)."""
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._spare = -1  # every_second tries again

    # -- memory --------------------------------------------------------------------------------

    def _take_ballast(self) -> None:
        try:
            self._ballast = mmap(-1, BALLAST)
            self._memory_for = NO_CAP
        except (OSError, MemoryError):
            self._ballast = None  # every_second tries again

    def out_of_memory(self, handler: Handler) -> None:
        """One handler ran out of memory: its session is reset, and no more are taken than there were.

        A session whose octets were on their way cannot be told from one that lost some: it must not go on.
        """
        self._ballast = None
        self._memory_for = min(self._memory_for, len(self.sessions) * SIXTEENTHS >> 4)
        try:
            self.counters.count(Failure.MEMORY)
            handler.abandon()
        except MemoryError:
            pass  # not even that; the peer's next packet, or the sweep of idle sessions, ends it

    # -- the TUN -------------------------------------------------------------------------------

    def write(self, packet: bytes) -> None:
        """Send a packet to a client through the TUN; a full queue drops it, as a network may.

        Without a TUN it goes by the raw socket, which no SYN that is released could.
        """
        if self.tun < 0:
            send_packet(self.raw, packet[24:40], packet)
        elif self.kernel.write_packet(self.tun, packet) < 0:
            self.counters.malformed += 1

    def answer_error(self, failure: Failure, offending: bytes, mtu: int = 0) -> None:
        """The ICMPv6 error of the failure table for ``offending``, within the rate limit."""
        kind = WIRE[failure].icmpv6
        if kind is not None and self.may_send_error():
            self.write(icmpv6_error(offending[24:40], kind[0], kind[1], offending, mtu))

    def may_send_error(self) -> bool:
        """Take one from this second's allowance of ICMPv6 errors."""
        if self._errors_left <= 0:
            return False
        self._errors_left -= 1
        return True

    def every_second(self) -> None:
        """Renew what is allowed by the second, and run the timers."""
        if self._ballast is None:
            self._take_ballast()
        for reason, count in self.counters.limits.items():
            if self._limits_seen.get(reason) != count:
                self._limits_seen[reason] = count
                self._limit_hit[reason] = self.now
        self.arbiter.every_second()
        self._errors_left = MAX_ERRORS_PER_SECOND
        self._new_sessions.clear()
        self._new_in_all = 0
        self._second = int(self.now)
        self.tally.tell(_NEW, 0)
        self.tally.tell(_SECOND, self._second)
        self._limited.clear()
        self._own.clear()
        if self._spare < 0:
            self.take_spare()
        self.descriptor_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.timers.advance(int(self.now))

    def limits(self) -> list[dict[str, Any]]:
        """The limits that were hit: name, how often, whether within RECENT seconds."""
        return [
            {
                "reason": reason,
                "count": count,
                "recent": self._limit_hit.get(reason, self.now) > self.now - RECENT,
            }
            for reason, count in self.counters.limits.items()
        ]

    # -- destinations --------------------------------------------------------------------------

    def destination(self, server: bytes) -> Destination | None:
        """What the IPv6 address ``server`` (16 octets) stands for; None outside every prefix."""
        try:
            return self._destinations[server]
        except KeyError:
            pass
        if len(self._destinations) >= MAX_DESTINATIONS:
            for old in list(self._destinations)[: MAX_DESTINATIONS // 2]:
                del self._destinations[old]
        found: Destination | None = None
        for way in self.ways:
            packed = way.prefix.extract_packed(server)
            if packed is not None:
                failure = way.may_carry(IPv4Address(packed))
                if failure is None and is_metadata(packed):
                    failure = Failure.DENIED
                found = Destination(inet_ntop(AF_INET, packed), packed, way, failure)
                break
        self._destinations[server] = found
        return found

    def is_own(self, origin: str) -> bool:
        """True where ``origin`` (IPv4 or IPv6) is an address of this box.

        Remembered for the second: an address does not come and go between two sessions.
        """
        known = self._own.get(origin)
        if known is None:
            known = self._own[origin] = is_own_address(origin)
        return known

    # -- sessions ------------------------------------------------------------------------------

    def admit(self, client: bytes, user: str = "") -> Failure | None:
        """Whether one more session of ``client`` (16 octets) is within the limits; it is counted as tried.

        ``user``: who it has said it is.
        """
        tried = self._new_sessions.get(client, 0)
        tally = self.tally
        others = tally.others_new(self._second)
        if tried >= self.max_new_per_client or self._new_in_all + others >= self.max_new:
            return Failure.RATE
        open_here = len(self.sessions)
        if open_here >= self._memory_for:
            return Failure.MEMORY
        self._new_sessions[client] = tried + 1
        self._new_in_all += 1
        tally.tell(_NEW, self._new_in_all)
        if open_here >= self.descriptors or open_here + tally.others(_SESSIONS) >= self.max_sessions:
            return Failure.SESSIONS
        if self.by_client.get(client, 0) >= self.max_sessions_per_client:
            return Failure.SESSIONS
        if self.quotas is not None and not self.quotas.admit(client, user):
            return Failure.LIMIT
        return None

    def refused(
        self,
        kind: str,
        client: bytes,
        origin: str,
        port: int,
        failure: Failure,
        rule: str = "",
        name: str = "",
        user: str = "",
        service: str = "",
        reference: str = "",
    ) -> None:
        """Count and log what did not come about; a client over its limit fills no disk by it.

        ``rule``: which one denied it; ``name``: what the client asked for, where that is known; ``user`` and
        ``service``: who it is, and by which listener it came; ``reference``: of the denial.
        """
        self.counters.count(failure)
        if failure in CAPS:
            if client in self._limited:
                return
            self._limited.add(client)
        entry: dict[str, Any] = {
            "kind": kind,
            "refused": failure.value,
            "client": address_text(client),
            "origin": origin,
            "origin_port": port,
        }
        if failure is Failure.LIMIT and self.quotas is not None:
            rule = self.quotas.refused_by
        if name:
            entry["name"] = name
        if user:
            entry["user"] = user
        if service:
            entry["service"] = service
        if self.arbiter.knows_devices and (device := self.arbiter.device_of(client)):
            entry["device"] = device
        if rule:
            entry["rule"] = rule
            if self.arbiter.asks and failure is Failure.DENIED:
                self.arbiter.hit(rule, name or origin)
        if reference:
            entry["reference"] = reference
        self.recorder.refused(entry)

    def open(
        self, kind: str, endpoints: bytes, origin: str, state: str, started: float | None = None
    ) -> Session:
        """A new record in the table; ``started`` where it was taken over."""
        self._numbers += 1
        session = Session(
            self._numbers, kind, endpoints, origin, self.now if started is None else started, state
        )
        self.sessions[session.number] = session
        self.tally.tell(_SESSIONS, len(self.sessions))
        client = session.client
        if self.arbiter.knows_devices:
            session.device = self.arbiter.device_of(client)
        self.by_client[client] = self.by_client.get(client, 0) + 1
        return session

    def carried_by(self, session: Session, client: int, origin: int) -> None:
        """These two sockets carry a session that has no legs: it is paced by them, as others by theirs."""
        self.streams[session.number] = client, origin
        if self.quotas is not None:
            self.quotas.opened(session)

    def put_off(self, client: bytes, again: Callable[[], object]) -> bool:
        """Have ``again`` called in a moment, where it is about to be known whose device the client is.

        False where it is not, or too many wait: what they bring is judged as it is known.
        """
        if self._put_off >= MAX_PUT_OFF or not self.arbiter.awaits_device(client):
            return False
        self._put_off += 1

        def now() -> None:
            self._put_off -= 1
            again()

        self.at(LOOK_AGAIN, now)
        return True

    def within_rate(self, session: Session, to_wan: bool, size: int) -> bool:
        """Whether a datagram of a session that has a ``rate`` may pass; else it is lost."""
        return self.quotas is None or self.quotas.passes(session, to_wan, size)

    def drop(self, session: Session) -> bool:
        """Take a session out of the table without a line in the log: another worker goes on with it."""
        if self.sessions.pop(session.number, None) is None:
            return False
        self.tally.tell(_SESSIONS, len(self.sessions))
        left = self.by_client[session.client] - 1
        if left:
            self.by_client[session.client] = left
        else:
            del self.by_client[session.client]
        return True

    def ended(self, session: Session, reason: str) -> None:
        """Take a session out of the table and into the log."""
        if not self.drop(session):
            return
        if self.quotas is not None:
            self.quotas.ended(session)
        if self.streams:
            self.streams.pop(session.number, None)
        self.counters.to_wan += session.to_wan
        self.counters.to_lan += session.to_lan
        if self.arbiter.asks:
            self.arbiter.hit(session.rule, session.name)
        self.recorder.ended(session, reason, self.now)
