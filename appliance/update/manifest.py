"""The manifest of a bundle and whether this box may take it. Pure.

    octets    content
    8         "ISTHMUS1"
    8         the first octets of SHA-256 of the public key that signed
    64        Ed25519 signature (RFC 8032) of the magic and the manifest
    4         length of the manifest, big-endian
    …         the manifest: JSON (RFC 8259), UTF-8
    …         the pieces, one after the other, in the manifest's order and lengths

Nothing of a bundle is looked at before its signature is found good, but the length that bounds the read.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.update.versions import UpdateError, order

MAGIC = b"ISTHMUS1"
KEY_ID = 8
SIGNATURE = 64
PREFIX = len(MAGIC) + KEY_ID + SIGNATURE + 4
PRODUCT = "isthmus-x86-64"
# Ours are under 1 KiB. What follows the signature's check is small by this, before it as well.
MAX_MANIFEST = 16_384
# A slot's greatest partition is 512 MiB; no box has ever more to write.
MAX_PIECE = 1 << 30
PIECES = ("root", "verity", "signature", "kernel")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` octets in the bundle; zeros fill the place it is written to."""

    name: str
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds. ``root_hash``: of the root's hash tree, which names the partitions."""

    product: str
    version: str
    least_version: str  # a box below it updates to something between first
    root_hash: str
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Octets of all pieces."""
        return sum(piece.length for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Running:
    """What the box is; ``floor``: what no update goes below."""

    version: str
    floor: str
    product: str = PRODUCT


def key_id(key: Ed25519PublicKey) -> bytes:
    """By which a bundle says whose it is."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).digest()[:KEY_ID]


def manifest_length(prefix: bytes) -> int:
    """The manifest's length from the bundle's first PREFIX octets; UpdateError."""
    if prefix[: len(MAGIC)] != MAGIC:
        raise UpdateError("not-an-update", "This is no Isthmus update.", "`make update` makes them.")
    length = int.from_bytes(prefix[-4:], "big")
    if not 0 < length <= MAX_MANIFEST:
        raise UpdateError("tampered", "The update's manifest has no size that can be.", _AGAIN)
    return length


def open_manifest(prefix: bytes, body: bytes, key: Ed25519PublicKey) -> Manifest:
    """The manifest, once its signature by ``key`` is found good; UpdateError."""
    if prefix[len(MAGIC) : len(MAGIC) + KEY_ID] != key_id(key):
        raise UpdateError(
            "wrong-key",
            "The update is signed by another key than this box's owner's.",
            "It must be built with the keys that the box's image was built with.",
        )
    try:
        key.verify(prefix[len(MAGIC) + KEY_ID : -4], MAGIC + body)
    except InvalidSignature:
        raise UpdateError("tampered", "The update's signature does not fit its manifest.", _AGAIN) from None
    try:
        return _read(json.loads(body))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UpdateError("not-an-update", "The update's manifest is not what this box reads.") from None


_AGAIN = "It was changed or damaged on the way: get it again from where it was built."


def _read(plain: Any) -> Manifest:
    pieces = tuple(_piece(one) for one in plain["pieces"])
    if tuple(piece.name for piece in pieces) != PIECES:
        raise ValueError("pieces")
    product, version, least, root_hash = (
        plain[name] for name in ("product", "version", "least_version", "root_hash")
    )
    if not all(isinstance(text, str) for text in (product, version, least, root_hash)):
        raise ValueError("texts")
    if not _DIGEST.fullmatch(root_hash):
        raise ValueError("root_hash")
    manifest = Manifest(product, version, least, root_hash, pieces)
    order(manifest.version)
    order(manifest.least_version)
    return manifest


def _piece(plain: Any) -> Piece:
    name, length, digest = plain["name"], plain["length"], plain["sha256"]
    if type(length) is not int or not 0 < length <= MAX_PIECE or not _DIGEST.fullmatch(digest):
        raise ValueError("piece")
    return Piece(name, length, digest)


def judge(manifest: Manifest, running: Running) -> None:
    """UpdateError where the box must not take this version."""
    if manifest.product != running.product:
        raise UpdateError(
            "wrong-product",
            f"The update is for “{manifest.product[:40]}”, and this box is “{running.product}”.",
            "Get the one for this machine.",
        )
    version = order(manifest.version)
    if version == order(running.version):
        raise UpdateError("same", f"Version {running.version} is running already.")
    if version < max(order(running.version), order(running.floor)):
        least = max(running.version, running.floor, key=order)
        raise UpdateError(
            "older",
            f"Version {manifest.version} is older than {least}, which ran here.",
            "Going back would bring back what later versions repair. A fresh installation can.",
        )
    if order(running.version) < order(manifest.least_version):
        raise UpdateError(
            "too-far",
            f"Version {manifest.version} updates boxes from {manifest.least_version} on.",
            f"Update to {manifest.least_version} first.",
        )


def seal(manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """A bundle's head: all that comes before its pieces."""
    plain = {
        "product": manifest.product,
        "version": manifest.version,
        "least_version": manifest.least_version,
        "root_hash": manifest.root_hash,
        "pieces": [{"name": one.name, "length": one.length, "sha256": one.sha256} for one in manifest.pieces],
    }
    body = json.dumps(plain, indent=1).encode()
    signature = key.sign(MAGIC + body)
    return MAGIC + key_id(key.public_key()) + signature + len(body).to_bytes(4, "big") + body
