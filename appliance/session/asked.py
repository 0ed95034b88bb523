"""Which name a client asked for when it was given an address: written by the DNS front, read by all workers.

One file in the runtime folder that every process maps. It is a hash table of slots, four to a bucket:

    check, when, until, length     13 octets: CRC-32 of what follows; steady seconds; octets of the name
    client, address                16 each; IPv4 addresses are mapped ones (RFC 4291 section 2.5.5.2)
    name                           in small letters, without the final dot

There is one writer and no lock. A reader that meets a slot just being written sees that by the check; a
number counted up before and after would need an order of stores that Python does not promise.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import zlib
from hashlib import blake2b
from pathlib import Path

FILE = "names"  # in the DNS front's part of the runtime folder
# 250 clients with 130 addresses that are still good for them; 10 MB. Beyond, the oldest go first.
SLOTS = 32_768
# One client that asks for ten thousand names pushes out those of one sixteenth of the others.
_REGIONS = 16
_WAYS = 4
# Octets of a name that are kept: those that a name has at most (RFC 1035 section 2.3.4).
MAX_NAME = 253
# Seconds that an address counts as the name's after its TTL: browsers keep addresses for minutes, whatever
# the TTL says. Longer calls a session by a name that its client has forgotten.
GRACE = 600
# Times that a reader looks again at a slot that is being written, which takes a microsecond.
_TRIES = 4
# Seconds between two looks for the file, or for a new one.
LOOK = 1.0

_HEADER = struct.Struct("=8sI16s36x")
_MAGIC = b"isth-as1"
_HEAD = struct.Struct("=IIIB")
_CHECKED = 4  # where what the check covers begins
_KEY_AT = _HEAD.size
_NAME_AT = _KEY_AT + 32
_SLOT = 304
_BUCKET = _WAYS * _SLOT
_BUCKETS = SLOTS // _WAYS
SIZE = _HEADER.size + SLOTS * _SLOT
assert _NAME_AT + MAX_NAME <= _SLOT


class Asked:
    """The table in a mapping of SIZE octets; ValueError where that is none."""

    __slots__ = ("_buffer", "_key")

    def __init__(self, buffer: mmap.mmap) -> None:
        magic, slots, self._key = _HEADER.unpack_from(buffer)
        if magic != _MAGIC or slots != SLOTS or len(buffer) != SIZE:
            raise ValueError("this is no table of names of this version")
        self._buffer = buffer

    def _bucket(self, key: bytes) -> int:
        region = zlib.crc32(key[:16]) % _REGIONS
        number = int.from_bytes(blake2b(key, digest_size=8, key=self._key).digest(), "little")
        return _HEADER.size + (region + number % (_BUCKETS // _REGIONS) * _REGIONS) * _BUCKET

    def store(self, client: bytes, address: bytes, name: bytes, now: int, until: int) -> None:
        """``client`` asked for ``name`` and is being told ``address``. For the one writer."""
        key = client + address
        at = self._bucket(key)
        bucket = self._buffer[at : at + _BUCKET]
        slot = _slot_of(bucket, key)
        if slot < 0:
            slot = _oldest(bucket, now)
        body = _HEAD.pack(0, now, until, len(name))[_CHECKED:] + key + name
        at += slot
        self._buffer[at : at + _CHECKED + len(body)] = zlib.crc32(body).to_bytes(4, "little") + body

    def lookup(self, client: bytes, address: bytes, now: float) -> str:
        """The name that ``client`` asked for last and was given ``address`` for; "" where it did not."""
        key = client + address
        at = self._bucket(key)
        for _ in range(_TRIES):
            bucket = self._buffer[at : at + _BUCKET]
            slot = _slot_of(bucket, key)
            if slot < 0:
                return ""
            check, _when, until, length = _HEAD.unpack_from(bucket, slot)
            end = slot + _NAME_AT + length
            if zlib.crc32(bucket[slot + _CHECKED : end]) == check:
                return bucket[slot + _NAME_AT : end].decode("ascii", "replace") if now <= until else ""
        return ""


def _slot_of(bucket: bytes, key: bytes) -> int:
    """Where the slot with this key begins; -1 where there is none."""
    at = bucket.find(key)
    while at >= 0 and (at - _KEY_AT) % _SLOT:
        at = bucket.find(key, at + 1)
    return at - _KEY_AT if at >= 0 else -1


def _oldest(bucket: bytes, now: int) -> int:
    """The slot to give up: one that is over, or the one that was written first."""
    best, oldest = 0, now + 1
    for slot in range(0, _BUCKET, _SLOT):
        _check, when, until, _length = _HEAD.unpack_from(bucket, slot)
        if until < now:
            return slot
        if when < oldest:
            best, oldest = slot, when
    return best


def open_to_write(path: Path) -> Asked:
    """The table at ``path``, made where there is none. OSError, also where another writer has it.

    The file's group is its folder's, which may read it.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = _make(path)
    # The lock lasts as long as the descriptor, which is never closed: there is one writer for each process.
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Asked(mmap.mmap(fd, SIZE))
    except ValueError:  # another version's: its readers keep it
        os.close(fd)
    fd = _make(path)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return Asked(mmap.mmap(fd, SIZE))


def _make(path: Path) -> int:
    """A descriptor of a new, empty table."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # All of its memory at once: to miss some later would kill whoever touches it.
        os.posix_fallocate(fd, 0, SIZE)
        os.pwrite(fd, _HEADER.pack(_MAGIC, SLOTS, os.urandom(16)), 0)
        os.fchown(fd, -1, path.parent.stat().st_gid)
        os.fchmod(fd, 0o640)
        fresh.replace(path)
    except BaseException:
        os.close(fd)
        fresh.unlink(missing_ok=True)
        raise
    return fd


class AskedNames:
    """The same for readers, who may come before the file and see it replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table: Asked | None = None
        self._identity = (0, 0)
        self._looked = float("-inf")

    def lookup(self, client: bytes, address: bytes, now: float) -> str:
        """As ``Asked.lookup``; 16 octets each; ``now``: steady seconds."""
        if now - self._looked >= LOOK:
            self._looked = now
            self._refresh()
        return self._table.lookup(client, address, now) if self._table is not None else ""

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
            if (found.st_dev, found.st_ino) == self._identity or found.st_size != SIZE:
                return
            with self._path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                self._table = Asked(mmap.mmap(stream.fileno(), SIZE, prot=mmap.PROT_READ))
            self._identity = (found.st_dev, found.st_ino)
        except (OSError, ValueError):
            pass  # sessions have no name then; the next look is in a second
