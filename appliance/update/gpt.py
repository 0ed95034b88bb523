"""A GUID partition table (UEFI 2.10, section 5.3): read, checked, changed as a value. Pure.

Only what an update needs: a partition's name and its UUID. Sectors have 512 octets.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from uuid import UUID

from appliance.update.versions import UpdateError

SECTOR = 512
ENTRY = 128
# By the specification at least 128; no table that we lay out has more.
MAX_ENTRIES = 128
_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_SIGNATURE = b"EFI PART"
_NAME = 72


@dataclass(frozen=True, slots=True)
class Partition:
    """``index`` counts from 0; ``start`` and ``size`` in octets."""

    index: int
    type: UUID
    uuid: UUID
    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Table:
    """The header's fields and the entries as they stand on the disk."""

    header: bytes  # the fields alone, 92 octets
    entries: bytes

    @property
    def _fields(self) -> tuple[int, ...]:
        """(own sector, other header's sector, entries' sector)."""
        fields = _HEADER.unpack(self.header)
        return fields[5], fields[6], fields[10]

    def partitions(self) -> list[Partition]:
        """Those that are used."""
        found = []
        for index in range(len(self.entries) // ENTRY):
            entry = self.entries[index * ENTRY : (index + 1) * ENTRY]
            kind = UUID(bytes_le=entry[:16])
            if kind.int:
                first, last = struct.unpack_from("<QQ", entry, 32)
                name = entry[56 : 56 + _NAME].decode("utf-16-le", errors="replace").partition("\0")[0]
                size = (last + 1 - first) * SECTOR
                found.append(Partition(index, kind, UUID(bytes_le=entry[16:32]), name, first * SECTOR, size))
        return found

    def named(self, index: int, name: str, uuid: UUID) -> Table:
        """With that partition's name and UUID."""
        text = name.encode("utf-16-le")
        if len(text) > _NAME:
            raise ValueError(f"a partition's name has at most {_NAME // 2} signs: {name}")
        entries = bytearray(self.entries)
        start = index * ENTRY
        entries[start + 16 : start + 32] = uuid.bytes_le
        entries[start + 56 : start + 56 + _NAME] = text.ljust(_NAME, b"\0")
        return replace(self, entries=bytes(entries))

    def writes(self) -> list[tuple[int, bytes]]:
        """(position in octets, what) of the whole table, in the order that a power cut may end anywhere.

        The backup first: while one of the two is torn, the other is whole (section 5.3.2).
        """
        own, other, _ = self._fields
        sectors = len(self.entries) // SECTOR
        backup_entries = other - sectors
        return [
            (backup_entries * SECTOR, self.entries),
            (other * SECTOR, self._sealed(other, own, backup_entries)),
            (2 * SECTOR, self.entries),
            (own * SECTOR, self._sealed(own, other, 2)),
        ]

    def as_primary(self) -> Table:
        """The same, where it was read from the copy at the disk's end."""
        own, other, _ = self._fields
        if own == 1:
            return self
        return replace(self, header=self._sealed(other, own, 2)[: _HEADER.size])

    def _sealed(self, own: int, other: int, entries: int) -> bytes:
        fields = list(_HEADER.unpack(self.header))
        fields[3] = 0
        fields[5], fields[6], fields[10] = own, other, entries
        fields[13] = zlib.crc32(self.entries)
        fields[3] = zlib.crc32(_HEADER.pack(*fields))
        return _HEADER.pack(*fields).ljust(SECTOR, b"\0")


def entries_at(header: bytes) -> tuple[int, int]:
    """(position, length) in octets of the entries that a header's sector tells of; UpdateError."""
    fields = _HEADER.unpack_from(header)
    unsealed = list(fields)
    unsealed[3] = 0
    whole = zlib.crc32(_HEADER.pack(*unsealed)) == fields[3]
    count, size = fields[11], fields[12]
    if fields[0] != _SIGNATURE or fields[2] != _HEADER.size or not whole:
        raise UpdateError("disk", "The disk's partition table is damaged.", _RESTART)
    if size != ENTRY or not 0 < count <= MAX_ENTRIES or count * ENTRY % SECTOR:
        raise UpdateError("disk", "The disk's partition table is none of ours.")
    return fields[10] * SECTOR, count * size


def parse(header: bytes, entries: bytes) -> Table:
    """The table of a header's sector and its entries; UpdateError where they do not fit together."""
    entries_at(header)
    if zlib.crc32(entries) != _HEADER.unpack_from(header)[13]:
        raise UpdateError("disk", "The disk's partition table is damaged.", _RESTART)
    return Table(header[: _HEADER.size], entries)


_RESTART = "Restart the box: the firmware repairs it from its copy."
