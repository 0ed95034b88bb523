"""Published services over UDP: a socket for each service, a connected one for each client's session."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from socket import (
    AF_INET6,
    IPPROTO_IP,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    inet_aton,
    inet_ntoa,
    inet_pton,
    socket,
)
from typing import Any

from appliance.addressing import TranslationPrefix
from appliance.config.rules import DEFAULT_RULE
from appliance.config.schema import Config, Published
from appliance.errors import SHORTAGES, Failure, failure_of
from appliance.proxy.context import Context
from appliance.proxy.loop import Handler
from appliance.proxy.published import Place, bind_as_client, open_service, place_of, steer
from appliance.proxy.relay import EPOLLIN
from appliance.proxy.targets import Target, Targets
from appliance.session.record import MAPPED, OPEN, Session

MAX_DATAGRAMS = 32
MAX_DATAGRAM = 65_536
_IP_PKTINFO = 8
# struct in_pktinfo: interface, the local address, the destination address of the header.
_PKTINFO = struct.Struct("=I4s4s")


class Service(Handler):
    """A service's socket on the WAN."""

    def __init__(self, owner: PublishedUdp, settings: Published) -> None:
        self._owner = owner
        self.settings = settings
        self.sock = open_service(settings, SOCK_DGRAM)
        self.sock.setsockopt(IPPROTO_IP, _IP_PKTINFO, 1)

    def on_event(self, _events: int) -> None:
        """Datagrams of clients."""
        for _ in range(MAX_DATAGRAMS):
            try:
                data, control, _flags, peer = self.sock.recvmsg(MAX_DATAGRAM, 64)
            except OSError:
                return
            for level, kind, value in control:
                if level == IPPROTO_IP and kind == _IP_PKTINFO:
                    _index, _local, own = _PKTINFO.unpack_from(value)
                    self._owner.from_client(self, data, peer, own)

    def answer(self, data: bytes, own: bytes, peer: tuple[str, int]) -> None:
        """A datagram to a client, from the address that it wrote to."""
        info = _PKTINFO.pack(0, own, b"\0\0\0\0")
        try:
            self.sock.sendmsg([data], [(IPPROTO_IP, _IP_PKTINFO, info)], 0, peer)
        except OSError:
            return  # lost, as on any network


class Flow(Handler):
    """A client's session with a service."""

    __slots__ = ("key", "last", "own", "owner", "peer", "service", "session", "sock", "target")

    def __init__(
        self,
        owner: PublishedUdp,
        key: bytes,
        service: Service,
        target: Target,
        sock: socket,
        session: Session,
    ) -> None:
        self.owner = owner
        self.key = key
        self.service = service
        self.target = target
        self.sock = sock
        self.session = session
        self.own = session.server[12:]
        self.peer = (inet_ntoa(session.client[12:]), session.client_port)
        self.last = session.started

    def on_event(self, _events: int) -> None:
        """Answers of the target, or an error about what was sent to it."""
        self.owner.answers(self)

    def kill(self, session: object, reason: str) -> bool:
        """End it, where it is this one; the client's next datagram begins another."""
        if session is not self.session:
            return False
        self.owner.end(self, reason)
        return True


