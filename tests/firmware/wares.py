"""Bundles for the tests: the new image's, and what is made of it with the owner's keys."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.update.manifest import PREFIX, Manifest, Piece, manifest_length, open_manifest, seal
from tests.lab.box import BUILD, TOOLS

FIRMWARE = BUILD / "firmware"
OLD_IMAGE, NEW_IMAGE = FIRMWARE / "old/isthmus.raw", FIRMWARE / "new/isthmus.raw"
BUNDLE = FIRMWARE / "isthmus.update"
KEYS = BUILD / "keys"
OLD = (FIRMWARE / "old/boot/version").read_text().strip() if OLD_IMAGE.exists() else ""
ESP_START = 1 << 20
NEW = (FIRMWARE / "new/boot/version").read_text().strip() if NEW_IMAGE.exists() else ""


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

    def write(self, path: Path, signer: Ed25519PrivateKey | None = None) -> Path:
        """With a manifest that fits the pieces, signed by the owner or whom is given."""
        found = tuple(
            Piece(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in self.pieces.items()
        )
        head = seal(replace(self.manifest, pieces=found), signer or key())
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
        source = FIRMWARE / "new/boot"
        for name in ("vmlinuz", "initrd"):
            shutil.copy(source / name, place)
        for name in ("mkosi.key", "mkosi.crt"):
            shutil.copy(KEYS / name, place)
        line = " ".join([(source / "cmdline").read_text().strip("\0\n "), *more])
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


def mtools(disk: Path, program: str, *words: str | Path) -> None:
    """Change the EFI system partition of a machine that is off."""
    libraries = TOOLS / "usr/lib/x86_64-linux-gnu"
    loader = (libraries / "ld-linux-x86-64.so.2", "--library-path", libraries)
    where = ("-i", f"{disk}@@{ESP_START}")
    subprocess.run([*loader, TOOLS / "usr/bin" / program, *where, *words], check=True, capture_output=True)
