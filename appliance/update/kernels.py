"""The signed kernel images on the EFI system partition, by which the boot loader chooses a version.

Their names are the Boot Loader Specification's: ``isthmus_1.2.3.efi`` is a version that was kept,
``isthmus_1.2.3+2-1.efi`` one that has two tries left and had one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from appliance.files import sync_folder

# Boots that a version may fail. One would give a good version up for a power cut; ten would take an hour.
TRIES = 3
_NAME = re.compile(r"isthmus_([0-9.]+?)(?:\+([0-9]+)(?:-([0-9]+))?)?\.efi")
_FRESH = ".isthmus-new"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One of them; ``left`` is None where it was kept."""

    path: Path
    version: str
    left: int | None


class Kernels:
    """``folder``: where the partition is mounted. ``running``: the version that must stay."""

    def __init__(self, folder: Path, running: str) -> None:
        self._folder = folder / "EFI/Linux"
        self._running = running

    def found(self) -> list[Kernel]:
        """All of ours."""
        kernels = []
        for path in sorted(self._folder.iterdir()):
            if match := _NAME.fullmatch(path.name):
                kernels.append(Kernel(path, match[1], int(match[2]) if match[2] else None))
        return kernels

    def of(self, version: str) -> Kernel | None:
        """The version's, where there is one."""
        return next((one for one in self.found() if one.version == version), None)

    def keep_only(self) -> None:
        """Remove all but the running version's."""
        for one in self.found():
            if one.version != self._running:
                one.path.unlink()
        self._sync()

    @contextlib.contextmanager
    def fresh(self) -> Iterator[IO[bytes]]:
        """A file for a new one, which the boot loader does not see; gone at the end, unless installed."""
        path = self._folder / _FRESH
        try:
            with path.open("wb") as stream:
                yield stream
        finally:
            path.unlink(missing_ok=True)

    def install(self, stream: IO[bytes], version: str) -> None:
        """Give the fresh one its name, with all its tries."""
        stream.flush()
        os.fsync(stream.fileno())
        (self._folder / _FRESH).rename(self._folder / f"isthmus_{version}+{TRIES}.efi")
        self._sync()

    def remove(self, version: str) -> None:
        """A version that failed; never the running one."""
        for one in self.found():
            if one.version == version != self._running:
                one.path.unlink()
        self._sync()

    def _sync(self) -> None:
        sync_folder(self._folder)
        os.sync()
