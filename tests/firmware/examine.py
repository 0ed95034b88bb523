"""What a disk would start, told without starting it: a cut costs seconds so, where a boot costs a minute.

The boot loader's choice is the Boot Loader Specification's, the content of the slot it leads to is compared
octet by octet with what was signed. Boots of the same disks say whether this tells the truth.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from appliance.config import parse
from appliance.update.gpt import SECTOR
from appliance.update.kernels import Kernel, Kernels
from appliance.update.slots import Disk, root_uuids, slots
from appliance.update.versions import order
from tests.firmware.wares import NEW, OLD, OLD_BOOT, OLD_IMAGE, Parts, mtools, slot_a

CHUNK = 1 << 20


def chosen(kernels: list[Kernel]) -> Kernel:
    """The newest that has not used up its tries; of none, the newest."""
    return max(kernels, key=lambda one: (one.left != 0, order(one.version)))


def _root_hash(kernel: Path) -> str:
    """The one on the command line in a signed kernel image."""
    words: list[str | Path] = ["objcopy", "-O", "binary", "--only-section=.cmdline", kernel, "/dev/stdout"]
    line = subprocess.run(words, check=True, capture_output=True).stdout
    found = re.search(rb"roothash=([0-9a-f]{64})", line)
    assert found is not None, line
    return found[1].decode()


def examine(disk: Path, parts: Parts, folder: Path) -> tuple[str, str]:
    """The version that would start, whole, and its configuration as text.

    ``parts``: of the bundle that was written, with its own manifest.
    """
    loader = folder / "esp/EFI"
    loader.mkdir(parents=True)
    try:
        mtools(disk, "mcopy", "-s", "-n", "::/EFI/Linux", loader)
        kernel = chosen(Kernels(folder / "esp", "").found())
        digest = hashlib.sha256(kernel.path.read_bytes()).hexdigest()
        signed = {piece.name: piece.sha256 for piece in parts.manifest.pieces}["kernel"]
        if kernel.version == OLD:
            signed = hashlib.sha256((OLD_BOOT / "kernel.efi").read_bytes()).hexdigest()
        assert digest == signed, f"{kernel.path.name} is not whole"
        uuids = root_uuids(_root_hash(kernel.path))
    finally:
        shutil.rmtree(folder / "esp")
    with Disk(disk) as opened:
        (slot,) = [one for one in slots(opened.table()) if (one.root.uuid, one.verity.uuid) == uuids]
        for piece in parts.manifest.pieces:
            part = slot.parts.get(piece.name)
            if kernel.version == NEW and part is not None:
                found = opened.digest(part.start, piece.length)
                assert found == piece.sha256, f"the slot's {piece.name} is not what was signed"
    if kernel.version == OLD:
        assert slot_a(disk) == slot_a(OLD_IMAGE)
    text = read(disk, "/lib/isthmus/config.toml")
    parse(text)
    return kernel.version, text


def copy_data(disk: Path, target: Path) -> None:
    """The data partition alone; holes stay holes."""
    told = subprocess.run(["sfdisk", "--json", disk], check=True, capture_output=True, text=True)
    parts = json.loads(told.stdout)["partitiontable"]["partitions"]
    (part,) = [part for part in parts if part.get("name") == "isthmus-data"]
    start, size = part["start"] * SECTOR, part["size"] * SECTOR
    with disk.open("rb") as source, target.open("wb") as sink:
        sink.truncate(size)
        at = start
        while at < start + size:
            try:
                at = max(at, os.lseek(source.fileno(), at, os.SEEK_DATA))
            except OSError:
                break  # nothing but a hole is left
            if at >= start + size:
                break
            source.seek(at)
            data = source.read(min(CHUNK, start + size - at))
            sink.seek(at - start)
            sink.write(data)
            at += len(data)


def read(disk: Path, path: str) -> str:
    """A file of the data partition after a cut, "" for none: its journal is played first, as a start does.

    In a copy, for e2fsck cannot play a journal within an image of a whole disk.
    """
    partition = disk.with_name("data.raw")
    copy_data(disk, partition)
    try:
        words: list[str | Path] = ["e2fsck", "-fp", partition]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stdout
        words = ["debugfs", "-R", f"cat {path}", partition]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout
    finally:
        partition.unlink()
