"""Whether an address is the box's own: the data path refuses it as an origin, and "why?" says so."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, SOCK_DGRAM, socket


def is_own_address(address: str) -> bool:
    """True where ``address`` (IPv4 or IPv6) is one that a socket can be bound to, or where it cannot be told.

    A connected socket's name would not do: of several addresses of one network it says the first.
    """
    try:
        probe = socket(AF_INET6 if ":" in address else AF_INET, SOCK_DGRAM)
    except OSError:
        return True  # no descriptor: what cannot be told is refused
    with probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
