"""A bundle as it comes: octets in, verified pieces out. Pure: whoever reads or writes is elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.update.manifest import PREFIX, Manifest, Piece, Running, judge, manifest_length, open_manifest
from appliance.update.versions import UpdateError


class Reader:
    """Give it a bundle's octets in any portions. ``manifest`` is there once it is verified and judged."""

    def __init__(self, key: Ed25519PublicKey, running: Running) -> None:
        self._key = key
        self._running = running
        self._head = bytearray()
        self._index = 0
        self._taken = 0  # of the piece that comes
        self._hash = hashlib.sha256()
        self.manifest: Manifest | None = None
        self.octets = 0  # of pieces, so far

    def feed(self, data: bytes) -> Iterator[tuple[Piece, bytes]]:
        """What of which piece has come; UpdateError. A piece counts only once the whole bundle does."""
        view = memoryview(data)
        if self.manifest is None:
            view = self._read_head(view)
        while self.manifest is not None and len(view):
            if self._index == len(self.manifest.pieces):
                raise UpdateError("tampered", "Something follows the update's last piece.", _AGAIN)
            piece = self.manifest.pieces[self._index]
            part = view[: piece.length - self._taken]
            view = view[len(part) :]
            self._hash.update(part)
            self._taken += len(part)
            self.octets += len(part)
            yield piece, bytes(part)
            if self._taken == piece.length:
                if self._hash.hexdigest() != piece.sha256:
                    words = f"The update's piece “{piece.name}” is not the one that was signed."
                    raise UpdateError("tampered", words, _AGAIN)
                self._index += 1
                self._taken = 0
                self._hash = hashlib.sha256()

    def _read_head(self, view: memoryview) -> memoryview:
        """Take of it what belongs to the head; what is left."""
        for _ in range(2):  # the prefix, then what it says
            wanted = PREFIX
            if len(self._head) >= PREFIX:
                wanted += manifest_length(bytes(self._head[:PREFIX]))
            part = view[: wanted - len(self._head)]
            self._head += part
            view = view[len(part) :]
            if len(self._head) < wanted:
                return view
        prefix, body = bytes(self._head[:PREFIX]), bytes(self._head[PREFIX:])
        manifest = open_manifest(prefix, body, self._key)
        judge(manifest, self._running)
        self.manifest = manifest
        return view

    def finish(self) -> Manifest:
        """The manifest of a bundle that came whole; UpdateError where it did not."""
        if self._head and bytes(self._head[:8]) != b"ISTHMUS1"[: len(self._head)]:
            raise UpdateError("not-an-update", "This is no Isthmus update.", "`make update` makes them.")
        if self.manifest is None or self._index < len(self.manifest.pieces):
            raise UpdateError("truncated", "The update ends too early.", "Get it again: a part is missing.")
        return self.manifest


_AGAIN = "It was changed or damaged on the way: get it again from where it was built."
