"""What all clients of the explicit proxy share: who they may be, where they may go, what answers them."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Protocol

from appliance.config.schema import Config, Listener
from appliance.errors import Failure
from appliance.policy.forbidden import unmapped
from appliance.protocol.http1 import Hop
from appliance.protocol.http1.request import Request
from appliance.protocol.pac import CONTENT_TYPE, Speaks, pac_file
from appliance.protocol.pac import Listener as PacListener
from appliance.proxy.access import Access
from appliance.proxy.arbiter import Judge
from appliance.proxy.context import Context
from appliance.proxy.dialer import Dialer
from appliance.proxy.pool import Key, Pool
from appliance.proxy.relay import RelayContext

AUTHORITY_PATH = b"/authority.crt"  # what a client has to trust for the encrypted listeners
PAC_PATHS = (b"/proxy.pac", b"/wpad.dat")
_SPEAKS = {
    ("http", True): Speaks.HTTPS,
    ("auto", True): Speaks.HTTPS,
    ("http", False): Speaks.HTTP,
    ("auto", False): Speaks.HTTP,
    ("socks", False): Speaks.SOCKS5,
}


class Terms:
    """A listener as its clients meet it: fields of the configuration's models take long to read."""

    __slots__ = (
        "asks_user",
        "by_certificate",
        "by_password",
        "mode",
        "name",
        "over",
        "pages_only",
        "port",
        "tls",
    )

    def __init__(self, listener: Listener, pages_only: bool = False) -> None:
        self.name = listener.name
        self.port = listener.port
        self.mode = listener.mode
        self.tls = listener.tls
        self.asks_user = bool(listener.authentication)
        self.by_certificate = "certificate" in listener.authentication
        # A password crosses the LAN in the clear only where the configuration says that it may.
        safe = listener.tls or listener.plaintext_passwords
        self.by_password = safe and "password" in listener.authentication
        self.over = False  # the listener is no more, or has other terms now
        self.pages_only = pages_only  # nothing is carried for its clients: they come for the PAC file


class Client:
    """Who is at the other end of a connection. ``endpoints`` as of ``Kernel.accept``."""

    __slots__ = ("endpoints", "terms", "user")

    def __init__(self, endpoints: bytes, terms: Terms) -> None:
        self.endpoints = endpoints
        self.terms = terms
        self.user = ""  # once it is known

    @property
    def address(self) -> bytes:
        """The client's address, 16 octets."""
        return self.endpoints[:16]

    @property
    def own(self) -> bytes:
        """The box's address that it connected to, 16 octets."""
        return self.endpoints[16:32]

    @property
    def listener(self) -> str:
        """The listener's name."""
        return self.terms.name


class Verifier(Protocol):
    """Says whether a password is a user's; elsewhere, since that takes long."""

    def verify(self, user: str, password: bytes, client: bytes, done: Callable[[bool], None]) -> None:
        """``client``: its address, for the lock-out. ``done`` may be called at once."""


class NobodyKnown:
    """The verifier where there are no users."""

    def verify(self, user: str, password: bytes, client: bytes, done: Callable[[bool], None]) -> None:
        """Nobody is anybody."""
        done(False)


