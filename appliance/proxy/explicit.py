"""The explicit proxy's listeners in a worker, and a client until it is known what it speaks.

accepted --tls------> handshake --+
accepted -------------------------+--mode http, socks----------> HttpClient, SocksClient
                                  +--mode auto--first octets---> one of them, or TLS and then one of them
                                                                 or closed
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from socket import (
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_OOBINLINE,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    socket,
)
from typing import Any

from appliance.config.schema import Config, Listener
from appliance.errors import Failure
from appliance.protocol.proxy_sniff import Told, tell
from appliance.proxy.context import Context
from appliance.proxy.gatekeeper import Client, Gatekeeper, Terms
from appliance.proxy.http_client import HttpClient
from appliance.proxy.loop import Handler
from appliance.proxy.published import steer
from appliance.proxy.relay import EPOLLIN, LEG_EVENTS
from appliance.proxy.socks_client import SocksClient
from appliance.proxy.stream import NOBODY, Owner, Stream, Tls

LISTEN_BACKLOG = 4_096
MAX_ACCEPTS = 64
_ACCEPTS = MAX_ACCEPTS
# Looking a member up on its class takes longer than to step on.
_HTTP, _TLS, _SOCKS4, _SOCKS5, _MORE = Told.HTTP, Told.TLS, Told.SOCKS4, Told.SOCKS5, Told.MORE
# Seconds for a TLS handshake and the first octets.
GREETING_TIMEOUT = 20
# Of a reuseport group: the last word of the client's address, where SLAAC's and DHCP's differ.
_SOURCE_WORD = 0xFFF00000 + 20  # SKF_NET_OFF and the offset
_IPV6_FREEBIND = 78
_PAC_NAME = "-pac"  # which no configured listener can have


def server_context(folder: Path, authority: str | None = None) -> ssl.SSLContext | None:
    """TLS 1.2 and later with the box's certificate of ``folder``; None where there is none to be had.

    ``authority``: a PEM file; clients are asked for a certificate that it signed, and may have none.
    Tickets let a client resume without another signature; they are good with this worker alone.
    OSError or ssl.SSLError where the authority's file is not there or is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # Each costs 7 % of what a handshake takes in OpenSSL. One for each connection is enough to begin the next
    # with; a client that opens several at once has as many from those before.
    context.num_tickets = 1
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_cert_chain(
            folder / "serving.pem"
        )  # control's choice: the uploaded one, or the box's own
    except (OSError, ssl.SSLError):
        return None
    return context


class Port(Handler):
    """One listener."""

    def __init__(self, explicit: Explicit, settings: Listener) -> None:
        self.terms = Terms(settings, pages_only=settings.name == _PAC_NAME)
        self._explicit = explicit
        self._kernel = explicit.context.kernel
        with socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC) as sock:
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
            sock.setsockopt(IPPROTO_IPV6, _IPV6_FREEBIND, 1)  # an address that the LAN has yet to get
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # accepted sockets inherit these
            sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)
            sock.bind((str(settings.address or "::"), settings.port))
            sock.listen(LISTEN_BACKLOG)
            self.fd = sock.detach()
        self._kernel.adopt(self.fd)

    def on_event(self, events: int) -> None:
        """Clients wait."""
        for _ in range(_ACCEPTS):
            fd = self._kernel.accept(self.fd)
            if fd < 0:
                return
            self._explicit.take_up(self.terms, fd, self._kernel.endpoints)


class ClientStream(Stream):
    """A client's connection: one more in ``counts``, by its address, until it is over or a tunnel."""

    __slots__ = ("_client", "_counts")

    def __init__(self, context: Context, fd: int, client: bytes, counts: dict[bytes, int]) -> None:
        super().__init__(context, fd, NOBODY)
        self._client = client
        self._counts = counts
        counts[client] = counts.get(client, 0) + 1

    def _leave(self) -> None:
        left = self._counts[self._client] - 1
        if left:
            self._counts[self._client] = left
        else:
            del self._counts[self._client]

    def detach(self) -> int:
        """It has become a tunnel."""
        self._leave()
        return Stream.detach(self)

    def close(self) -> None:
        """It is over."""
        if not self.closed:
            self._leave()
            Stream.close(self)


