"""What the kernel says of this host's own addresses and devices, for whoever asks in passing."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, SOCK_DGRAM, if_nametoindex, socket


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


def device_index(name: str) -> int:
    """The network device's index; 0 where there is none of that name."""
    try:
        return if_nametoindex(name)
    except OSError:
        return 0
