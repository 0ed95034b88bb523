"""The dialler of named destinations: Happy Eyeballs (RFC 8305), the ways out, and what is never dialled."""

from __future__ import annotations

from collections.abc import Callable

from appliance.errors import Failure
from appliance.proxy.context import Context
from appliance.proxy.loop import Handler
from appliance.proxy.resolver import Resolver


class Dialled(Handler):
    """A connected socket: the one that won.

    ``fd`` is watched by the loop (LEG_EVENTS, edge-triggered), and until ``loop.hand_to`` gives it to its new
    owner, this object collects what is reported of it in ``events``. ``address``: packed, 4 or 16 octets, IPv4
    where an IPv6 literal embedded it; ``text``: the same to read.
    """

    __slots__ = ("address", "events", "fd", "text")

    def __init__(self, fd: int, address: bytes, text: str) -> None:
        self.fd = fd
        self.address = address
        self.text = text
        self.events = 0


Done = Callable[[Dialled | Failure], None]


class Dial:
    """A dial under way."""

    def cancel(self) -> None:
        """Give up: everything is closed (with reset), and nothing is reported. After the report: no effect."""


class Dialer:
    """Dials names and addresses for the clients of a worker."""

    def __init__(self, context: Context, resolver: Resolver) -> None: ...

    def configure(self) -> None:
        """Take up what the context was configured with."""

    def dial(self, client: bytes, own: bytes, host: str, port: int, done: Done) -> Dial:
        """Connect to ``host``: a name, an IPv4 or an IPv6 address, as ``protocol.names`` gives them.

        ``client`` and ``own`` are the two ends of the client's connection (16 octets, IPv4 as its mapped form):
        the client keeps its source address of a pool; the networks at ``own`` are the LAN, which is no origin.
        ``done`` is called exactly once, never before this returns. ``context.admit`` is the caller's to ask.
        """
        raise NotImplementedError
