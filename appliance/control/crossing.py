"""A session of the box's own from its LAN side to an IPv4 host, by the way that a client's takes.

socket with a worker's mark ──► TUN ──► worker: policy, dial ──► IPv4 host
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from typing import Any

from appliance.dataplane import MARK_LOCAL, tun_mark

# For the session to come about, and again for the first octets of an answer.
WAIT = 5.0
# Of an answer: a status line is shorter, and nobody reads more than a line.
MAX_SAID = 256


@contextmanager
def crossing(lan_address: str, address: str, port: int) -> Iterator[socket.socket]:
    """A connected socket, from the LAN address to an address inside a translation prefix; OSError."""
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        client.settimeout(WAIT)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, tun_mark(0))
        client.bind((lan_address, 0))
        client.connect((address, port))
        # The SYN waited in the TUN; all that follows is for the socket which it became.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK_LOCAL)
        yield client


def fetch(lan_address: str, address: IPv6Address, host: str, port: int) -> dict[str, Any]:
    """The type ``Crossing``, without ``origin``: a session, and in it a question in HTTP (RFC 9112)."""
    found: dict[str, Any] = {"ok": False, "client": lan_address, "address": str(address), "said": ""}
    found |= {"milliseconds": 0.0, "problem": ""}
    started = time.monotonic()
    try:
        with crossing(lan_address, str(address), port) as client:
            found |= {"ok": True, "milliseconds": round((time.monotonic() - started) * 1000, 1)}
            name = f"[{host}]" if ":" in host else host
            client.sendall(f"HEAD / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            found["said"] = _line(client.recv(MAX_SAID))
    except ConnectionRefusedError:
        found["problem"] = "The session was refused: by a rule, or by the server."
    except TimeoutError:
        if not found["ok"]:
            found["problem"] = "Nothing answered in time."
    except OSError as error:
        if not found["ok"]:
            found["problem"] = f"No session came about: {error.strerror or error}."
    return found


def _line(octets: bytes) -> str:
    """The first line, as far as it prints."""
    line = octets.partition(b"\n")[0].decode("latin-1")
    return "".join(sign if sign.isprintable() else "?" for sign in line.rstrip("\r"))
