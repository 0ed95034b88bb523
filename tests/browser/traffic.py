"""The client's side of the dashboard's figures: run by ``python -m`` inside the client's namespace.

Twelve TCP sessions and three of UDP, each kept busy, until the program is ended.
"""

from __future__ import annotations

import socket
import time

SERVER = "64:ff9b::192.31.196.80"
ECHO, ECHO_UDP = 7004, 7101  # of tests.netns.peers
TCP_SESSIONS, UDP_SESSIONS = 12, 3
BLOCK = bytes(range(256)) * 64


def _refused() -> None:
    """One that is not carried."""
    try:
        socket.create_connection((SERVER, 7999)).close()
    except ConnectionRefusedError:
        pass


def main() -> None:
    """Open all, then talk on all."""
    streams = [socket.create_connection((SERVER, ECHO)) for _ in range(TCP_SESSIONS)]
    datagrams = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(UDP_SESSIONS)]
    for sock in datagrams:
        sock.connect((SERVER, ECHO_UDP))
    _refused()
    print("ready", flush=True)
    while True:
        for stream in streams:
            stream.sendall(BLOCK)
            stream.recv(len(BLOCK), socket.MSG_WAITALL)
        for sock in datagrams:
            sock.send(b"ping")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
