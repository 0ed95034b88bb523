"""Control's way to the supervisor: questions by Varlink, over a socket in the runtime folder."""

from __future__ import annotations

import select
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket

import varlink

from appliance import __version__
from appliance.proxy.seat import ANSWER_TIMEOUT

MAX_MESSAGE = 65_536
MAX_CLIENTS = 32


def listen(path: Path) -> socket:
    """The socket at ``path``."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket(AF_UNIX, SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o660)
    sock.listen(MAX_CLIENTS)
    return sock


class Door:
    """Who comes, and what is asked. Whoever waits by ``poll`` passes on events of what this ``owns``."""

    def __init__(self, sock: socket, interface: object, poll: select.poll) -> None:
        """``sock`` listens; ``interface`` has the methods of org.isthmus.proxy."""
        self.socket = sock
        self._poll = poll
        self._clients: dict[int, tuple[socket, bytes]] = {}
        self._service = varlink.Service(
            vendor="Isthmus",
            product="isthmus-proxy",
            version=__version__,
            interface_dir=str(Path(__file__).parent),
        )
        self._service._add_interface("org.isthmus.proxy", interface)
        sock.setblocking(False)
        poll.register(sock.fileno(), select.POLLIN)

    def owns(self, fd: int) -> bool:
        """Whether a descriptor is of these."""
        return fd == self.socket.fileno() or fd in self._clients

    def close(self) -> None:
        """Let go of all, in a child."""
        for sock in (self.socket, *(client for client, _rest in self._clients.values())):
            sock.close()

    def on_event(self, fd: int) -> None:
        """Somebody comes, or asks."""
        if fd in self._clients:
            self._serve(fd)
        else:
            self._accept()

    def _accept(self) -> None:
        try:
            client, _address = self.socket.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CLIENTS:
            client.close()
            return
        client.settimeout(ANSWER_TIMEOUT)
        self._clients[client.fileno()] = (client, b"")
        self._poll.register(client.fileno(), select.POLLIN)

    def _serve(self, fd: int) -> None:
        client, rest = self._clients[fd]
        try:
            data = client.recv(MAX_MESSAGE)
            rest += data
            if not data or len(rest) > MAX_MESSAGE:
                raise ConnectionResetError
            *messages, rest = rest.split(b"\0")
            for message in messages:
                for answer in self._service.handle(message):
                    client.sendall(answer + b"\0")
            self._clients[fd] = (client, rest)
        except (OSError, ValueError, TypeError, AttributeError):
            # The end, or what the Varlink library cannot read: the connection goes, we stay.
            self._poll.unregister(fd)
            del self._clients[fd]
            client.close()
