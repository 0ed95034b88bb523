"""Packet capture: some seconds of one device's frames, kept in memory as a pcap file until the next one.

The frames are read here and not by a tool: that would have to change its user, which control may not do.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from appliance.control.diagnostics import DiagnosticError

# Longer belongs to a tool of its own. Frames that do not match cost a processor while they are read.
MAX_SECONDS = 60
# Kept in memory, which small boxes have 1 GiB of.
MAX_OCTETS = 8 << 20
# Of each frame. Less cuts off a jumbo frame; the loopback's are longer, and of no interest.
SNAP = 9_216
# Frames that wait to be read. Less loses those of a burst, which are counted; the kernel doubles it.
_RECEIVE_BUFFER = 4 << 20
# One answer of control's: a download of several of them, each well below what its client reads.
PART = 2 << 20
_POLL = 0.25

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_IPV4, _IPV6, _VLANS = 0x0800, 0x86DD, (0x8100, 0x88A8)
_WITH_PORTS = (6, 17, 132)  # TCP, UDP, SCTP
# Headers of IPv6 that another follows, whose length they tell (RFC 8200 section 4).
_EXTENSIONS = (0, 43, 60)
_FRAGMENT = 44

# Magic of microseconds, version 2.4, and Ethernet's link type, 1.
HEAD = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAP, 1)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which frames are kept: to or from the host, to or from the port; None: any."""

    host: IPv4Address | IPv6Address | None = None
    port: int | None = None

    def matches(self, frame: bytes) -> bool:
        """Of an Ethernet frame; a fragment without ports matches no port."""
        if self.host is None and self.port is None:
            return True
        at = 12
        while (kind := int.from_bytes(frame[at : at + 2], "big")) in _VLANS:
            at += 4
        at += 2
        if kind == _IPV4 and len(frame) >= at + 20:
            ends = (frame[at + 12 : at + 16], frame[at + 16 : at + 20])
            protocol = frame[at + 9]
            is_first = not int.from_bytes(frame[at + 6 : at + 8], "big") & 0x1FFF
            at += 4 * (frame[at] & 15)
        elif kind == _IPV6 and len(frame) >= at + 40:
            ends = (frame[at + 8 : at + 24], frame[at + 24 : at + 40])
            protocol, at, is_first = _upper(frame, at)
        else:
            return False
        if self.host is not None and self.host.packed not in ends:
            return False
        if self.port is None:
            return True
        wanted = self.port.to_bytes(2, "big")
        return is_first and protocol in _WITH_PORTS and wanted in (frame[at : at + 2], frame[at + 2 : at + 4])


def _upper(frame: bytes, at: int) -> tuple[int, int, bool]:
    """The upper protocol of an IPv6 packet, where it begins, and whether it is the first fragment."""
    protocol, at, is_first = frame[at + 6], at + 40, True
    while len(frame) >= at + 8:
        if protocol in _EXTENSIONS:
            protocol, at = frame[at], at + 8 + 8 * frame[at + 1]
        elif protocol == _FRAGMENT:
            is_first = int.from_bytes(frame[at + 2 : at + 4], "big") < 8
            protocol, at = frame[at], at + 8
        else:
            break
    return protocol, at, is_first


def record(moment: float, frame: bytes, length: int) -> bytes:
    """A frame as pcap has it; ``length``: what it had on the wire."""
    seconds, rest = divmod(int(moment * 1e6), 1_000_000)
    return struct.pack("<IIII", seconds & 0xFFFFFFFF, rest, len(frame), length) + frame


def asked(host: str, port: int | None, seconds: int, octets: int) -> Filter:
    """What is to be kept; DiagnosticError."""
    if not 1 <= seconds <= MAX_SECONDS:
        raise DiagnosticError(f"{seconds} s is not 1 to {MAX_SECONDS}.", "Capture for a shorter time.")
    if not 1_000 <= octets <= MAX_OCTETS:
        raise DiagnosticError(f"{octets} octets is not 1000 to {MAX_OCTETS}.", "Capture less.")
    if port is not None and not 1 <= port <= 65_535:
        raise DiagnosticError(f"{port} is no port.", "A port is 1 to 65535.")
    try:
        return Filter(ipaddress.ip_address(host) if host else None, port)
    except ValueError:
        raise DiagnosticError(f"“{host}” is no address.", "Write it like 192.0.2.1 or 2001:db8::1.") from None


class Captures:
    """The last capture, or the one at work."""

    def __init__(self) -> None:
        self._line = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._data = b""
        self._frames = self._lost = 0
        self._device = ""
        self._problem = ""

    def start(self, device: str, host: str, port: int | None, seconds: int, octets: int) -> None:
        """Begin; DiagnosticError where one is at work, or there is no such device."""
        wanted = asked(host, port, seconds, octets)
        with self._line:
            if self._is_busy():
                raise DiagnosticError("A capture is at work already.", "Stop it, or wait until it is done.")
            if device not in [name for _, name in socket.if_nameindex()]:
                raise DiagnosticError(f"There is no device “{device}”.", "`isthmus status` lists the ports.")
            try:
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
                sock.bind((device, _ETH_P_ALL))
            except OSError as error:
                raise DiagnosticError(f"“{device}” cannot be read: {error.strerror}.", "") from None
            self._stop = threading.Event()
            self._data, self._frames, self._lost, self._problem = HEAD, 0, 0, ""
            self._device = device
            work = (sock, wanted, time.monotonic() + seconds, octets, self._stop)
            self._thread = threading.Thread(target=self._read, args=work, name="capture", daemon=True)
            self._thread.start()

    def _is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _read(
        self, sock: socket.socket, wanted: Filter, deadline: float, octets: int, stop: threading.Event
    ) -> None:
        data, frame = bytearray(HEAD), bytearray(SNAP)
        with sock:
            sock.settimeout(_POLL)
            while not stop.is_set() and time.monotonic() < deadline:
                try:
                    # The flag has the whole length told of a frame that is cut.
                    length = sock.recv_into(frame, SNAP, socket.MSG_TRUNC)
                except TimeoutError:
                    continue
                except OSError as error:  # the device went away
                    self._problem = f"The device cannot be read any more: {error.strerror}."
                    break
                kept = bytes(frame[: min(length, SNAP)])
                if not wanted.matches(kept):
                    continue
                row = record(time.time(), kept, length)
                if len(data) + len(row) > octets:
                    break
                data += row
                self._frames += 1
            with contextlib.suppress(OSError):
                self._lost = struct.unpack("II", sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        self._data = bytes(data)

    def status(self) -> dict[str, Any]:
        """The varlink type ``Capture``."""
        busy = self._is_busy()
        return {
            "busy": busy,
            "device": self._device,
            "frames": self._frames,
            "lost": self._lost,
            "octets": 0 if busy else len(self._data),
            "problem": self._problem or None,
        }

    def stop(self) -> None:
        """End the one at work; what it has is kept."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(2 * _POLL + 1)

    def read(self, offset: int) -> bytes:
        """At most PART octets of the file from ``offset`` on, none behind its end; DiagnosticError."""
        if self._is_busy() or not self._data:
            raise DiagnosticError("There is no capture to read.", "Start one, and wait until it is done.")
        if offset < 0:
            raise DiagnosticError(f"{offset} is no place in it.", "Begin at 0.")
        return self._data[offset : offset + PART]