class PublishedUdp:
    """The published UDP services of a worker."""

    def __init__(self, context: Context, targets: Targets) -> None:
        self._context = context
        self._targets = targets
        self._services: dict[Place, Service] = {}
        self._by_name: dict[str, Service] = {}
        self._client_prefix: TranslationPrefix | None = None
        self._flows: dict[bytes, Flow] = {}
        self.problems: list[str] = []

    def configure(self, config: Config, workers: int) -> None:
        """Sockets that stay are left alone; flows of a service or a target that is gone end."""
        revealing = config.lan.client_prefix
        self._client_prefix = None if revealing is None else TranslationPrefix(revealing)
        wanted = {place_of(one): one for one in config.published if one.protocol == "udp"}
        self.problems.clear()
        for place in self._services.keys() - wanted.keys():
            self._close(self._services.pop(place))
        for place, settings in wanted.items():
            service = self._services.get(place)
            try:
                if service is not None:
                    self._configure(service, settings)
                else:
                    service = Service(self, settings)
                    self._services[place] = service
                    self._context.watch(service.sock.fileno(), service, EPOLLIN)
                steer(service.sock.fileno(), workers)
            except OSError as error:
                self.problems.append(
                    f"Service “{settings.name}”: udp port {settings.port} cannot be opened: {error.strerror}."
                )
        self._by_name = {service.settings.name: service for service in self._services.values()}

    def _configure(self, service: Service, settings: Published) -> None:
        """Other targets, or another name, of the same place."""
        service.settings = settings
        for flow in [flow for flow in self._flows.values() if flow.service is service]:
            if f"[{flow.target.address}]:{flow.target.port}" not in settings.targets:
                self.end(flow, "target removed")

    def _close(self, service: Service) -> None:
        for flow in [flow for flow in self._flows.values() if flow.service is service]:
            self.end(flow, "service removed")
        self._context.ignore(service.sock.fileno())
        service.sock.close()

    # -- from the client -----------------------------------------------------------------------------

    def from_client(self, service: Service, data: bytes, peer: tuple[str, int], own: bytes) -> None:
        """A datagram on a service's socket."""
        client = inet_aton(peer[0])
        ports = struct.pack("!HH", peer[1], service.settings.port)
        key = client + own + ports
        flow = self._flows.get(key)
        if flow is None:
            flow = self._open(service, key, client, own, ports)
            if flow is None:
                return
        flow.last = self._context.now
        if flow.session.rate and not self._context.within_rate(flow.session, False, len(data)):
            return
        try:
            flow.sock.send(data)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(flow, failure_of(error.errno or 0))
            return
        flow.session.to_lan += len(data)

    def _open(self, service: Service, key: bytes, client: bytes, own: bytes, ports: bytes) -> Flow | None:
        context, settings = self._context, service.settings
        failure = context.admit(MAPPED + client)
        target = next(iter(self._targets.in_order("udp", settings.targets)), None)
        if target is None:
            return None  # the configuration has the service no more
        rule = DEFAULT_RULE
        if failure is None and context.arbiter.asks:
            address = inet_pton(AF_INET6, target.address)
            verdict = context.arbiter.published("udp", MAPPED + client, settings.port, "", address)
            rule = verdict.rule
            if not verdict.allow:
                context.refused(
                    "udp", MAPPED + client, f"service {settings.name}", settings.port, Failure.DENIED, rule
                )
                return None
        if failure is None:
            try:
                sock = self._connect(settings, target, client)
            except OSError as error:
                failure = failure_of(error.errno or 0)
                if failure not in SHORTAGES:
                    target.found(False, context.now)
        if failure is not None:
            context.refused("udp", MAPPED + client, f"service {settings.name}", settings.port, failure)
            return None
        session = context.open("udp", MAPPED + client + MAPPED + own + ports, target.address, OPEN)
        session.origin_port = target.port
        session.rule = rule
        session.service = settings.name
        context.counters.opened += 1
        if context.quotas is not None:
            context.quotas.opened(session)
        return self._enter(Flow(self, key, service, target, sock, session))

    def _connect(self, settings: Published, target: Target, client: bytes) -> socket:
        sock = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        try:
            if settings.reveal == "address" and self._client_prefix is not None:
                bind_as_client(sock, self._client_prefix, client)
            sock.connect((target.address, target.port))
        except OSError:
            sock.close()
            raise
        return sock

    def _enter(self, flow: Flow) -> Flow:
        context = self._context
        self._flows[flow.key] = flow
        context.watch(flow.sock.fileno(), flow, EPOLLIN)

        def idle(second: int) -> int:
            if self._flows.get(flow.key) is not flow:
                return 0
            left = int(flow.last) + context.config.proxy.timers.udp - second
            if left > 0:
                return second + left
            self.end(flow, "idle")
            return 0

        context.timers.add(int(flow.last) + context.config.proxy.timers.udp, idle)
        return flow

    # -- from the target -----------------------------------------------------------------------------

    def answers(self, flow: Flow) -> None:
        """Datagrams of a flow's target; the socket is connected, so nobody else's."""
        for _ in range(MAX_DATAGRAMS):
            try:
                data = flow.sock.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(flow, failure_of(error.errno or 0))
                return
            flow.last = self._context.now
            flow.target.found(True, flow.last)
            if flow.session.rate and not self._context.within_rate(flow.session, True, len(data)):
                continue
            flow.session.to_wan += len(data)
            flow.service.answer(data, flow.own, flow.peer)

    def _failed(self, flow: Flow, failure: Failure) -> None:
        """The target does not take datagrams: the client's next one opens a flow to another."""
        if failure in (Failure.REFUSED, Failure.HOST_UNREACHABLE, Failure.NO_ROUTE):
            flow.target.found(False, self._context.now)
        self.end(flow, failure.value)

    def end(self, flow: Flow, reason: str) -> None:
        """It is over; a second time nothing happens."""
        if self._flows.get(flow.key) is flow:
            del self._flows[flow.key]
            self._context.bury(flow.sock.fileno(), flow.sock)
            self._context.ended(flow.session, reason)

    # -- from one worker to the next -----------------------------------------------------------------

    def hand_over(self) -> Iterator[tuple[dict[str, Any], socket | None]]:
        """Every flow with its socket, as what ``adopt`` of another worker takes."""
        context = self._context
        for flow in self._flows.values():
            session = flow.session
            yield (
                {
                    "kind": "published",
                    "service": session.service,
                    "key": flow.key.hex(),
                    "target": f"[{flow.target.address}]:{flow.target.port}",
                    "last": flow.last,
                    **session.heirloom(),
                },
                flow.sock,
            )
            context.drop(session)
            context.ignore(flow.sock.fileno())
            context.bury(flow.sock.fileno(), flow.sock)
        self._flows.clear()
        for service in self._services.values():
            context.ignore(service.sock.fileno())
            service.sock.close()
        self._services.clear()

    def adopt(self, entry: dict[str, Any], sock: socket) -> None:
        """Take a flow over, where its service and its target are still published."""
        service = self._by_name.get(entry["service"])
        if service is None or entry["target"] not in service.settings.targets:
            sock.close()
            return
        (target, *_others) = self._targets.in_order("udp", [entry["target"]])
        key = bytes.fromhex(entry["key"])
        endpoints = MAPPED + key[:4] + MAPPED + key[4:8] + key[8:]
        session = self._context.open("udp", endpoints, target.address, OPEN, entry["started"])
        session.origin_port, session.service = target.port, service.settings.name
        session.inherit(entry)
        flow = Flow(self, key, service, target, sock, session)
        flow.last = entry["last"]
        self._enter(flow)
