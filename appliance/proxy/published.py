"""Published services over TCP: an IPv4 client of the WAN reaches an IPv6 server behind the box.

accepted --route = none------------------------> DIALLING
accepted --route = sni, host--> SNIFFING --name-> DIALLING --connected--> two legs
                                SNIFFING --no such name, malformed, too slow--> reset
                                                 DIALLING --failed--> the next target, or reset
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from errno import EAGAIN
from ipaddress import IPv4Address
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    SO_OOBINLINE,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    inet_pton,
    socket,
)
from typing import Any

from appliance.addressing import TranslationPrefix
from appliance.config.schema import Config, Published
from appliance.dataplane import MARK_WAN
from appliance.errors import SHORTAGES, Failure, failure_of
from appliance.policy.services import TargetsByName
from appliance.protocol.proxy_header import version_2
from appliance.protocol.sniff import MAX_HEAD, Sniff, http_host, server_name
from appliance.proxy.context import Context
from appliance.proxy.kernel import Kernel
from appliance.proxy.loop import Handler
from appliance.proxy.relay import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    LEG_EVENTS,
    RelayContext,
    relay_on,
)
from appliance.proxy.targets import Target, Targets
from appliance.session.record import DIALLING, OPEN, Session, address_text

# How long a client may take to say its name, and a target to answer before the next one is tried.
SNIFF_TIMEOUT = 10
TARGET_TIMEOUT = 3
LISTEN_BACKLOG = 4_096
MAX_ACCEPTS = 64

_SO_MARK = 36
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_IPV6_TRANSPARENT = 75
_SO_ATTACH_REUSEPORT_CBPF = 51
_NONE = -1  # no descriptor
Place = tuple[int, IPv4Address | None]

SOURCE_IPV4 = 0xFFF0000C  # SKF_NET_OFF and the offset of the source address in an IPv4 header


def steer(fd: int, workers: int, word: int = SOURCE_IPV4) -> None:
    """Let the kernel pick the socket of a reuseport group by a word of the client's address.

    So a client's sessions meet in one worker, and its caps hold over all of them. The program
    (linux/filter.h): load the word from the network header, modulo, return.
    """
    load, modulo, give = (0x20, 0, 0, word), (0x94, 0, 0, workers), (0x16, 0, 0, 0)
    code = b"".join(struct.pack("HBBI", *words) for words in (load, modulo, give))
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(code) // 8, ctypes.addressof(kept))
    sock = socket(fileno=fd)
    try:
        sock.setsockopt(SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
    finally:
        sock.detach()


def open_service(service: Published, kind: int) -> socket:
    """This worker's socket of a service; OSError where the port is not to be had."""
    sock = socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        sock.setsockopt(SOL_SOCKET, _SO_MARK, MARK_WAN)  # accepted sockets inherit it
        sock.setsockopt(IPPROTO_IP, _IP_FREEBIND, 1)  # an address that DHCP has yet to bring
        sock.bind((str(service.address or "0.0.0.0"), service.port))  # noqa: S104 - published is the point
    except OSError:
        sock.close()
        raise
    return sock


def place_of(service: Published) -> Place:
    """What its socket is bound to: while that stays, the socket does."""
    return service.port, service.address


