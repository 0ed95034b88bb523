"""A Varlink service on a Unix socket, as the daemons answer each other: messages end with NUL."""

from __future__ import annotations

import contextlib
import socketserver
import struct
from collections.abc import Iterable
from pathlib import Path
from socket import SO_PEERCRED, SOL_SOCKET

import varlink

from appliance import __version__

IDLE_TIMEOUT = 30.0
_READ = 1 << 16


class _Handler(socketserver.StreamRequestHandler):
    """One connection."""

    server: VarlinkServer
    timeout = IDLE_TIMEOUT

    def handle(self) -> None:
        """Answer until the peer goes, errs or idles."""
        credentials = self.request.getsockopt(SOL_SOCKET, SO_PEERCRED, struct.calcsize("3i"))
        _pid, uid, _gid = struct.unpack("3i", credentials)
        rest = b""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            while data := self.request.recv(_READ):
                rest += data
                if len(rest) > self.server.max_message:
                    return
                *messages, rest = rest.split(b"\0")
                for message in messages:
                    for answer in self.server.answer(uid, message):
                        self.request.sendall(answer + b"\0")


class VarlinkServer(socketserver.ThreadingUnixStreamServer):
    """The socket; each connection has a thread, which is for short questions only.

    ``interface`` has the methods of the interface called ``name``, whose file is in ``folder``. A message
    over ``max_message`` octets ends its connection.
    """

    daemon_threads = True

    def __init__(self, path: Path, name: str, interface: object, folder: Path, max_message: int) -> None:
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Handler)
        self.max_message = max_message
        self._service = varlink.Service(
            vendor="Isthmus",
            product=name.removeprefix("org.").replace(".", "-"),
            version=__version__,
            interface_dir=str(folder),
        )
        self._service._add_interface(name, interface)

    def answer(self, uid: int, message: bytes) -> Iterable[bytes]:
        """The replies to one message of the user's."""
        replies: Iterable[bytes] = self._service.handle(message)
        return replies
