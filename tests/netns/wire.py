"""Both ends of an exchange by hand: a client of the box's, and an origin that says what it is told to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

from tests.netns.conftest import SERVER, Box

# Seconds for what must come. A busy machine takes its time; what never comes costs this once.
PATIENCE = 10.0
# Seconds in which what must not come would have.
QUIET = 0.3
_RESET = struct.pack("ii", 1, 0)


class Peer:
    """A connection, read in pieces of HTTP."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.held = b""
        sock.settimeout(PATIENCE)

    def send(self, data: bytes) -> Peer:
        """All of it."""
        self.sock.sendall(data)
        return self

    def until(self, mark: bytes) -> bytes:
        """Octets up to ``mark`` and with it; AssertionError with what came, where the end comes first."""
        while (found := self.held.find(mark)) < 0:
            got = self.sock.recv(65_536)
            assert got, self.held
            self.held += got
        found += len(mark)
        out, self.held = self.held[:found], self.held[found:]
        return out

    def head(self) -> bytes:
        """A head, its empty line included."""
        return self.until(b"\r\n\r\n")

    def take(self, size: int) -> bytes:
        """So many octets."""
        while len(self.held) < size:
            got = self.sock.recv(65_536)
            assert got, self.held
            self.held += got
        out, self.held = self.held[:size], self.held[size:]
        return out

    def rest(self) -> bytes:
        """All up to the end; ConnectionResetError where that is a reset."""
        while got := self.sock.recv(65_536):
            self.held += got
        out, self.held = self.held, b""
        return out

    def is_quiet(self) -> bool:
        """Whether nothing comes, not even the end."""
        self.sock.settimeout(QUIET)
        try:
            self.held += self.sock.recv(65_536)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(PATIENCE)
        return False

    def is_cut(self) -> bool:
        """Whether the connection ends with a reset, which no client takes for the end of a body."""
        try:
            self.rest()
        except ConnectionResetError:
            return True
        return False

    def end(self) -> None:
        """Half-close."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End it with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()

    def close(self) -> None:
        """End it in order."""
        self.sock.close()


class Wire:
    """Makes peers on both sides of a box; a context manager that closes them all."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._stack = contextlib.ExitStack()
        self._listener = box.server.call(lambda: socket.create_server((SERVER, 0)))
        self._stack.enter_context(self._listener)
        self._listener.settimeout(PATIENCE)
        self.port = self._listener.getsockname()[1]
        self.host = f"{SERVER}:{self.port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client(self, port: int = 3128, tls: bool = False) -> Peer:
        """A connection to a listener of the box."""
        make = socket.create_connection
        sock = self._box.client.call(lambda: make(("fd00:1::1", port), PATIENCE, ("fd00:1::2", 0)))
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        return Peer(self._stack.enter_context(sock))

    def origin(self) -> Peer:
        """The connection that the box makes next."""
        return Peer(self._stack.enter_context(self._listener.accept()[0]))

    def nobody_came(self) -> bool:
        """Whether the box makes no (further) connection."""
        self._listener.settimeout(QUIET)
        try:
            self._stack.enter_context(self._listener.accept()[0])
        except TimeoutError:
            return True
        finally:
            self._listener.settimeout(PATIENCE)
        return False

    def request(self, method: str = "GET", path: str = "/", fields: str = "", minor: int = 1) -> bytes:
        """A request in absolute form; ``fields``: lines, each with its CRLF."""
        return (f"{method} {self.url}{path} HTTP/1.{minor}\r\nHost: {self.host}\r\n{fields}\r\n").encode()