class Greeting(Owner):
    """A client until it is known what it speaks."""

    def __init__(self, explicit: Explicit, client: Client, stream: Stream) -> None:
        self._explicit = explicit
        self._client = client
        self._stream = stream
        self._held = b""
        explicit.waiting += 1
        self._over = False
        context = explicit.context
        self._until = int(context.now) + GREETING_TIMEOUT
        context.timers.add(self._until, self._deadline)

    def _leave(self) -> None:
        if not self._over:
            self._over = True
            self._explicit.waiting -= 1
            self._explicit.context.timers.discard(self._until, self._deadline)

    def _deadline(self, _second: int) -> int:
        if not self._over:
            self._leave()
            self._stream.abort()
        return 0

    def on_end(self, stream: Stream) -> None:
        """It had nothing to say."""
        self._leave()
        stream.close()

    def on_broken(self, stream: Stream, why: str) -> None:
        """It is gone, or spoke no TLS."""
        self._leave()

    def on_secured(self, stream: Stream) -> None:
        """A certificate says who it is; one of nobody we know says nothing."""
        if stream.tls is not None and self._client.terms.by_certificate:
            name = common_name(stream.tls.engine.getpeercert() or {})
            if self._explicit.gate.is_user(name):
                self._client.user = name

    def on_data(self, stream: Stream, data: bytes) -> None:
        """First octets."""
        mode = self._client.terms.mode
        if mode == "http":
            told = _HTTP
        elif mode == "socks":
            told = _SOCKS5
        else:
            self._held += data
            data = self._held
            told = tell(data)
        if told is _MORE:
            return
        explicit = self._explicit
        if told is _TLS and stream.tls is None and explicit.certificate is not None:
            self._held = b""
            tls = Tls(explicit.certificate)
            stream.tls = tls
            tls.received(stream, data)
            return
        self._leave()
        owner: Owner
        if told is _HTTP:
            owner = HttpClient(explicit.gate, self._client, stream)
        elif told is _SOCKS5 or told is _SOCKS4:
            owner = SocksClient(explicit.gate, self._client, stream)
        else:
            stream.abort()
            return
        owner.on_data(stream, data)


def common_name(certificate: Mapping[str, Any]) -> str:
    """The last CN of a subject as ``SSLObject.getpeercert`` gives it; "" where there is none."""
    found = ""
    for part in certificate.get("subject", ()):
        for kind, value in part:
            if kind == "commonName":
                found = value
    return found


class Explicit:
    """The explicit proxy of a worker."""

    def __init__(self, context: Context, gate: Gatekeeper) -> None:
        self.context = context
        self.gate = gate
        self.certificate: ssl.SSLContext | None = None
        self._asking: ssl.SSLContext | None = None  # the same, and clients are asked for theirs
        self.waiting = 0  # clients that have yet to say what they speak
        self._connections: dict[bytes, int] = {}  # by client
        self._most = 0  # of them
        self._ports: dict[Listener, Port] = {}
        self.problems: list[str] = []

    def configure(self, config: Config, workers: int, certificates: Path) -> None:
        """Listeners that stay are left alone, so that nothing in their queues is lost."""
        self._most = config.proxy.max_connections_per_client
        self.certificate = certificate = server_context(certificates)
        self.gate.configure(config, certificates)
        self._asking, trouble = None, ""
        if config.explicit.client_authority is not None:
            try:
                self._asking = server_context(certificates, config.explicit.client_authority)
            except (OSError, ssl.SSLError) as error:
                trouble = f"explicit.client_authority cannot be read: {error.strerror or 'no certificate'}."
        wanted = list(config.explicit.listeners)
        if config.explicit.pac_port:
            wanted.append(
                Listener.model_construct(name=_PAC_NAME, port=config.explicit.pac_port, mode="http")
            )
        self.problems.clear()
        for settings in self._ports.keys() - set(wanted):
            gone = self._ports.pop(settings)
            self._close(gone)
            gone.terms.over = True  # whom it has taken up is served no further request by it
        for settings in wanted:
            if settings.tls and certificate is None:
                self.problems.append(f"Listener “{settings.name}”: there is no certificate yet.")
                continue
            if "certificate" in settings.authentication and trouble:
                self.problems.append(f"Listener “{settings.name}”: {trouble}")
            port = self._ports.get(settings)
            try:
                if port is None:
                    port = Port(self, settings)
                    self._ports[settings] = port
                    self.context.watch(port.fd, port, EPOLLIN)
                steer(port.fd, workers, _SOURCE_WORD)
            except OSError as error:
                self.problems.append(
                    f"Listener “{settings.name}”: tcp port {settings.port} cannot be opened: "
                    f"{os.strerror(error.errno or 0)}."
                )

    def _close(self, port: Port) -> None:
        port.on_event(0)  # whose handshake is done is served yet
        self.context.ignore(port.fd)
        self.context.kernel.close(port.fd)

    def drain(self) -> None:
        """Take up nothing new, and let clients go when they have their answers."""
        self.gate.draining = True
        for port in self._ports.values():
            self._close(port)
        self._ports.clear()

    def take_up(self, terms: Terms, fd: int, endpoints: bytes) -> None:
        """An accepted connection."""
        context = self.context
        failure = None
        if fd + 2 * self.waiting + 16 > context.descriptor_limit:
            failure = Failure.RESOURCES
        elif self._connections.get(endpoints[:16], 0) >= self._most:
            failure = Failure.CONNECTIONS
        if failure is not None:
            context.refused("tcp", endpoints[:16], f"listener {terms.name}", terms.port, failure)
            context.kernel.reset_on_close(fd)
            context.kernel.close(fd)
            return
        client = Client(endpoints, terms)
        stream = ClientStream(context, fd, endpoints[:16], self._connections)
        stream.owner = Greeting(self, client, stream)
        if terms.tls:
            asks = terms.by_certificate and self._asking is not None
            certificate = self._asking if asks else self.certificate
            if certificate is None:
                stream.broken("no certificate")  # it was there when the port was opened
                return
            stream.tls = Tls(certificate)
        try:
            context.watch(fd, stream, LEG_EVENTS)
        except OSError:
            stream.broken("out of resources")
