"""Files that are put in the place of older ones, whole: whoever reads finds the old text or the new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# The users' hashes are in them.
PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
# What the box's daemons show each other.
GROUP_READABLE = 0o640


@contextlib.contextmanager
def whole(path: Path, mode: int = PRIVATE, group: int = -1, synced: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of the one at ``path`` at the end; OSError changes nothing.

    A reader finds what was there before or all that was written. ``synced``: also after a power cut, for what
    is written is on the disk before it gets its name, and the name before anything that is written later.
    ``group`` (-1: the process') and others see no part of it before all of it is theirs.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a run that was cut off
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o600)
    try:
        with open(descriptor, "wb") as out:  # noqa: PTH123 - of a descriptor
            yield out
            out.flush()
            if group != -1:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            if synced:
                os.fsync(descriptor)
        os.replace(fresh, path)  # noqa: PTH105 - one system call, as the tests count them
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if synced:
        sync_folder(path.parent)


def put(path: Path, text: str) -> None:
    """Write the file whole, for nobody but its owner, and on the disk when this returns; OSError."""
    with whole(path) as out:
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(out.fileno(), rest) :]


def show(path: Path, text: str) -> None:
    """Write a file that only tells of now, for the box's daemons; OSError. A power cut may take it along."""
    with whole(path, GROUP_READABLE, synced=False) as out:
        out.write(text.encode())


def sync_folder(folder: Path) -> None:
    """What was renamed or removed in the folder is so on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
