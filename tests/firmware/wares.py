"""Bundles for the tests: the new image's, and what is made of it with the owner's keys."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.update.kernels import TRIES, Kernels
from appliance.update.manifest import PREFIX, Manifest, Piece, manifest_length, open_manifest, seal
from appliance.update.slots import ROOT, SIGNATURE, VERITY, Disk, write
from tests.lab.box import BOOT, BUILD, IMAGE, TOOLS, in_tools

FIRMWARE = BUILD / "firmware"
# The version that is updated to is the same source under a higher number.
OLD_IMAGE, NEW_IMAGE = IMAGE, FIRMWARE / "new/isthmus.raw"
OLD_BOOT, NEW_BOOT = BOOT, FIRMWARE / "new/boot"
BUNDLE = FIRMWARE / "isthmus.update"
COMPRESSED = BUILD / "isthmus.raw.zst"
KEYS = BUILD / "keys"
ESP_START = 1 << 20
OLD = (OLD_BOOT / "version").read_text().strip() if OLD_IMAGE.exists() else ""
NEW = (NEW_BOOT / "version").read_text().strip() if NEW_IMAGE.exists() else ""


def key() -> Ed25519PrivateKey:
    """The owner's update key."""
    found = load_pem_private_key((KEYS / "update.key").read_bytes(), None)
    assert isinstance(found, Ed25519PrivateKey)
    return found


@dataclass(frozen=True, slots=True)
class Parts:
    """A bundle taken apart."""

    manifest: Manifest
    pieces: dict[str, bytes]

    def fitted(self) -> Parts:
        """With a manifest that fits the pieces."""
        found = tuple(
            Piece(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in self.pieces.items()
        )
        return Parts(replace(self.manifest, pieces=found), self.pieces)

    def write(self, path: Path, signer: Ed25519PrivateKey | None = None) -> Path:
        """With a manifest that fits the pieces, signed by the owner or whom is given."""
        head = seal(self.fitted().manifest, signer or key())
        path.write_bytes(head + b"".join(self.pieces.values()))
        return path


def take_apart(path: Path = BUNDLE) -> Parts:
    """The pieces of a bundle."""
    octets = path.read_bytes()
    at = PREFIX + manifest_length(octets[:PREFIX])
    manifest = open_manifest(octets[:PREFIX], octets[PREFIX:at], key().public_key())
    pieces = {}
    for piece in manifest.pieces:
        pieces[piece.name] = octets[at : at + piece.length]
        at += piece.length
    return Parts(manifest, pieces)


def kernel(*more: str) -> bytes:
    """The new version's signed kernel image, with more on its command line."""
    place = TOOLS / f"variant-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    inside = f"/{place.name}"
    try:
        for name in ("vmlinuz", "initrd"):
            shutil.copy(NEW_BOOT / name, place)
        for name in ("mkosi.key", "mkosi.crt"):
            shutil.copy(KEYS / name, place)
        line = " ".join([(NEW_BOOT / "cmdline").read_text().strip("\0\n "), *more])
        release = TOOLS / "usr/lib/os-release"
        (place / "os-release").write_text(release.read_text() + f"\nIMAGE_ID=isthmus\nIMAGE_VERSION={NEW}\n")
        words = (
            *("/usr/bin/ukify", "build", f"--linux={inside}/vmlinuz", f"--initrd={inside}/initrd"),
            *(f"--cmdline={line}", f"--os-release=@{inside}/os-release", f"--output={inside}/kernel.efi"),
            f"--secureboot-private-key={inside}/mkosi.key",
            f"--secureboot-certificate={inside}/mkosi.crt",
        )
        subprocess.run(["chroot", TOOLS, *words], check=True, capture_output=True)
        return (place / "kernel.efi").read_bytes()
    finally:
        shutil.rmtree(place)


def slot_a(disk: Path) -> list[str]:
    """The first slot's content, of a disk or of an image, which has no other."""
    with Disk(disk) as opened:
        found = opened.table().partitions()
        first = (next(one for one in found if one.type == kind) for kind in (ROOT, VERITY, SIGNATURE))
        return [opened.digest(part.start, part.size) for part in first]


def write_to(disk: Path, parts: Parts, folder: Path) -> None:
    """Put the bundle's pieces into the other slot of a machine that is off, by the box's own writer.

    For a test that is about what comes after: the way through the box is test_update's. The boot partition
    is changed by mtools; the folder takes what the writer would put there.
    """
    linux = folder / "esp/EFI/Linux"
    linux.mkdir(parents=True)
    root_hash = re.search(r"roothash=([0-9a-f]{64})", (OLD_BOOT / "cmdline").read_text())
    assert root_hash is not None
    pieces = ((piece, parts.pieces[piece.name]) for piece in parts.manifest.pieces)
    with Disk(disk) as opened:
        kernels = Kernels(folder / "esp", OLD)
        write(parts.manifest, pieces, opened, root_hash[1], kernels, lambda: None)
    (kernel,) = linux.iterdir()
    assert kernel.name == f"isthmus_{parts.manifest.version}+{TRIES}.efi"
    mtools(disk, "mcopy", "-o", kernel, f"::/EFI/Linux/{kernel.name}")
    shutil.rmtree(linux.parents[1])


def mtools(disk: Path, program: str, *words: str | Path) -> None:
    """Change the EFI system partition of a machine that is off."""
    in_tools(f"usr/bin/{program}", "-i", f"{disk}@@{ESP_START}", *words)
