"""The disk of the box: which slot runs, and how the other is written, in an order that may end anywhere."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from uuid import UUID, uuid5

from appliance.update.gpt import ENTRY, MAX_ENTRIES, SECTOR, Partition, Table, entries_at, parse
from appliance.update.kernels import Kernels
from appliance.update.manifest import Manifest, Piece
from appliance.update.versions import UpdateError

# The Discoverable Partitions Specification's types for x86-64.
ROOT = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
VERITY = UUID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")
SIGNATURE = UUID("41092b05-9fc8-4523-994f-2def0408b176")
ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
EMPTY = "_empty"
_BLKZEROOUT = 0x127F
# Large enough that no system call counts, small enough to be nothing in memory.
_CHUNK = 1 << 20
_HEADERS = 2 * SECTOR + MAX_ENTRIES * ENTRY


@dataclass(frozen=True, slots=True)
class Slot:
    """The three partitions of a version."""

    root: Partition
    verity: Partition
    signature: Partition

    @property
    def parts(self) -> dict[str, Partition]:
        """By the names of the manifest's pieces."""
        return {"root": self.root, "verity": self.verity, "signature": self.signature}


def root_uuids(root_hash: str) -> tuple[UUID, UUID]:
    """(root's, verity's) partition UUIDs, by which the initrd finds what a root hash belongs to."""
    return UUID(root_hash[:32]), UUID(root_hash[32:])


def slots(table: Table) -> list[Slot]:
    """Those of the disk, in its order; UpdateError where it is not laid out as ours."""
    found = table.partitions()
    parts = [[one for one in found if one.type == kind] for kind in (ROOT, VERITY, SIGNATURE)]
    if [len(one) for one in parts] != [2, 2, 2]:
        raise UpdateError(
            "disk",
            "The disk does not have two slots.",
            "The first boot makes the second one; its disk needs 2 GB.",
        )
    return [Slot(*three) for three in zip(*parts, strict=True)]


def other_slot(table: Table, root_hash: str) -> Slot:
    """The one that does not run; UpdateError where the running one is not found."""
    both = slots(table)
    uuids = root_uuids(root_hash)
    running = [(one.root.uuid, one.verity.uuid) == uuids for one in both]
    if running.count(True) != 1:
        raise UpdateError("disk", "The running version's slot is not on this disk.")
    return both[running.index(False)]


class Disk:
    """A disk (or a file in its place), opened to be written."""

    def __init__(self, path: Path) -> None:
        """OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self) -> Disk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def read(self, position: int, length: int) -> bytes:
        """Exactly so much, or less at the disk's end."""
        found = b""
        while len(found) < length and (
            data := os.pread(self._file, length - len(found), position + len(found))
        ):
            found += data
        return found

    def write(self, position: int, data: bytes) -> None:
        """All of it."""
        rest = memoryview(data)
        while rest:
            count = os.pwrite(self._file, rest, position)
            rest, position = rest[count:], position + count

    def zero(self, position: int, length: int) -> None:
        """Nothing but zeros there; a disk does that by itself, faster than we could send them."""
        start = min(-position % SECTOR, length)
        if start:
            self.write(position, bytes(start))
        position, length = position + start, length - start
        if not length:
            return
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._file, _BLKZEROOUT, struct.pack("<QQ", position, length))
            return
        while length:
            part = min(length, _CHUNK)
            self.write(position, bytes(part))
            position, length = position + part, length - part

    def sync(self) -> None:
        """On the disk, and the disk's own cache emptied."""
        os.fsync(self._file)

    def digest(self, position: int, length: int) -> str:
        """SHA-256 of what the disk itself has there."""
        os.posix_fadvise(self._file, position, length, os.POSIX_FADV_DONTNEED)
        found = hashlib.sha256()
        end = position + length
        while position < end:
            data = os.pread(self._file, min(_CHUNK, end - position), position)
            if not data:
                break
            found.update(data)
            position += len(data)
        return found.hexdigest()

    def table(self) -> Table:
        """The partition table: the primary one, or where that is torn its copy at the disk's end."""
        try:
            return self._table(self.read(SECTOR, SECTOR))
        except UpdateError:
            size = os.lseek(self._file, 0, os.SEEK_END)
            return self._table(self.read(size - SECTOR, SECTOR)).as_primary()

    def _table(self, header: bytes) -> Table:
        position, length = entries_at(header)
        return parse(header, self.read(position, length))

    def put_table(self, table: Table) -> None:
        """Each step is on the disk before the next: at any time one of the two copies is whole."""
        steps = table.writes()
        for half in (steps[:2], steps[2:]):
            for position, data in half:
                self.write(position, data)
            self.sync()


def fits(manifest: Manifest, slot: Slot) -> None:
    """UpdateError where a piece is larger than its partition."""
    for piece in manifest.pieces:
        part = slot.parts.get(piece.name)
        if part is not None and piece.length > part.size:
            raise UpdateError(
                "no-room",
                f"The update's piece “{piece.name}” does not fit this box's slot.",
                "Back up, write the new image to the disk, restore.",
            )


def write(
    manifest: Manifest,
    pieces: Iterable[tuple[Piece, bytes]],
    disk: Disk,
    running_hash: str,
    kernels: Kernels,
    trial: Callable[[], None],
) -> None:
    """Put a version that was verified whole into the other slot; ``pieces`` verifies it once more.

    A power cut leaves the running version the one that boots, until the kernel's name appears at the very
    end; then the slot is whole, read back and found right. ``trial`` is called just before that.
    """
    table = disk.table()
    slot = other_slot(table, running_hash)
    fits(manifest, slot)
    # Nothing may name the slot while it is written over.
    kernels.keep_only()
    parts = list(slot.parts.values())
    if any(part.name != EMPTY for part in parts):
        for part in parts:
            table = table.named(part.index, EMPTY, part.uuid)
        disk.put_table(table)
    position = 0
    last: Piece | None = None
    with kernels.fresh() as kernel:
        for piece, data in pieces:
            if piece != last:
                last, position = piece, 0
            target = slot.parts.get(piece.name)
            if target is None:
                kernel.write(data)
            else:
                disk.write(target.start + position, data)
            position += len(data)
        for piece in manifest.pieces:
            target = slot.parts.get(piece.name)
            if target is not None:
                disk.zero(target.start + piece.length, target.size - piece.length)
        disk.sync()
        for piece in manifest.pieces:
            target = slot.parts.get(piece.name)
            if target is not None and disk.digest(target.start, piece.length) != piece.sha256:
                words = "The disk does not give back what was written to it."
                raise UpdateError("disk", words, "Back up the box and replace its disk.")
        root, verity = root_uuids(manifest.root_hash)
        uuids = (root, verity, uuid5(root, "signature"))
        for part, uuid in zip(parts, uuids, strict=True):
            table = table.named(part.index, f"isthmus_{manifest.version}", uuid)
        disk.put_table(table)
        trial()
        kernels.install(kernel, manifest.version)
