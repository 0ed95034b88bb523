"""Opening a worker's TUN device and its transparent listeners."""

from __future__ import annotations

import fcntl
import os
import struct
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_RECVHOPLIMIT,
    SO_OOBINLINE,
    SO_RCVBUF,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    if_nameindex,
    socket,
)

from appliance.dataplane import listener_port, tun_name
from appliance.errors import IsthmusError

_TUNSETIFF = 0x400454CA
_TUNGETFEATURES = 0x800454CF
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IP_TRANSPARENT = 19
_IP_RECVORIGDSTADDR = 20
_IPV6_RECVORIGDSTADDR = 74
_IPV6_TRANSPARENT = 75
# Handshakes that are done and wait for the worker: a tenth of a second's worth of new sessions.
LISTEN_BACKLOG = 4_096
# Datagrams that wait for the worker: some five thousand small ones, what comes while it is replaced. More
# would only make a flood's queue longer. The kernel takes its own maximum where that is less.
DATAGRAM_ROOM = 4 << 20


class DataplaneError(IsthmusError):
    """What control should have built is not there, or not ours to use."""

    code = "dataplane-missing"


def has_tun() -> bool:
    """Whether the kernel makes TUN devices here; control asks the same, and builds without where not."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def open_tun(worker: int) -> int:
    """A descriptor of the worker's TUN, whole IPv6 packets without a header in front.

    The device is control's work; opening one that is not there would need the right to make it, and
    would leave it without routes.
    """
    name = tun_name(worker)
    if name not in {device for _index, device in if_nameindex()}:
        raise DataplaneError(f"there is no device {name}", "Start isthmus-control first: it makes it.")
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise DataplaneError(
            f"/dev/net/tun cannot be opened: {error.strerror}", "Load the kernel's tun module."
        ) from None
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22s", name.encode(), _IFF_TUN | _IFF_NO_PI, b""))
    except OSError as error:
        os.close(fd)
        raise DataplaneError(
            f"the device {name} cannot be used: {error.strerror}",
            "isthmus-control makes it for this user; is another proxy running?",
        ) from None
    return fd


def open_listener(worker: int) -> socket:
    """The worker's transparent listener on [::1]; nftables hands released SYNs to it."""
    sock = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        sock.setsockopt(IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # accepted sockets inherit these
        sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)
        sock.bind(("::1", listener_port(worker)))
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        sock.close()
        raise _no_listener(worker, error) from None
    return sock


def open_from_clients(worker: int) -> socket:
    """The worker's transparent UDP socket on [::1]: nftables hands its clients' datagrams to it.

    Bound to no destination, it is the only one of its kind: no other worker's socket shares its group.
    Each datagram comes with where it was sent to, and with its hop limit.
    """
    options = [
        (IPPROTO_IPV6, option) for option in (_IPV6_TRANSPARENT, _IPV6_RECVORIGDSTADDR, IPV6_RECVHOPLIMIT)
    ]
    return _open_datagrams(worker, AF_INET6, "::1", options)


def open_from_origins(worker: int) -> socket:
    """The worker's transparent UDP socket on 127.0.0.1: nftables hands the origins' datagrams to it."""
    options = [(IPPROTO_IP, option) for option in (_IP_TRANSPARENT, _IP_RECVORIGDSTADDR)]
    return _open_datagrams(worker, AF_INET, "127.0.0.1", options)


def _open_datagrams(worker: int, family: int, address: str, options: list[tuple[int, int]]) -> socket:
    sock = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
    try:
        for level, option in options:
            sock.setsockopt(level, option, 1)
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, DATAGRAM_ROOM)
        sock.bind((address, listener_port(worker)))
    except OSError as error:
        sock.close()
        raise _no_listener(worker, error) from None
    return sock


def _no_listener(worker: int, error: OSError) -> DataplaneError:
    hint = "The proxy needs CAP_NET_RAW." if isinstance(error, PermissionError) else ""
    return DataplaneError(f"no transparent listener on port {listener_port(worker)}: {error.strerror}", hint)
