"""The server's side and the client's side of the namespace tests: programs run by ``python -m``.

Each is started inside a namespace, so that its sockets are that host's own.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time

CHUNK = bytes(range(256)) * 256
TIMEOUT = 60.0


def _serve(port: int, handle: object) -> None:
    listener = socket.create_server(("0.0.0.0", port), backlog=4096, reuse_port=True)
    while True:
        connection, peer = listener.accept()
        threading.Thread(target=handle, args=(connection, peer), daemon=True).start()  # type: ignore[arg-type]


def _who(connection: socket.socket, peer: tuple[str, int]) -> None:
    """Say the peer's address, then end."""
    with connection:
        connection.sendall(peer[0].encode())


def _digest(connection: socket.socket, _peer: object) -> None:
    """Read to the end (a half-close), then answer with the SHA-256 of it: needs both half-closes."""
    with connection:
        connection.settimeout(TIMEOUT)
        seen = hashlib.sha256()
        while data := connection.recv(1 << 18):
            seen.update(data)
        connection.sendall(seen.hexdigest().encode())


def _source(connection: socket.socket, _peer: object) -> None:
    """Read a size, send so many bytes, end; then wait for the client's last word and say it back."""
    with connection:
        connection.settimeout(TIMEOUT)
        (size,) = struct.unpack("!Q", connection.recv(8))
        while size > 0:
            connection.sendall(CHUNK[: min(size, len(CHUNK))])
            size -= len(CHUNK)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(16)


def _echo(connection: socket.socket, _peer: object) -> None:
    with connection:
        connection.settimeout(TIMEOUT)
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except ConnectionResetError:
            print("RESET", flush=True)


def _resetter(connection: socket.socket, _peer: object) -> None:
    """Answer one byte, then reset."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _udp(port: int) -> None:
    """Answer a datagram with who sent it, then its content."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("192.31.196.80", port))
    while True:
        data, peer = sock.recvfrom(65536)
        sock.sendto(f"{peer[0]} {peer[1]} ".encode() + data, peer)


PORTS = {7001: _who, 7002: _digest, 7003: _source, 7004: _echo, 7005: _resetter}
UDP_PORTS = (7101, 7102)


def main() -> None:
    """Serve every port until ended."""
    for port, handle in PORTS.items():
        threading.Thread(target=_serve, args=(port, handle), daemon=True).start()
    for port in UDP_PORTS:
        threading.Thread(target=_udp, args=(port,), daemon=True).start()
    print("ready", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
