"""A VLAN of a tap by hand: a host of its own behind tagged frames, on machines whose kernel has no 802.1Q.

guest namespace [ eth0: a tap ] ── untagged ── Tagged ── tag N ── packet socket on its port ── QEMU
"""

from __future__ import annotations

import os
import select
import struct
import threading
from contextlib import ExitStack
from socket import AF_PACKET, PACKET_OUTGOING, SOCK_RAW, htons, socket
from types import TracebackType

from tests.lab.netns import Namespace

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_AUXDATA, _PACKET_VNET_HDR = 8, 15
_AUXDATA = struct.Struct("=IIIHHHH")  # status, length, captured, MAC's and network's place, tag, its protocol
_VLAN_VALID = 1 << 4
# struct virtio_net_hdr: what the kernel has left for a network card to do (checksums, segments). Passed on.
_HEADER = 10
# One segment that the far kernel has yet to cut, with its headers.
_MAX_FRAME = 70_000
_TAG = 0x8100


class Tagged:
    """A context manager: the host ``guest`` is on VLAN ``vlan`` of ``interface`` in ``trunk``."""

    def __init__(self, trunk: Namespace, interface: str, guest: Namespace, vlan: int) -> None:
        self._trunk = trunk
        self._interface = interface
        self._guest = guest
        self._vlan = vlan
        self._stack = ExitStack()

    def __enter__(self) -> Tagged:
        with ExitStack() as stack:
            tap = self._guest.open_tap("eth0")
            stack.callback(os.close, tap)
            self._guest.run("ip", "link", "set", "eth0", "up")
            port = stack.enter_context(self._trunk.call(self._open))
            stop, wake = os.pipe()
            stack.callback(os.close, stop)
            thread = threading.Thread(target=self._pump, args=(tap, port, stop), name="vlan", daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(os.close, wake)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> socket:
        port = socket(AF_PACKET, SOCK_RAW, htons(_ETH_P_ALL))
        port.bind((self._interface, _ETH_P_ALL))
        for option in (_PACKET_AUXDATA, _PACKET_VNET_HDR):
            port.setsockopt(_SOL_PACKET, option, 1)
        port.setblocking(False)
        return port

    def _pump(self, tap: int, port: socket, stop: int) -> None:
        while True:
            ready = select.select([tap, port, stop], [], [])[0]
            if stop in ready:
                return
            if port in ready:
                self._untag(port, tap)
            if tap in ready:
                self._tag(tap, port)

    def _untag(self, port: socket, tap: int) -> None:
        """The kernel has taken the tag out of the frame, and tells it beside it."""
        try:
            frame, control, _flags, address = port.recvmsg(_MAX_FRAME, 64)
        except OSError:
            return
        if address[2] == PACKET_OUTGOING:
            return
        for _level, kind, data in control:
            if kind == _PACKET_AUXDATA:
                status, *_places, tag, _protocol = _AUXDATA.unpack_from(data)
                if status & _VLAN_VALID and tag & 0xFFF == self._vlan:
                    os.write(tap, frame)

    def _tag(self, tap: int, port: socket) -> None:
        try:
            data = os.read(tap, _MAX_FRAME)
            addresses = data[_HEADER : _HEADER + 12]
            tag = struct.pack("!HH", _TAG, self._vlan)
            port.send(bytes(_HEADER) + addresses + tag + data[_HEADER + 12 :])
        except OSError:  # the far end is off: a wire loses it
            return
