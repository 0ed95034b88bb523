"""The IPv6 servers behind published services: which of them answer, and who is to be asked next."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from errno import EINPROGRESS
from socket import AF_INET6, SO_ERROR, SO_LINGER, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, socket
from typing import Any

from appliance.config.schema import Config, Published, endpoint_of
from appliance.proxy.context import Context
from appliance.proxy.loop import Handler
from appliance.proxy.relay import EPOLLERR, EPOLLHUP, EPOLLOUT

# Seconds between two looks at a target, and how long it may take to answer one.
CHECK_INTERVAL = 5
CHECK_TIMEOUT = 2

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Target:
    """One endpoint. ``up`` is what the last look, or the last session, found."""

    __slots__ = ("address", "port", "since", "up")

    def __init__(self, endpoint: str, now: float) -> None:
        self.address, self.port = endpoint_of(endpoint)
        self.up = True  # until shown otherwise, so that nothing waits for the first look
        self.since = now

    def found(self, up: bool, now: float) -> None:
        """Book what a look or a dial found."""
        if up != self.up:
            self.up = up
            self.since = now


class Probe(Handler):
    """One look: a connection that is reset as soon as it stands."""

    __slots__ = ("_context", "_done", "_sock", "_target")

    def __init__(self, context: Context, target: Target) -> None:
        self._context = context
        self._target = target
        self._done = False
        try:
            self._sock = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        except OSError:
            return  # no descriptor to spare: that says nothing of the target
        code = self._sock.connect_ex((target.address, target.port))
        if code not in (0, EINPROGRESS):
            target.found(False, context.now)
            self._sock.close()
            return
        context.watch(self._sock.fileno(), self, EPOLLOUT)
        context.timers.add(int(context.now) + CHECK_TIMEOUT, self._deadline)

    def on_event(self, events: int) -> None:
        """The connection stands, or does not."""
        if events & (EPOLLOUT | EPOLLERR | EPOLLHUP) and not self._done:
            self._end(self._sock.getsockopt(SOL_SOCKET, SO_ERROR) == 0)

    def _deadline(self, _second: int) -> int:
        if not self._done:
            self._end(False)
        return 0

    def _end(self, up: bool) -> None:
        self._done = True
        self._target.found(up, self._context.now)
        self._sock.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
        self._context.bury(self._sock.fileno(), self._sock)


class Targets:
    """All targets of the configuration, each once, looked at in turn."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._services: tuple[Published, ...] = ()
        self._by_endpoint: dict[tuple[str, str], Target] = {}
        context.timers.add(int(context.now) + 1, self._look)

    def configure(self, config: Config) -> None:
        """Take a configuration up; what is known of targets that stay is kept."""
        self._services = config.published
        wanted = [(s.protocol, e) for s in config.published for e in _endpoints(s)]
        known, now = self._by_endpoint, self._context.now
        self._by_endpoint = {key: known.get(key) or Target(key[1], now) for key in wanted}

    def in_order(self, protocol: str, endpoints: Iterable[str]) -> list[Target]:
        """The targets to try: those that answer in the configuration's order, then the others.

        None of what the configuration has no more: a client may have been taken up before that.
        """
        known = (self._by_endpoint.get((protocol, endpoint)) for endpoint in endpoints)
        found = [target for target in known if target is not None]
        return [t for t in found if t.up] + [t for t in found if not t.up]

    def _look(self, second: int) -> int:
        for (protocol, _endpoint), target in self._by_endpoint.items():
            if protocol == "tcp":
                Probe(self._context, target)
            elif not target.up and second - target.since >= CHECK_INTERVAL:
                target.found(True, self._context.now)  # a datagram cannot ask: the next session will see
        return second + CHECK_INTERVAL

    def describe(self) -> list[dict[str, Any]]:
        """The varlink type ``Target`` of org.isthmus.proxy, for each service's targets."""
        now = self._context.now
        out = []
        for service in self._services:
            for endpoint in dict.fromkeys(_endpoints(service)):
                target = self._by_endpoint[service.protocol, endpoint]
                out.append(
                    {
                        "service": service.name,
                        "target": endpoint,
                        "up": target.up,
                        "seconds": round(now - target.since, 1),
                    }
                )
        return out


def _endpoints(service: Published) -> list[str]:
    return [*service.targets, *(endpoint for named in service.names for endpoint in named.targets)]
