"""Servers of lists on the loopback that do what a test wants, a connection after the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Handler = Callable[[socket.socket, bytes], None]  # the connection, the request's head


class Server:
    """Answers each connection by ``handler``, which may be replaced."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.heads: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/list"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    head = b""
                    while b"\r\n\r\n" not in head and (data := connection.recv(65_536)):
                        head += data
                    self.heads.append(head.decode())
                    self.handler(connection, head)
                except OSError:
                    pass  # the client went

    def close(self) -> None:
        """Refuse connections from now on."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@contextmanager
def serving(handler: Handler) -> Iterator[Server]:
    """A server for a while."""
    server = Server(handler)
    try:
        yield server
    finally:
        try:
            server.close()
        except OSError:
            pass  # closed by the test


def answer(body: bytes, *fields: str, status: str = "200 OK", length: int | None = None) -> Handler:
    """One answer to everything; ``length`` may promise another one."""
    size = len(body) if length is None else length
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {size}", *fields, "", ""])

    def handler(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(head.encode() + body)

    return handler
