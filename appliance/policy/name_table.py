"""A set of names as one flat buffer: built once, then looked into by all workers through one mapping. Pure.

    header   magic, slots, names, flags, key               64 octets, native byte order
    slots    60 bits of a name's digest, 4 bits of flags    8 octets each, 0: free

A name is found by open addressing from its digest. The digest is a polynomial over the name's labels, the
last one first, modulo a prime: so one pass over a name gives the digests of all that it is below, too. Its
base is secret and random for each table: two names have one digest with a probability of 2^-60, and nobody
can look for such a pair without the table.
"""

from __future__ import annotations

import struct
from array import array
from typing import BinaryIO

# What an entry covers, and what it takes out.
EXACT, BELOW, EXEMPT_EXACT, EXEMPT_BELOW = 1, 2, 4, 8
EXEMPT = EXEMPT_EXACT | EXEMPT_BELOW
# The longest public lists have 5 million. More costs memory on every box: 16 octets a name at most.
MAX_NAMES = 8_000_000
# Octets of the digest's base.
KEY = 16

_HEADER = struct.Struct("=8sQQQ16s16x")
_MAGIC = b"isth-nt1"
_EXCEPTIONS_WIN = 1
_MIN_SLOTS = 16
_FLAGS = 0xF
_DIGEST = (1 << 64) - 16

_PRIME = (1 << 127) - 1
# A label is digested by pieces. The last one, of at most 14 octets, says by its top bits that it is the last
# and how long it is: so two rows of labels give two rows of numbers.
_PIECE = 14
_ENDS = [(16 + length) << 112 for length in range(_PIECE + 1)]


class TableError(Exception):
    """The buffer is no table; in words."""


def _base(key: bytes) -> int:
    return int.from_bytes(key, "little") % (_PRIME - 2) + 2


class TableBuilder:
    """Collects names, then writes the table. ``key``: KEY random octets, for this table alone."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._base = _base(key)
        self._entries = array("Q")

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: bytes, flags: int) -> None:
        """A name in small letters without the final dot; ValueError beyond MAX_NAMES."""
        if len(self._entries) >= MAX_NAMES:
            raise ValueError(f"has more than {MAX_NAMES:,} names")
        base, digest = self._base, 0
        for label in reversed(name.split(b".")):
            while len(label) > _PIECE:
                digest = (digest + int.from_bytes(label[:_PIECE], "big")) * base % _PRIME
                label = label[_PIECE:]
            digest = (digest + _ENDS[len(label)] + int.from_bytes(label, "big")) * base % _PRIME
        self._entries.append((digest << 4 & _DIGEST) | flags)

    def write(self, out: BinaryIO, exceptions_win: bool = False) -> int:
        """Write the table; returns the number of different names. OSError is the caller's."""
        count = len(self._entries)
        slots = _MIN_SLOTS
        while slots * 3 < count * 4:  # at most three quarters full
            slots *= 2
        table = array("Q", bytes(8)) * slots
        mask = slots - 1
        different = 0
        for entry in self._entries:
            digest = entry & _DIGEST
            at = entry >> 4 & mask
            held = table[at]
            while held and held & _DIGEST != digest:
                at = at + 1 & mask
                held = table[at]
            if not held:
                different += 1
            table[at] = held | entry
        flags = _EXCEPTIONS_WIN if exceptions_win else 0
        out.write(_HEADER.pack(_MAGIC, slots, different, flags, self._key))
        with memoryview(table) as octets:
            out.write(octets.cast("B"))
        return different


class NameTable:
    """A table in ``buffer``, which stays as it is. TableError where it is none."""

    __slots__ = ("_base", "_exceptions_win", "_mask", "_slots", "names")

    def __init__(self, buffer: bytes | memoryview) -> None:
        view = memoryview(buffer)
        if len(view) < _HEADER.size:
            raise TableError("the table is cut off")
        magic, slots, names, flags, key = _HEADER.unpack_from(view)
        if magic != _MAGIC:
            raise TableError("this is no table of names of this version")
        # A free slot ends each search; without one it would go on for ever.
        if len(view) != _HEADER.size + 8 * slots or slots & (slots - 1) or names >= slots:
            raise TableError("the table is cut off")
        self.names: int = names
        self._slots = view[_HEADER.size :].cast("Q")
        self._mask = slots - 1
        self._base = _base(key)
        self._exceptions_win = bool(flags & _EXCEPTIONS_WIN)

    def __len__(self) -> int:
        return self.names

    def __contains__(self, name: str) -> bool:
        return bool(self.find(name))

    def find(self, name: str) -> str:
        """The entry that ``name`` (small letters, no final dot) is, or is below; "" for none.

        Of two that say different things the longer wins, or the exception (``exceptions_win``).
        """
        slots, mask, base, digest = self._slots, self._mask, self._base, 0
        labels = name.encode("utf-8", "replace").split(b".")
        found = depth = 0
        last = len(labels)
        covers, exempts = BELOW, EXEMPT_BELOW
        for label in reversed(labels):
            while len(label) > _PIECE:
                digest = (digest + int.from_bytes(label[:_PIECE], "big")) * base % _PRIME
                label = label[_PIECE:]
            digest = (digest + _ENDS[len(label)] + int.from_bytes(label, "big")) * base % _PRIME
            depth += 1
            at = digest & mask
            held = slots[at]
            if not held:
                continue
            if depth == last:
                covers, exempts = EXACT, EXEMPT_EXACT
            sought = digest << 4 & _DIGEST
            while held:
                if held & _DIGEST == sought:
                    if held & exempts:
                        if self._exceptions_win:
                            return ""
                        found = 0
                    elif held & covers:
                        found = depth
                    break
                at = at + 1 & mask
                held = slots[at]
        if not found:
            return ""
        return ".".join(name.split(".")[last - found :])
