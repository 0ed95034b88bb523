"""The log of sessions to a syslog server: RFC 5424 messages, counted in octets (RFC 6587 section 3.4.1) over
TCP, or over TLS (RFC 5425, the same framing).

A thread of its own sends; whoever has lines puts them into a queue that is bounded. A server that is away is
tried again and again, ever more seldom; what the queue cannot hold meanwhile is dropped, the oldest first,
and counted. After a broken connection the last lines are sent again: they may come twice.
"""

from __future__ import annotations

import random
import socket
import ssl
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.session.follow import Batch
from appliance.session.row import Outcome, Row

# Lines that wait for the server: some 20 MB, minutes of a busy box or a night of a small one.
MAX_QUEUE = 50_000
# Lines of one call of send: one TLS record or two. They are what may come twice.
MAX_SENT_AT_ONCE = 50
# For a connection, its handshake, and one send. A server that takes longer is as good as away.
NETWORK_TIMEOUT = 10.0
# The first pause after a failure; it doubles up to the last. Shorter would hammer a server that is coming up.
FIRST_PAUSE = 1.0
LAST_PAUSE = 60.0
# RFC 5424 section 6.2.1: facility local0; informational, and notice for what did not come about.
_FACILITY = 16 * 8
_INFORMATIONAL, _NOTICE = 6, 5
APP_NAME = "isthmus-proxy"


@dataclass(frozen=True, slots=True)
class Target:
    """A syslog server. ``authority``: a PEM file that its certificate is checked by; None: the system's."""

    host: str
    port: int
    tls: bool
    authority: Path | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'tcp'}://{host}:{self.port}"


def syslog_message(row: Row, line: bytes, hostname: str) -> bytes:
    """RFC 5424 section 6: the line of the log as the message, the outcome as its MSGID."""
    severity = _INFORMATIONAL if row.outcome is Outcome.CARRIED else _NOTICE
    moment = datetime.fromtimestamp(row.time / 1000, UTC)
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{row.time % 1000:03d}Z"
    head = f"<{_FACILITY + severity}>1 {stamp} {hostname} {APP_NAME} - {row.outcome} - "
    return head.encode() + line


def framed(message: bytes) -> bytes:
    """Octet counting: MSG-LEN SP SYSLOG-MSG."""
    return b"%d %b" % (len(message), message)


class Syslog:
    """An export."""

    def __init__(self, target: Target, hostname: str) -> None:
        self.target = target
        self.hostname = hostname
        self._queue: deque[bytes] = deque()
        self._wake = threading.Condition()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="syslog", daemon=True)
        self.up = False
        self.sent = 0
        self.dropped = 0
        self.problem = ""
        self._thread.start()

    def write(self, batch: Batch) -> None:
        """Put its lines into the queue."""
        messages = []
        for row, line in zip(batch.rows, batch.lines, strict=True):
            try:
                messages.append(framed(syslog_message(row, line, self.hostname)))
            except (OverflowError, ValueError):  # a time that no calendar has
                self.dropped += 1
        with self._wake:
            self._queue.extend(messages)
            while len(self._queue) > MAX_QUEUE:
                self._queue.popleft()
                self.dropped += 1
            self._wake.notify()

    def forget(self, oldest: float, now: float) -> None:
        """What was sent is the server's."""

    def erase(self) -> None:
        """What waits is not sent any more."""
        with self._wake:
            self._queue.clear()

    def describe(self) -> dict[str, object]:
        """The varlink type ``Export`` of org.isthmus.history."""
        return {
            "kind": "syslog",
            "target": str(self.target),
            "up": self.up,
            "waiting": len(self._queue),
            "sent": self.sent,
            "dropped": self.dropped,
            "problem": self.problem or None,
        }

    def close(self) -> None:
        """Stop; what waits is lost."""
        with self._wake:
            self._stop = True
            self._wake.notify()
        self._thread.join(NETWORK_TIMEOUT)

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop:
            try:
                with self._connect() as connection:
                    self.up, self.problem = True, ""
                    pause = FIRST_PAUSE
                    self._send_all(connection)
            except (OSError, ValueError) as error:  # ValueError: a host that is no name
                self.up = False
                self.problem = f"{self.target}: {_words(error)}."
            with self._wake:
                if not self._stop:
                    # Boxes that lost the same server do not come back at the same moment.
                    self._wake.wait_for(lambda: self._stop, pause * random.uniform(0.75, 1.25))  # noqa: S311
            pause = min(pause * 2, LAST_PAUSE)

    def _connect(self) -> socket.socket:
        target = self.target
        plain = socket.create_connection((target.host, target.port), NETWORK_TIMEOUT)
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if not target.tls:
                return plain
            context = ssl.create_default_context(cafile=target.authority)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            return context.wrap_socket(plain, server_hostname=target.host)
        except BaseException:
            plain.close()
            raise

    def _send_all(self, connection: socket.socket) -> None:
        """Send what comes, until the end of the connection (OSError) or ours."""
        while True:
            with self._wake:
                # Without lines it is looked at now and then whether the server is still there.
                self._wake.wait_for(lambda: self._queue or self._stop, NETWORK_TIMEOUT)
                if self._stop:
                    return
                waiting = min(len(self._queue), MAX_SENT_AT_ONCE)
                messages = [self._queue.popleft() for _ in range(waiting)]
            try:
                _still_there(connection)
                if messages:
                    connection.sendall(b"".join(messages))
            except OSError:
                with self._wake:
                    self._queue.extendleft(reversed(messages))
                raise
            self.sent += len(messages)


def _still_there(connection: socket.socket) -> None:
    """OSError where the server has closed. It has nothing to say otherwise (RFC 5425 section 4.3)."""
    connection.setblocking(False)
    try:
        if connection.recv(4_096) == b"":
            raise ConnectionResetError("the server closed the connection")
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        pass
    finally:
        connection.settimeout(NETWORK_TIMEOUT)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or "no answer in time"
