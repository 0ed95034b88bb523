"""Credentials in a request's fields."""

from __future__ import annotations

import base64
import binascii


def basic(value: bytes | None) -> tuple[str, bytes] | None:
    """User and password of Basic credentials (RFC 7617); None where there are none that can be read."""
    if value is None or value[:6].lower() != b"basic ":
        return None
    try:
        user, colon, password = base64.b64decode(value[6:].strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None