def bind_as_client(sock: socket, prefix: TranslationPrefix, client: bytes) -> None:
    """Let the server see the client's IPv4 address inside ``prefix``; needs CAP_NET_RAW."""
    sock.setsockopt(IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    sock.setsockopt(IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    source = prefix.embed_packed(client)
    sock.bind((address_text(source), 0))


class Service(Handler):
    """One published service: its listener ``fd``, and where its names lead."""

    def __init__(self, owner: PublishedTcp, kernel: Kernel, settings: Published) -> None:
        self.settings = settings
        self._owner = owner
        self._kernel = kernel
        self.targets = TargetsByName(settings)
        with open_service(settings, SOCK_STREAM) as sock:
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # accepted sockets inherit these
            sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)
            sock.listen(LISTEN_BACKLOG)
            self.fd = sock.detach()
        kernel.adopt(self.fd)

    def configure(self, settings: Published) -> None:
        """Other targets, or another name, of the same place."""
        self.settings = settings
        self.targets = TargetsByName(settings)

    def on_event(self, events: int) -> None:
        """Clients wait."""
        for _ in range(MAX_ACCEPTS):
            fd = self._kernel.accept(self.fd)
            if fd < 0:
                return
            self._owner.take_up(self, fd, self._kernel.endpoints)


class Incoming(Handler):
    """A client between its accept and its target's answer. Handles both sockets' events."""

    __slots__ = ("client", "data", "over", "owner", "rest", "server", "service", "session", "target")

    def __init__(self, owner: PublishedTcp, service: Service, client: int, session: Session) -> None:
        self.owner = owner
        self.service = service
        self.client = client  # descriptors both
        self.server = _NONE
        self.session = session
        self.data = b""  # read of the client, for the server
        self.rest: list[Target] = []  # to be tried yet
        self.target: Target | None = None
        self.over = False

    def on_event(self, events: int) -> None:
        """Bytes of a client that is being sniffed, or the outcome of a dial."""
        if self.over:
            return
        if self.server == _NONE:
            self.owner.sniff(self)
        elif events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
            self.owner.dialled(self)

    def kill(self, session: object, reason: str) -> bool:
        """End it, where it is this one."""
        if session is not self.session or self.over:
            return False
        self.owner.give_up(self, Failure.DENIED)
        return True

    def sniff_deadline(self, _second: int) -> int:
        """A client that does not say where it wants to go."""
        if not self.over and self.server == _NONE:
            self.owner.give_up(self, Failure.TIMEOUT)
        return 0

    def dial_deadline(self, target: Target) -> Any:
        """A check for the timers: is ``target`` still being waited for?"""

        def check(_second: int) -> int:
            if not self.over and self.target is target and self.server != _NONE:
                self.owner.failed(self, Failure.TIMEOUT)
            return 0

        return check


class _Quiet(Handler):
    """The client's socket during the dial: what it says waits in the kernel until there are two legs."""

    def on_event(self, events: int) -> None:
        """Nothing yet."""


_QUIET = _Quiet()


class PublishedTcp:
    """The published TCP services of a worker."""

    def __init__(self, context: Context, relay: RelayContext, targets: Targets) -> None:
        self._context = context
        self._kernel = context.kernel
        self._relay = relay
        self._targets = targets
        self._services: dict[Place, Service] = {}
        self._client_prefix: TranslationPrefix | None = None
        self.waiting: set[Incoming] = set()
        self.problems: list[str] = []

    def configure(self, config: Config, workers: int) -> None:
        """Listeners that stay are left alone, so that nothing in their queues is lost."""
        revealing = config.lan.client_prefix
        self._client_prefix = None if revealing is None else TranslationPrefix(revealing)
        wanted = {place_of(one): one for one in config.published if one.protocol == "tcp"}
        self.problems.clear()
        for place in self._services.keys() - wanted.keys():
            self._close(self._services.pop(place))
        for place, settings in wanted.items():
            service = self._services.get(place)
            try:
                if service is not None:
                    service.configure(settings)
                else:
                    service = Service(self, self._kernel, settings)
                    self._services[place] = service
                    self._context.watch(service.fd, service, EPOLLIN)
                steer(service.fd, workers)
            except OSError as error:
                self.problems.append(
                    f"Service “{settings.name}”: tcp port {settings.port} cannot be opened: {error.strerror}."
                )

    def _close(self, service: Service) -> None:
        service.on_event(0)  # whose handshake is done is served yet
        self._context.ignore(service.fd)
        self._kernel.close(service.fd)

    def drain(self) -> None:
        """Take up nothing new."""
        for service in self._services.values():
            self._close(service)
        self._services.clear()

    # -- a new client ------------------------------------------------------------------------------

    def take_up(self, service: Service, client: int, endpoints: bytes) -> None:
        """An accepted connection; ``endpoints`` as of ``Kernel.accept``."""
        context, settings = self._context, service.settings
        address = endpoints[:16]
        failure = context.admit(address)
        if failure is None and client + 2 * len(self.waiting) + 16 > context.descriptor_limit:
            failure = Failure.DESCRIPTORS
        if failure is not None:
            context.refused("tcp", address, f"service {settings.name}", settings.port, failure)
            self._kernel.reset_on_close(client)
            self._kernel.close(client)
            return
        session = context.open("tcp", endpoints, "", DIALLING)
        session.service = settings.name
        incoming = Incoming(self, service, client, session)
        self.waiting.add(incoming)
        if settings.route == "none":
            context.watch(client, _QUIET, LEG_EVENTS)
            self._dial(incoming, settings.targets)
        else:
            context.watch(client, incoming, LEG_EVENTS)
            context.timers.add(int(context.now) + SNIFF_TIMEOUT, incoming.sniff_deadline)
            self.sniff(incoming)

    def sniff(self, incoming: Incoming) -> None:
        """Read until the name is known."""
        route = server_name if incoming.service.settings.route == "sni" else http_host
        while True:
            size = self._kernel.receive(incoming.client)
            if size < 0:
                if size != -EAGAIN:
                    self.give_up(incoming, Failure.RESET)
                return
            incoming.data += self._kernel.received(0, size)
            found = route(incoming.data)
            if found is not Sniff.MORE:
                break
            if not size or len(incoming.data) > 2 * MAX_HEAD:
                found = Sniff.BAD
                break
        if found is Sniff.BAD:
            self.give_up(incoming, Failure.DENIED)
            return
        name = found if isinstance(found, str) else ""
        if name:
            incoming.session.name, incoming.session.named_by = name, incoming.service.settings.route
        endpoints = incoming.service.targets.find(name)
        if not endpoints:
            self.give_up(incoming, Failure.DENIED)  # nothing is published under this name
            return
        self._context.hand_to(incoming.client, _QUIET)
        self._dial(incoming, endpoints)

    # -- the dial ----------------------------------------------------------------------------------

    def _dial(self, incoming: Incoming, endpoints: Iterable[str]) -> None:
        incoming.rest = self._targets.in_order("tcp", endpoints)
        self._next(incoming, Failure.REFUSED)

    def _next(self, incoming: Incoming, failure: Failure) -> None:
        """Try the targets that are left, or give up for the reason of the last one."""
        context, settings = self._context, incoming.service.settings
        source = b""
        if settings.reveal == "address" and self._client_prefix is not None:
            source = self._client_prefix.embed_packed(incoming.session.client[12:])
        while incoming.rest:
            target = incoming.rest.pop(0)
            address = inet_pton(AF_INET6, target.address)
            if not self._allows(incoming, address):
                failure = Failure.DENIED
                break
            server = self._kernel.dial(address, target.port, b"", source)
            if server < 0:
                failure = failure_of(-server)
                if failure in SHORTAGES:
                    break
                target.found(False, context.now)
                continue
            incoming.target, incoming.server = target, server
            incoming.session.origin, incoming.session.origin_port = target.address, target.port
            context.watch(server, incoming, LEG_EVENTS)
            context.timers.add(int(context.now) + TARGET_TIMEOUT, incoming.dial_deadline(target))
            return
        self.give_up(incoming, failure)

    def _allows(self, incoming: Incoming, address: bytes) -> bool:
        """Whether the policy lets this client reach the target at ``address``."""
        arbiter, session = self._context.arbiter, incoming.session
        if not arbiter.asks:
            return True
        name = session.name
        verdict = arbiter.published("tcp", session.client, incoming.service.settings.port, name, address)
        session.rule = verdict.rule
        return verdict.allow

    def failed(self, incoming: Incoming, failure: Failure) -> None:
        """The target of now does not answer: the next one."""
        server, target = incoming.server, incoming.target
        if server != _NONE and target is not None:
            target.found(False, self._context.now)
            self._kernel.reset_on_close(server)
            self._context.bury(server)
        incoming.server, incoming.target = _NONE, None
        self._next(incoming, failure)

    def dialled(self, incoming: Incoming) -> None:
        """connect() has ended, well or not."""
        server, target, session = incoming.server, incoming.target, incoming.session
        assert target is not None
        code = self._kernel.error_of(server)
        if code:
            self.failed(incoming, failure_of(code))
            return
        context = self._context
        target.found(True, context.now)
        incoming.over = True
        self.waiting.discard(incoming)
        session.state = OPEN
        context.counters.opened += 1
        header = b""
        if incoming.service.settings.reveal == "proxy-v2":
            ends = session.client[12:], session.client_port, session.server[12:], session.server_port
            header = version_2(*ends)
        data, incoming.data = header + incoming.data, b""
        relay_on(self._relay, server, incoming.client, session, to_lan=data)

    def give_up(self, incoming: Incoming, failure: Failure) -> None:
        """Reset the client, with the reason in the log."""
        context, session = self._context, incoming.session
        incoming.over = True
        self.waiting.discard(incoming)
        for fd in (incoming.client, incoming.server):
            if fd != _NONE:
                self._kernel.reset_on_close(fd)
                context.bury(fd)
        context.counters.count(failure)
        context.ended(session, failure.value)
