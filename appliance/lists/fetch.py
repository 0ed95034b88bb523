"""One list fetched by HTTP or HTTPS, whole or not at all, by a server that nothing is expected of."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from appliance.lists.unpack import Unpacker, UnpackError

# A list has a mirror behind a name behind a shortener; more is a loop.
MAX_REDIRECTS = 5
# Signs of a validator that are sent back; servers have some tens.
MAX_VALIDATOR = 512
_CHUNK = 65_536
_TOO_LONG = "the server needs more than {:g} s for the list"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
# What an address is built of (RFC 3986 section 2.2), and "%", so that nothing is quoted twice.
_UNQUOTED = "%:/?#[]@!$&'()*+,;="


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds. Too short gives up servers behind a bad line; too long lets dead ones hold others up."""

    connect: float = 15.0  # for each address
    silence: float = 30.0
    whole: float = 900.0  # 64 MiB at 600 kbit/s


@dataclass(frozen=True, slots=True)
class Validators:
    """ETag and Last-Modified (RFC 9110 section 8.8) as the server wrote them; "" for none."""

    etag: str = ""
    modified: str = ""


class FetchError(Exception):
    """Why it was not fetched, in words."""


def fetch(
    url: str, validators: Validators, sink: Callable[[bytes], None], waits: Waits | None = None
) -> Validators | None:
    """Give ``sink`` the content, unpacked, and return its validators; None where nothing has changed.

    FetchError, UnpackError, and what ``sink`` raises: then what came is not to be used.
    """
    waits = waits or Waits()
    with _deadline(waits.whole) as deadline:
        parts = _parts(url)
        own = False  # whether the source itself is on this box
        for hop in range(MAX_REDIRECTS + 1):
            connection = deadline.connect(parts, waits)
            try:
                here = _is_here(connection.sock)
                if hop == 0:
                    own = here
                elif here and not own:
                    raise FetchError("the server sends us to an address of this box itself")
                answer = _ask(connection, parts, validators)
                if answer.status not in _REDIRECTS:
                    return _take(answer, sink)
                parts = _next(parts, answer.getheader("Location", ""))
            finally:
                connection.close()
        raise FetchError(f"the server redirects more than {MAX_REDIRECTS} times")


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port or 1
    except ValueError:
        raise FetchError(f"“{url[:100]}” is no address") from None
    if parts.scheme not in _PORTS or not parts.hostname or not 0 < port < 65_536:
        raise FetchError(f"“{url[:100]}” is no address of the web")
    if parts.username is not None:
        raise FetchError("addresses with a user name are not fetched")
    return parts


def _next(parts: SplitResult, location: str) -> SplitResult:
    # The library gives octets as Latin-1; servers write UTF-8 as it is, and browsers quote that.
    target = quote(location.encode("latin-1"), safe=_UNQUOTED)
    try:
        whole = urljoin(parts.geturl(), target)
    except ValueError:
        raise FetchError(f"the server redirects to “{target[:100]}”, which is no address") from None
    following = _parts(whole)
    if parts.scheme == "https" and following.scheme == "http":
        raise FetchError("the server redirects from https to http, where anybody could change the list")
    return following


class _Deadline:
    """Ends whatever the thread waits for: a socket that is shut down wakes its reader."""

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self.passed = False
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True
        self._timer.start()

    def _pass(self) -> None:
        with self._lock:
            self.passed = True
            if self._sock is not None:
                _shut(self._sock)

    def connect(self, parts: SplitResult, waits: Waits) -> http.client.HTTPConnection:
        host = parts.hostname or ""
        port = parts.port or _PORTS[parts.scheme]
        sock = _dial(host, port, waits.connect)
        with self._lock:
            if self.passed:
                sock.close()
                raise TimeoutError
            self._sock = sock
        sock.settimeout(waits.silence)
        if parts.scheme == "http":
            connection = http.client.HTTPConnection(host, port)
        else:
            connection = http.client.HTTPSConnection(host, port)
            try:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            except BaseException:
                sock.close()
                raise
            with self._lock:
                self._sock = sock
        connection.sock = sock
        return connection

    def cancel(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._sock = None


def _shut(sock: socket.socket) -> None:
    try:
        # Not SSLSocket's own, which would end TLS first, and wait for that.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # closed by now


@contextmanager
def _deadline(seconds: float) -> Iterator[_Deadline]:
    deadline = _Deadline(seconds)
    try:
        yield deadline
    except (OSError, http.client.HTTPException, UnpackError, FetchError) as error:
        if deadline.passed:
            raise FetchError(_TOO_LONG.format(seconds)) from None
        if isinstance(error, UnpackError | FetchError):
            raise
        raise FetchError(_words(error)) from None
    else:
        if deadline.passed:  # which can look like the end of the content
            raise FetchError(_TOO_LONG.format(seconds))
    finally:
        deadline.cancel()


def _words(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, TimeoutError):
        return "the server says nothing"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, ConnectionRefusedError):
        return "the server refuses the connection"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "the server speaks no TLS that we understand"
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected | ConnectionResetError):
        return "the server broke off"
    if isinstance(error, http.client.HTTPException):
        return "the server speaks no HTTP"
    return f"the server cannot be reached: {error.strerror or error}"


def _dial(host: str, port: int, timeout: float) -> socket.socket:
    """IPv4 first: the box's way out. OSError of the last address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise FetchError(f"“{host[:100]}” is no host name") from None
    last: OSError = OSError("no address")
    for family, kind, protocol, _name, address in sorted(found, key=lambda one: one[0] != socket.AF_INET):
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(timeout)
        try:
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            last = error
    raise last


def _is_here(sock: socket.socket) -> bool:
    address = ip_address(sock.getpeername()[0].partition("%")[0])
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _ask(
    connection: http.client.HTTPConnection, parts: SplitResult, validators: Validators
) -> http.client.HTTPResponse:
    headers = {"User-Agent": "isthmus", "Accept": "*/*", "Accept-Encoding": "gzip", "Connection": "close"}
    if validators.etag:
        headers["If-None-Match"] = validators.etag
    if validators.modified:
        headers["If-Modified-Since"] = validators.modified
    target = parts.path or "/"
    connection.request("GET", f"{target}?{parts.query}" if parts.query else target, headers=headers)
    return connection.getresponse()


def _take(answer: http.client.HTTPResponse, sink: Callable[[bytes], None]) -> Validators | None:
    if answer.status == 304:
        return None
    if answer.status != 200:
        reason = "".join(sign for sign in answer.reason[:60] if sign.isprintable())
        raise FetchError(f"the server answers {answer.status} {reason}".rstrip())
    coding = answer.getheader("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise FetchError(f"the server sends it as “{coding[:20]}”, which was not asked for")
    unpacker = Unpacker(sink)
    while data := answer.read(_CHUNK):
        unpacker.feed(data)
    if answer.length:  # the library is content with less than was promised
        raise http.client.IncompleteRead(b"", answer.length)
    unpacker.finish()
    return Validators(_validator(answer, "ETag"), _validator(answer, "Last-Modified"))


def _validator(answer: http.client.HTTPResponse, field: str) -> str:
    value = answer.getheader(field, "").strip()
    return value if value.isascii() and value.isprintable() and len(value) <= MAX_VALIDATOR else ""
