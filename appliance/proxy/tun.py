"""Opening a worker's TUN device and its transparent listener."""

from __future__ import annotations

import fcntl
import os
import struct
from socket import (
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    SO_OOBINLINE,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
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
_IPV6_TRANSPARENT = 75
# Handshakes that are done and wait for the worker: a tenth of a second's worth of new sessions.
LISTEN_BACKLOG = 4_096


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
        hint = "The proxy needs CAP_NET_RAW." if isinstance(error, PermissionError) else ""
        raise DataplaneError(
            f"no transparent listener on [::1]:{listener_port(worker)}: {error.strerror}", hint
        ) from None
    return sock
