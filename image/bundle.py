"""An update bundle from a built image: bundle.py IMAGE KERNEL VERSION KEY OUTPUT [LEAST_VERSION].

The pieces are read out of the image's own slot, so that an updated box holds the same as a flashed one.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.update.gpt import SECTOR, Partition, entries_at, parse
from appliance.update.manifest import PRODUCT, Manifest, Piece, seal
from appliance.update.slots import ROOT, SIGNATURE, VERITY

_CHUNK = 1 << 20


def partitions(image: Path) -> dict[str, Partition]:
    """The image's slot, by the names of its pieces."""
    with image.open("rb") as stream:
        stream.seek(SECTOR)
        header = stream.read(SECTOR)
        position, length = entries_at(header)
        stream.seek(position)
        found = parse(header, stream.read(length)).partitions()
    kinds = {ROOT: "root", VERITY: "verity", SIGNATURE: "signature"}
    return {kinds[one.type]: one for one in found if one.type in kinds}


def portions(path: Path, start: int, length: int) -> Iterator[bytes]:
    """The file's octets from ``start`` on."""
    with path.open("rb") as stream:
        stream.seek(start)
        while length:
            data = stream.read(min(length, _CHUNK))
            if not data:
                raise EOFError(f"{path} ends too early")
            yield data
            length -= len(data)


def used(path: Path, start: int, length: int) -> int:
    """The length without the zeros at its end: the box writes those by itself."""
    last = position = 0
    for data in portions(path, start, length):
        position += len(data)
        if kept := data.rstrip(b"\0"):
            last = position - len(data) + len(kept)
    # whole sectors: what follows is zeroed by the disk itself
    return -(-last // SECTOR) * SECTOR


def build(
    image: Path, kernel: Path, version: str, key: Ed25519PrivateKey, least: str, output: Path
) -> Manifest:
    """Write the bundle; what it holds."""
    found = partitions(image)
    root_hash = f"{found['root'].uuid.hex}{found['verity'].uuid.hex}"
    places = {name: (image, part.start, used(image, part.start, part.size)) for name, part in found.items()}
    places["kernel"] = (kernel, 0, kernel.stat().st_size)
    pieces = []
    for name in ("root", "verity", "signature", "kernel"):
        digest = hashlib.sha256()
        for data in portions(*places[name]):
            digest.update(data)
        pieces.append(Piece(name, places[name][2], digest.hexdigest()))
    manifest = Manifest(PRODUCT, version, least, root_hash, tuple(pieces))
    fresh = output.with_name(f".{output.name}.new")
    with fresh.open("wb") as stream:
        stream.write(seal(manifest, key))
        for piece in pieces:
            stream.writelines(portions(*places[piece.name]))
    fresh.replace(output)
    return manifest


def main() -> int:
    """By the command line."""
    image, kernel, version, key_file, output = sys.argv[1:6]
    key = load_pem_private_key(Path(key_file).read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        print(f"{key_file} is no Ed25519 key: make keys", file=sys.stderr)
        return 1
    least = sys.argv[6] if len(sys.argv) > 6 else "0.1"
    manifest = build(Path(image), Path(kernel), version, key, least, Path(output))
    print(f"{output}: version {version}, {manifest.size / 1e6:.0f} MB, from {least} on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
