"""Files that are put in the place of older ones, whole: whoever reads finds the old text or the new one."""

from __future__ import annotations

import os
from pathlib import Path

# The users' hashes are in them.
PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
# What the box's daemons show each other.
GROUP_READABLE = 0o640


def put(path: Path, text: str) -> None:
    """Write the file whole, for nobody but its owner, and on the disk when this returns; OSError.

    A reader finds what was there before or all of ``text``, also after a power cut: the text is on the disk
    before it gets its name, and the name before anything that is written later.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a run that was cut off
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    try:
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(fresh, path)  # noqa: PTH105 - one system call, as the tests count them
    sync_folder(path.parent)


def show(path: Path, text: str) -> None:
    """Write a file that only tells of now, for the box's daemons; OSError. A power cut may take it along."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(GROUP_READABLE)
    fresh.replace(path)


def sync_folder(folder: Path) -> None:
    """What was renamed or removed in the folder is so on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
