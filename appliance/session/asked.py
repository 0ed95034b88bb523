"""Which name a client asked for when it was given an address: written by the DNS front, read by all workers.

One file in the runtime folder that every process maps. It is a hash table of buckets:

    head   of each of four slots: a tag, until when it is good, when it was written      64 octets
    slots  check, until, length     9 octets: CRC-32 of what follows; steady seconds; octets of the name
           client, address          16 each; IPv4 addresses are mapped ones (RFC 4291 section 2.5.5.2)
           name                     in small letters, without the final dot

What costs is memory that is in no processor's cache: a look-up touches the head and one slot's beginning.

There is one writer and no lock. A reader that meets a slot just being written sees that by the check; a
number counted up before and after would need an order of stores that Python does not promise.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from pathlib import Path
from zlib import crc32

from appliance.files import GROUP_READABLE, whole

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

_HEADER = struct.Struct("=8sI52x")
_HEADER_SIZE = _HEADER.size
_MAGIC = b"isth-as2"
_HEAD = struct.Struct("=4I4I4I16x")
_HEAD_SIZE = _HEAD.size
_TAGS, _ENTRY = struct.Struct("=4I"), struct.Struct("=I")
_UNTIL_AT, _WHEN_AT = _TAGS.size, 2 * _TAGS.size
_CHECKED = _ENTRY.size  # where what the check covers begins
_BODY = struct.Struct("=IB32s")
_LENGTH_AT, _KEY_AT, _NAME_AT = 4, 5, _BODY.size  # in the body
_SLOT = 304
_BUCKET = _HEAD.size + _WAYS * _SLOT
_BUCKETS = SLOTS // _WAYS
_BUCKETS_OF_REGION = _BUCKETS // _REGIONS
SIZE = _HEADER.size + _BUCKETS * _BUCKET
assert _CHECKED + _NAME_AT + MAX_NAME <= _SLOT


class Asked:
    """The table in a mapping of SIZE octets; ValueError where that is none."""

    __slots__ = ("_buffer", "_octets", "_words")

    def __init__(self, buffer: mmap.mmap) -> None:
        magic, slots = _HEADER.unpack_from(buffer)
        if magic != _MAGIC or slots != SLOTS or len(buffer) != SIZE:
            raise ValueError("this is no table of names of this version")
        self._buffer = buffer
        self._octets = memoryview(buffer)
        self._words = memoryview(buffer).cast("I")  # the same, as the tags stand in it

    def store(self, client: bytes, address: bytes, name: bytes, now: int, until: int) -> None:
        """``client`` asked for ``name`` and is being told ``address``. For the one writer."""
        buffer, key = self._buffer, client + address
        bucket, tag = _place_of(key)
        number = _slot_of(_HEAD.unpack_from(buffer, bucket), tag, now)
        body = _BODY.pack(until, len(name), key) + name
        slot = bucket + _HEAD.size + number * _SLOT
        buffer[slot : slot + _CHECKED + len(body)] = _ENTRY.pack(crc32(body)) + body
        # Of two keys with one tag in one bucket, the later has the slot.
        place = bucket + number * _ENTRY.size
        _ENTRY.pack_into(buffer, place, tag)
        _ENTRY.pack_into(buffer, place + _UNTIL_AT, until)
        _ENTRY.pack_into(buffer, place + _WHEN_AT, now)

    def lookup(self, client: bytes, address: bytes, now: float) -> str:
        """The name that ``client`` asked for last and was given ``address`` for; "" where it did not."""
        buffer, key = self._buffer, client + address
        bucket, tag = _place_of(key)
        # Most addresses have no name, so that is told before anything is made.
        words, at = self._words, bucket // 4
        if words[at] == tag:
            number = 0
        elif words[at + 1] == tag:
            number = 1
        elif words[at + 2] == tag:
            number = 2
        elif words[at + 3] == tag:
            number = 3
        else:
            return ""
        body = bucket + _HEAD_SIZE + number * _SLOT + _CHECKED
        for _ in range(_TRIES):
            check, until = words[body // 4 - 1], words[body // 4]
            checked = buffer[body : body + _NAME_AT + self._octets[body + _LENGTH_AT]]
            if crc32(checked) == check:
                if now > until or checked[_KEY_AT:_NAME_AT] != key:
                    return ""
                return checked[_NAME_AT:].decode("ascii", "replace")
        return ""


def _place_of(key: bytes) -> tuple[int, int]:
    """Where the bucket of a client and an address begins, and the tag, which is never 0.

    By no secret hash: who would push a note out by collisions can do so by as many names. The region is by
    the client's address alone.
    """
    digest, octets = crc32(key), key
    region = (octets[13] ^ octets[14] ^ octets[15]) % _REGIONS
    return _HEADER_SIZE + (digest % _BUCKETS_OF_REGION * _REGIONS + region) * _BUCKET, digest | 1


def _slot_of(head: tuple[int, ...], tag: int, now: int) -> int:
    """The slot with this tag; or else one that is over, or the one that was written first."""
    tags, untils, whens = head[:_WAYS], head[_WAYS : 2 * _WAYS], head[2 * _WAYS :]
    if tag in tags:
        return tags.index(tag)
    for number, until in enumerate(untils):
        if until < now:
            return number
    return whens.index(min(whens))


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
    with whole(path, GROUP_READABLE, path.parent.stat().st_gid, synced=False) as out:
        # All of its memory at once: to miss some later would kill whoever touches it.
        os.posix_fallocate(out.fileno(), 0, SIZE)
        os.pwrite(out.fileno(), _HEADER.pack(_MAGIC, SLOTS), 0)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


class AskedNames:
    """The same for readers, who may come before the file and see it replaced."""

    __slots__ = ("_identity", "_looked", "_path", "_table")

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
