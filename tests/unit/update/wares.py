"""Bundles, and a disk with two slots in a file, small enough to be written hundreds of times."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.update.gpt import ENTRY, SECTOR, Table
from appliance.update.manifest import PRODUCT, Manifest, Piece, Running, seal
from appliance.update.slots import EMPTY, ESP, ROOT, SIGNATURE, VERITY, Disk

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OLD, NEW = "1.0.0", "1.1.0"
OLD_HASH, NEW_HASH = "0a" * 32, "1b" * 32
RUNNING = Running(OLD, OLD)
DATA = UUID("4d21b016-b534-45c2-a9fb-5c16e091fd2d")
_PARTS = (
    (ESP, 8),
    (ROOT, 16),
    (VERITY, 8),
    (SIGNATURE, 2),
    (ROOT, 16),
    (VERITY, 8),
    (SIGNATURE, 2),
    (DATA, 4),
)
CONTENT = {"root": b"root " * 1_000, "verity": b"hash" * 500, "signature": b"s" * 700, "kernel": b"MZ" * 900}


@dataclass(frozen=True, slots=True)
class Bundle:
    """One in memory."""

    manifest: Manifest
    head: bytes
    body: bytes

    @property
    def octets(self) -> bytes:
        """The file."""
        return self.head + self.body


def bundle(
    version: str = NEW,
    product: str = PRODUCT,
    least: str = "0.1",
    key: Ed25519PrivateKey = KEY,
    root_hash: str = NEW_HASH,
) -> Bundle:
    """A good one, but for what is asked for."""
    pieces = tuple(Piece(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())
    manifest = Manifest(product, version, least, root_hash, pieces)
    return Bundle(manifest, seal(manifest, key), b"".join(CONTENT.values()))


def make_disk(path: Path) -> None:
    """With ``OLD`` in slot A, and B empty."""
    entries, start = b"", 34
    for kind, sectors in _PARTS:
        entries += (
            kind.bytes_le + os.urandom(16) + struct.pack("<QQQ", start, start + sectors - 1, 0) + bytes(72)
        )
        start += sectors
    entries = entries.ljust(128 * ENTRY, b"\0")
    last = start + 40
    with path.open("wb") as stream:
        stream.truncate((last + 1) * SECTOR)
    header = struct.pack(
        "<8s4sIIIQQQQ16sQIII",
        b"EFI PART",
        b"\0\0\1\0",
        92,
        0,
        0,
        1,
        last,
        34,
        start,
        bytes(16),
        2,
        128,
        128,
        0,
    )
    table = Table(header, entries)
    for index, half in ((1, OLD_HASH[:32]), (2, OLD_HASH[32:])):
        table = table.named(index, f"isthmus_{OLD}", UUID(half))
    for index in (4, 5, 6):
        table = table.named(index, EMPTY, UUID(int=index))
    with Disk(path) as disk:
        disk.put_table(table)