class Gatekeeper:
    """The explicit proxy's part of a worker that its clients share."""

    def __init__(
        self, context: Context, relay: RelayContext, dialer: Dialer, verifier: Verifier, access: Access
    ) -> None:
        self.context = context
        self.relay = relay
        self.dialer = dialer
        self.verifier = verifier
        self.access = access
        self.pool = Pool(context)
        self.hop = Hop(None)
        self.hears_names = False  # whether it matters what name a client says inside its tunnel
        self.draining = False  # another worker has taken over: connections end after their next answer
        self._config: Config = context.config
        self._connect_ports: frozenset[int] = frozenset()
        self._socks_ports: frozenset[int] = frozenset()
        self._users: frozenset[str] = frozenset()
        self._authority = b""

    def configure(self, config: Config, certificates: Path) -> None:
        """Take a configuration up; exchanges go on. ``certificates``: the folder of the box's own."""
        try:
            self._authority = (certificates / "authority.crt").read_bytes()
        except OSError:
            self._authority = b""
        self._config = config
        self.dialer.configure()
        self.pool.empty()
        self.hop = Hop(config.explicit.pseudonym or None)
        # Each costs a tunnel the reading of its ClientHello: for the policy's sake, and the log's.
        self.hears_names = config.policy.privacy == "full" or self.context.arbiter.asks_names
        self._users = frozenset(user.name for user in config.user)
        # Each has a source address of its own: another's connection would be by another one.
        self._by_client = any(len(entry.sources) > 1 for entry in config.translation)
        self._connect_ports = frozenset(config.explicit.connect_ports)
        self._socks_ports = frozenset(config.explicit.socks_ports)

    def pool_key(self, request: Request, client: Client) -> Key:
        """Whom a connection to the request's origin may serve again."""
        return request.host, request.port, client.user, client.address if self._by_client else b""

    # -- who -----------------------------------------------------------------------------------

    def needs_user(self, client: Client) -> bool:
        """Whether the client has to say who it is, and has not yet."""
        return client.terms.asks_user and not client.user

    def is_user(self, name: str) -> bool:
        """Whether the configuration has this user."""
        return name in self._users

    def may_ask_password(self, client: Client) -> bool:
        """Whether a password may cross this connection."""
        return client.terms.by_password

    def verify(self, user: str, password: bytes, client: Client, done: Callable[[bool], None]) -> None:
        """Ask whether it is the user's password."""
        self.verifier.verify(user, password, client.address, done)

    # -- where ---------------------------------------------------------------------------------

    def may_go(self, client: Client, port: int, connect: bool = False, socks: bool = False) -> Failure | None:
        """Whether a client may have a session with this port, as far as the name does not matter."""
        if connect and self._connect_ports and port not in self._connect_ports:
            return Failure.DENIED
        if socks and self._socks_ports and port not in self._socks_ports:
            return Failure.DENIED
        return self.context.admit(client.address, client.user)

    def judge(
        self, client: Client, way: str, host: str, port: int, url: str = "", kind: str = "tcp"
    ) -> Judge | None:
        """The policy's judge for a session with ``host``; None where the policy asks nobody."""
        arbiter = self.context.arbiter
        if not arbiter.asks:
            return None
        return arbiter.judge(way, kind, unmapped(client.address), port, host, client.user, url)

    # -- the box's own pages ---------------------------------------------------------------------

    def page(self, path: bytes, client: Client) -> tuple[str, bytes] | None:
        """Content type and content of one of the box's pages; None where there is none."""
        if path in PAC_PATHS:
            return CONTENT_TYPE, self._pac(client.own).encode()
        if path == AUTHORITY_PATH and self._authority:
            return "application/x-x509-ca-cert", self._authority
        return None

    def _pac(self, own: bytes) -> str:
        """The listeners at the address that the client reached us by: first those that serve everybody.

        Not every browser knows of proxies over TLS, and some give up at the first whose certificate they do
        not trust, instead of taking the next. Encrypted listeners are in the file where there are no others,
        or where ``pac_prefers_tls`` says that the devices of this LAN trust the box's authority: then first.
        """
        explicit = self._config.explicit
        found = []
        order = list(Speaks)
        for index, listener in enumerate(explicit.listeners):
            speaks = _SPEAKS.get((listener.mode, listener.tls))
            # No browser says who it is by SOCKS.
            if speaks is not None and not (speaks is Speaks.SOCKS5 and listener.authentication):
                rank = order.index(speaks), bool(listener.authentication), index
                found.append((rank, speaks, listener))
        if not explicit.pac_prefers_tls:
            found = [way for way in found if not way[2].tls] or found
        ways = []
        for _rank, speaks, listener in sorted(found):
            ways.append(PacListener(speaks, listener.address or IPv6Address(own), listener.port))
        networks = [lan.prefix for _name, lan in self._config.lans()]
        return pac_file(ways, direct_networks=[n for n in networks if not isinstance(n, str)])
