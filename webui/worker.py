"""gunicorn's threaded worker, with a limit to how long a connection may hold it.

gunicorn's own ``timeout`` watches the worker, not its clients: as it comes, a handful of connections
that send one byte each hold every thread for as long as they like, before anybody has signed in.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import Counter
from functools import partial
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from webui.patience import granting

# From the first byte to the end of a request's head, the TLS handshake included. Shorter cuts off a
# phone with poor radio; longer lets a silent client sit on a thread.
HEAD_SECONDS = 5.0
# The rest: body, answer, and the client's reading of it. Longer than control's own patience, so that
# its absence can still be told.
EXCHANGE_SECONDS = 20.0
# In all, for an exchange that asks for more time as it goes on: an upload of an update, of signed-in users
# only. 300 MB over a wireless LAN of 5 Mbit/s takes eight minutes; longer lets one of them hold a thread.
LONG_SECONDS = 1_200.0
# A connection without a first byte. Browsers open one ahead, and use it within seconds or not at all.
SILENT_SECONDS = 10.0
# A browser opens six. Fewer than the threads, so that no single host can hold them all.
MAX_PER_ADDRESS = 12


class _Shares:
    """How many connections each address has; connections close in any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, address: str) -> bool:
        """Count one more, unless the address has its share."""
        with self._lock:
            if self._counts[address] >= MAX_PER_ADDRESS:
                return False
            self._counts[address] += 1
            return True

    def leave(self, address: str) -> None:
        """One less; an address without any is forgotten."""
        with self._lock:
            self._counts[address] -= 1
            if self._counts[address] <= 0:
                del self._counts[address]


class _Connection(TConn):  # type: ignore[misc]  # gunicorn publishes no types
    """A connection that is counted with its address until it closes."""

    def __init__(self, shares: _Shares, *rest: Any) -> None:
        super().__init__(*rest)
        self._shares = shares
        self._counted = True

    def close(self) -> None:
        """Close, once or more often."""
        if self._counted:
            self._counted = False
            self._shares.leave(str(self.client[0]))
        super().close()


class BoundedWorker(ThreadWorker):  # type: ignore[misc]
    """ThreadWorker whose connections have deadlines and whose addresses have a share."""

    def init_process(self) -> None:
        """Serve until told to stop."""
        self._shares = _Shares()
        self._silent: dict[_Connection, float] = {}
        self._busy: dict[_Connection, float] = {}
        super().init_process()

    def accept(self, server: Any, listener: Any) -> None:
        """Take a connection, unless its address has its share already."""
        try:
            sock, client = listener.accept()
        except OSError:
            return  # it went away again; the next event tells of the next one
        if not self._shares.enter(str(client[0])):
            sock.close()
            return
        connection = _Connection(self._shares, self.cfg, sock, client, server)
        self.nr_conns += 1
        self._silent[connection] = time.monotonic() + SILENT_SECONDS
        with self._lock:
            self.poller.register(
                sock, selectors.EVENT_READ, partial(self.on_client_socket_readable, connection)
            )

    def on_client_socket_readable(self, conn: _Connection, client: Any) -> None:
        """The first byte, or the next request's."""
        self._silent.pop(conn, None)
        super().on_client_socket_readable(conn, client)

    def handle(self, conn: _Connection) -> Any:
        """One request, in a thread."""
        self._busy[conn] = time.monotonic() + HEAD_SECONDS
        try:
            return super().handle(conn)
        finally:
            self._busy.pop(conn, None)

    def handle_request(self, req: Any, conn: _Connection) -> Any:
        """The head is there: the rest has its own time."""
        started = time.monotonic()

        def more() -> None:
            self._busy[conn] = min(time.monotonic() + EXCHANGE_SECONDS, started + LONG_SECONDS)

        more()
        with granting(more):
            return super().handle_request(req, conn)

    def murder_keepalived(self) -> None:
        """gunicorn calls this about once a second: close what is idle, then what is overdue."""
        super().murder_keepalived()
        now = time.monotonic()
        for connection, deadline in list(self._silent.items()):
            if now > deadline:
                del self._silent[connection]
                self.nr_conns -= 1
                with self._lock, contextlib.suppress(KeyError, ValueError, OSError):
                    self.poller.unregister(connection.sock)
                connection.close()
        for connection, deadline in list(self._busy.items()):
            if now > deadline:
                # Not the TLS socket's own shutdown(), which takes its state away from under the
                # thread: this one ends that thread's read with "end of file".
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
