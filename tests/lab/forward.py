"""A small forwarder: a port of the host's loopback reaches a host inside a namespace."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading

from tests.lab.netns import Namespace

FIRST_PORT = 8443
LAST_PORT = 8499
_CONNECT_TIMEOUT = 10.0
_CHUNK = 65_536


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Carry one direction to its end, and pass the end on."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Forwarder:
    """Listens on 127.0.0.1, on the first free port from 8443; outgoing sockets are the namespace's."""

    def __init__(self, namespace: Namespace, address: str, port: int) -> None:
        self._namespace = namespace
        self._target = (address, port)
        self._listener = self._listen()
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="forwarder").start()

    @staticmethod
    def _listen() -> socket.socket:
        for port in range(FIRST_PORT, LAST_PORT + 1):
            try:
                return socket.create_server(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, f"no free port from {FIRST_PORT} to {LAST_PORT}")

    def close(self) -> None:
        """Stop listening; open connections end with the process."""
        # shutdown wakes the accepting thread, which close alone would leave waiting
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        try:
            server = self._namespace.call(
                lambda: socket.create_connection(self._target, timeout=_CONNECT_TIMEOUT)
            )
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with client, server:
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()
