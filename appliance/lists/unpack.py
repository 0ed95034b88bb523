"""gzip undone a little at a time (RFC 1952), told by its own first octets. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable

# Octets that come out at once: a thousandth of them may unpack to this, and the receiver counts.
STEP = 65_536
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's number for 32 KiB with gzip's header


class UnpackError(Exception):
    """Not what gzip makes, or not all of it; in words."""


class Unpacker:
    """Give it what comes; ``sink`` gets it unpacked, or as it is where it is not gzip."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._head = b""
        self._packed: bool | None = None
        self._member: zlib._Decompress | None = None

    def feed(self, data: bytes) -> None:
        """The next octets; UnpackError, and what ``sink`` raises."""
        if self._packed is None:
            data = self._head + data
            self._head = b""
            if len(data) < len(_GZIP) and _GZIP.startswith(data):
                self._head = data
                return
            self._packed = data.startswith(_GZIP)
        if not self._packed:
            self._sink(data)
            return
        while data:
            if self._member is None:
                self._member = zlib.decompressobj(_GZIP_WINDOW)
            data = self._unpack(self._member, data)

    def _unpack(self, member: zlib._Decompress, data: bytes) -> bytes:
        """What is left behind the member, which may be followed by others."""
        while not member.eof:
            try:
                out = member.decompress(data, STEP)
            except zlib.error:
                raise UnpackError("cannot be unpacked: this is no sound gzip") from None
            self._sink(out)
            data = member.unconsumed_tail
            if not data and len(out) < STEP:
                break
        if not member.eof:
            return b""
        self._member = None
        return member.unused_data

    def finish(self) -> None:
        """The end; UnpackError where something is missing."""
        if self._packed is None and self._head:
            self._sink(self._head)
        if self._member is not None:
            raise UnpackError("cannot be unpacked: its end is missing")
