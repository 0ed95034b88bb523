"""What the tests do as the client and as the server: connections, datagrams, questions to the box."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.netns.conftest import BIN, SERVER, SERVER6, Box, wait_for


@contextmanager
def serving(box: Box) -> Iterator[None]:
    """The server's side (tests/netns/peers.py) runs meanwhile."""
    process = box.start("peers", sys.executable, "-m", "tests.netns.peers", where=box.server)
    wait_for(lambda: "ready" in box.log("peers"), "the server's side")
    yield
    assert process.poll() is None


class Accepting(threading.Thread, ABC):
    """A TCP server of the WAN's that has its connections one after the other, until it is closed."""

    def __init__(self, box: Box, port: int) -> None:
        super().__init__(daemon=True)
        self._listener = box.server.call(lambda: socket.create_server((SERVER, port)))

    @abstractmethod
    def serve(self, sock: socket.socket) -> None:
        """One connection, which is closed after it; it may be broken."""

    def run(self) -> None:
        while True:
            try:
                sock, _peer = self._listener.accept()
            except OSError:
                return
            with sock, suppress(OSError):
                self.serve(sock)

    def close(self) -> None:
        """Accept nobody any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def connect(
    box: Box, port: int, server: str = SERVER6, timeout: float = 20.0, source: str = "fd00:1::2"
) -> socket.socket:
    """A TCP connection of the client's."""
    return box.client.call(lambda: socket.create_connection((server, port), timeout, (source, 0)))


def udp_socket(box: Box, source: str = "fd00:1::2") -> socket.socket:
    """A UDP socket of the client's."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind((source, 0))
        sock.settimeout(5)
        return sock

    return box.client.call(make)


def sessions(box: Box, *words: str) -> dict[str, Any]:
    """`isthmus sessions --json`."""
    done = subprocess.run(
        [BIN / "isthmus", "--runtime", str(box.runtime), "sessions", "--json", *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the peer's end."""
    out = bytearray()
    while data := sock.recv(1 << 18):
        out += data
    return bytes(out)


def status(box: Box) -> dict[str, Any]:
    """`isthmus status --json`."""
    done = subprocess.run(
        [BIN / "isthmus", "--runtime", str(box.runtime), "status", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found
