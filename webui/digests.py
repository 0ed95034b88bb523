"""What is compared in the place of a token."""

from __future__ import annotations

import hashlib


def digest_of(token: str) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
