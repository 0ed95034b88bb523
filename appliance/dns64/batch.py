"""Many datagrams at once, one system call for each. batch.pyx is the same with few.

Where an *address* comes from here it is opaque, good for ``send`` and for the functions below.
"""

from __future__ import annotations

import socket
from typing import Any

from appliance.dns64.told import packed

MOST = 64  # datagrams a call: a burst of questions must not starve the answers
# Octets of a datagram; of a longer one the rest is cut. Four times what EDNS promises to carry.
SIZE = 4_097


def receive(sock: socket.socket) -> list[tuple[bytes, Any]]:
    """What has come to an IPv6 socket, with the addresses it came from."""
    found: list[tuple[bytes, Any]] = []
    receive_from = sock.recvfrom
    for _ in range(MOST):
        try:
            found.append(receive_from(SIZE))
        except BlockingIOError:
            break
        except OSError:
            continue  # an ICMP error to an earlier answer
    return found


def send(sock: socket.socket, packets: list[tuple[bytes, Any]]) -> None:
    """Send each to its address. UDP may lose some; the client asks again."""
    send_to = sock.sendto
    for packet, address in packets:
        try:
            send_to(packet, address)
        except OSError:
            pass  # port 0 cannot be answered at all


def receive_connected(sock: socket.socket) -> list[bytes]:
    """What has come from the one that the socket is connected to."""
    found: list[bytes] = []
    for _ in range(MOST):
        try:
            found.append(sock.recv(SIZE))
        except BlockingIOError:
            break
        except OSError:
            continue  # ICMP's "port unreachable" to an earlier question
    return found


def send_connected(sock: socket.socket, packets: list[bytes]) -> None:
    """Send each to the one that the socket is connected to."""
    for packet in packets:
        try:
            sock.send(packet)
        except OSError:
            pass  # a full buffer or nobody listening: who waits for the answer deals with it


def client_of(address: Any) -> bytes:
    """The client's sixteen octets."""
    return packed(address[0])


def name_of(address: Any) -> str:
    """The client's address as text."""
    return str(address[0])


def tuple_of(address: Any) -> tuple[str, int, int, int]:
    """The address as Python's sockets have it."""
    return address  # type: ignore[no-any-return]
